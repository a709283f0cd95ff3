package ociunify_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http/httptest"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociserver"
	"github.com/seed-40b21970/oci/ociunify"
)

// A pull-through cache: what its clients pull is in the directory from then on.
func ExampleNewCache() {
	dir, err := os.MkdirTemp("", "cache")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	local, err := ocifs.New(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer local.Close()

	origin := ocimem.New() // that of a remote registry, most often
	cache := ociunify.NewCache(local, origin, &ociunify.CacheOptions{
		TagTTL:   time.Minute,
		MaxBytes: 100 << 30,
	})
	defer cache.Close()
	srv := httptest.NewServer(ociserver.New(cache, nil))
	defer srv.Close()

	ctx := context.Background()
	if _, err := origin.PushManifest(ctx, "app", "v1", []byte("hello"), "text/plain"); err != nil {
		log.Fatal(err)
	}
	resp, err := srv.Client().Get(srv.URL + "/v2/app/manifests/v1")
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	desc, err := local.ResolveTag(ctx, "app", "v1")
	fmt.Println(resp.Status, desc.Size, err)

	// Output:
	// 200 OK 5 <nil>
}

// A test of what happens when the origin goes away.
func ExampleNewCache_faults() {
	origin := ocimem.New()
	down := false
	flaky := &ociregistry.Funcs{
		GetTag_: func(ctx context.Context, repo, tag string) (ociregistry.BlobReader, error) {
			if down {
				return nil, errors.New("connection refused")
			}
			return origin.GetTag(ctx, repo, tag)
		},
		ResolveTag_: func(ctx context.Context, repo, tag string) (ociregistry.Descriptor, error) {
			if down {
				return ociregistry.Descriptor{}, errors.New("connection refused")
			}
			return origin.ResolveTag(ctx, repo, tag)
		},
	}
	cache := ociunify.NewCache(ocimem.New(), flaky, nil)
	defer cache.Close()

	ctx := context.Background()
	if _, err := origin.PushManifest(ctx, "app", "v1", []byte("hello"), "text/plain", "v2"); err != nil {
		log.Fatal(err)
	}
	for _, tag := range []string{"v1", "v1", "v2"} {
		_, err := cache.GetTag(ctx, "app", tag)
		fmt.Println(tag, err)
		down = true
	}

	// Output:
	// v1 <nil>
	// v1 <nil>
	// v2 connection refused
}

// What one registry does not have is looked for in the other.
func ExampleNew() {
	ctx := context.Background()
	mine, theirs := ocimem.New(), ocimem.New()
	for tag, r := range map[string]ociregistry.Interface{"mine": mine, "theirs": theirs} {
		if _, err := r.PushManifest(ctx, "app", tag, []byte(tag), "text/plain"); err != nil {
			log.Fatal(err)
		}
	}
	both := ociunify.New(mine, theirs, &ociunify.Options{
		ReadPolicy:  ociunify.ReadConcurrent,
		WritePolicy: ociunify.WriteFirst,
	})
	for tag, err := range both.Tags(ctx, "app", "") {
		fmt.Println(tag, err)
	}
	_, err := both.GetManifest(ctx, "app", digest.FromString("nobody's"))
	fmt.Println(errors.Is(err, ociregistry.ErrManifestUnknown))

	// Output:
	// mine <nil>
	// theirs <nil>
	// true
}

// A cache that brings whole images: after one request for an index, all of it that is
// for the chosen platforms is there, with its signatures.
func ExampleCacheOptions_wholeImages() {
	ctx := context.Background()
	origin, local := ocimem.New(), ocimem.New()
	index := ocitest.NewIndex(ocitest.Spec{},
		ocitest.NewImage(ocitest.Spec{Platform: &ocispec.Platform{OS: "linux", Architecture: "amd64"}, Layers: []int64{1000}}),
		ocitest.NewImage(ocitest.Spec{Platform: &ocispec.Platform{OS: "linux", Architecture: "s390x"}, Layers: []int64{1000}}),
	)
	if err := index.Push(ctx, origin, "app", "v1"); err != nil {
		log.Fatal(err)
	}
	cache := ociunify.NewCache(local, origin, &ociunify.CacheOptions{
		WholeImages: true,
		Platforms:   []ocispec.Platform{{OS: "linux", Architecture: "amd64"}},
	})
	defer cache.Close()
	rd, err := cache.GetTag(ctx, "app", "v1")
	if err != nil {
		log.Fatal(err)
	}
	rd.Close()

	for _, image := range index.Children {
		for image.Verify(ctx, local, "app") != nil {
			if image.Descriptor.Platform.Architecture != "amd64" {
				break
			}
			time.Sleep(time.Millisecond) // it comes in the background
		}
		fmt.Println(image.Descriptor.Platform.Architecture, image.Verify(ctx, local, "app") == nil)
	}

	// Output:
	// amd64 true
	// s390x false
}
