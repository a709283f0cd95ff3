package ocifs_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

func ExampleNew() {
	dir, err := os.MkdirTemp("", "registry")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	registry, err := ocifs.New(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	contents := []byte(`{"greeting":"hello"}`)
	if _, err := registry.PushManifest(ctx, "team/hello", "v1", contents, "application/vnd.example+json", "latest"); err != nil {
		log.Fatal(err)
	}

	manifest, err := registry.GetTag(ctx, "team/hello", "latest")
	if err != nil {
		log.Fatal(err)
	}
	defer manifest.Close()
	text, err := io.ReadAll(manifest)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(manifest.Descriptor().MediaType, string(text))

	for tag, err := range registry.Tags(ctx, "team/hello", "") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(tag)
	}

	// Now there is an image layout that any tool can read.
	if err := registry.Close(); err != nil {
		log.Fatal(err)
	}
	version, err := os.ReadFile(filepath.Join(dir, "team", "hello", "oci-layout"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(version))
	// Output:
	// application/vnd.example+json {"greeting":"hello"}
	// latest
	// v1
	// {"imageLayoutVersion":"1.0.0"}
}

// A layout that another tool wrote is served where it is. Here it has an index
// without manifests, which a tool named with a reference.
func ExampleNewLayout() {
	dir, err := os.MkdirTemp("", "layout")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	contents := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
	index := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{
		"mediaType":"application/vnd.oci.image.index.v1+json","digest":%q,"size":%d,
		"annotations":{"org.opencontainers.image.ref.name":"registry.example.com/team/app:v1"}}]}`,
		digest.FromString(contents), len(contents))
	for name, text := range map[string]string{
		"oci-layout": `{"imageLayoutVersion":"1.0.0"}`,
		"index.json": index,
		filepath.Join("blobs", "sha256", digest.FromString(contents).Encoded()): contents,
	} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			log.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			log.Fatal(err)
		}
	}

	registry, err := ocifs.NewLayout(dir, "app", &ocifs.Options{ReadOnly: true})
	if err != nil {
		log.Fatal(err)
	}
	defer registry.Close()
	desc, err := registry.ResolveTag(context.Background(), "app", "v1")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(desc.MediaType, desc.Size)
	// Output:
	// application/vnd.oci.image.index.v1+json 88
}

// With package ociserver, the directory is a registry for every client.
func Example_server() {
	dir, err := os.MkdirTemp("", "registry")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	registry, err := ocifs.New(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer registry.Close()
	content := "some content"
	_, err = registry.PushBlob(context.Background(), "hello", ociregistry.Descriptor{
		Digest: digest.FromString(content),
		Size:   int64(len(content)),
	}, strings.NewReader(content))
	if err != nil {
		log.Fatal(err)
	}

	server := httptest.NewServer(ociserver.New(registry, nil))
	defer server.Close()
	resp, err := http.Get(server.URL + "/v2/hello/blobs/" + digest.FromString(content).String())
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(resp.Status, string(body))
	// Output:
	// 200 OK some content
}
