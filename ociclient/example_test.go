package ociclient_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociserver"
)

// newExampleRegistry starts a registry that has an image, and returns its host.
func newExampleRegistry(opts *ociserver.Options) (host string, stop func()) {
	backend := ocimem.New()
	image := ocitest.NewImage(ocitest.Spec{Seed: 1})
	if err := image.Push(context.Background(), backend, "team/app", "v1.0", "latest"); err != nil {
		log.Fatal(err)
	}
	srv := httptest.NewServer(ociserver.New(backend, opts))
	return strings.TrimPrefix(srv.URL, "http://"), srv.Close
}

func ExampleNew() {
	host, stop := newExampleRegistry(nil)
	defer stop()

	reg, err := ociclient.New(host, &ociclient.Options{Insecure: true})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	for repo, err := range reg.Repositories(ctx, "") {
		if err != nil {
			log.Fatal(err)
		}
		for tag, err := range reg.Tags(ctx, repo, "") {
			if err != nil {
				log.Fatal(err)
			}
			fmt.Println(repo, tag)
		}
	}
	r, err := reg.GetTag(ctx, "team/app", "latest")
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	manifest, err := io.ReadAll(r)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Descriptor().MediaType, digest.FromBytes(manifest) == r.Descriptor().Digest)
	// Output:
	// team/app latest
	// team/app v1.0
	// application/vnd.oci.image.manifest.v1+json true
}

// Blobs must be pushed before the manifest that names them.
func ExampleNew_push() {
	host, stop := newExampleRegistry(nil)
	defer stop()

	reg, err := ociclient.New(host, &ociclient.Options{Insecure: true})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	push := func(mediaType, content string) ociregistry.Descriptor {
		desc := ociregistry.Descriptor{MediaType: mediaType, Digest: digest.FromString(content), Size: int64(len(content))}
		if _, err := reg.PushBlob(ctx, "hello", desc, strings.NewReader(content)); err != nil {
			log.Fatal(err)
		}
		return desc
	}
	config := push("application/vnd.oci.image.config.v1+json", "{}")
	layer := push("application/vnd.oci.image.layer.v1.tar", "hello world")
	mediaType := "application/vnd.oci.image.manifest.v1+json"
	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		mediaType, config.MediaType, config.Digest, config.Size, layer.MediaType, layer.Digest, layer.Size)
	desc, err := reg.PushManifest(ctx, "hello", "latest", manifest, mediaType)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(desc.Digest)
	// Output:
	// sha256:517b86da29754bfa57e312c35d4cf22caa38dbce39ecd24684830c1f9777a635
}

// The credentials are those that "docker login" or "podman login" has stored, or, as
// here, those in the environment.
func ExampleNew_credentials() {
	host, stop := newExampleRegistry(&ociserver.Options{
		Authorize: func(req *http.Request, _ []ociserver.Access) (func(ociserver.Access) bool, error) {
			_, password, _ := req.BasicAuth()
			if password != "opensesame" {
				return nil, ociregistry.ErrUnauthorized
			}
			return nil, nil
		},
	})
	defer stop()

	config, err := ociauth.LoadWithEnv(nil, []string{
		`DOCKER_AUTH_CONFIG={"auths": {"` + host + `": {"username": "me", "password": "opensesame"}}}`,
	})
	if err != nil {
		log.Fatal(err)
	}
	reg, err := ociclient.New(host, &ociclient.Options{
		Insecure:  true,
		Transport: ociauth.NewStdTransport(ociauth.StdTransportParams{Config: config}),
	})
	if err != nil {
		log.Fatal(err)
	}
	desc, err := reg.ResolveTag(context.Background(), "team/app", "latest")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(desc.MediaType)
	// Output:
	// application/vnd.oci.image.manifest.v1+json
}

// One client pushes half of a blob, and another one the rest. The other client may run in
// another process: it only needs the ID of the upload.
func ExampleNew_resume() {
	host, stop := newExampleRegistry(nil)
	defer stop()

	const content = "a blob that comes in two parts"
	ctx := context.Background()
	client := func() ociregistry.Interface {
		reg, err := ociclient.New(host, &ociclient.Options{Insecure: true})
		if err != nil {
			log.Fatal(err)
		}
		return reg
	}
	w, err := client().PushBlobChunked(ctx, "team/app", 0)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.WriteString(w, content[:10]); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}

	id := w.ID()
	w, err = client().PushBlobChunkedResume(ctx, "team/app", id, -1, 0)
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()
	fmt.Println("at", w.Size())
	if _, err := io.WriteString(w, content[w.Size():]); err != nil {
		log.Fatal(err)
	}
	desc, err := w.Commit(digest.FromString(content))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("pushed", desc.Size)
	// Output:
	// at 10
	// pushed 30
}
