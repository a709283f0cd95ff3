package ocitest_test

import (
	"context"
	"fmt"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// The test of a backend that supports everything except mounts and deletes.
func ExampleRun() {
	newBackend := func() ociregistry.Interface { return ocimem.New() }

	_ = func(t *testing.T) { // func TestContract(t *testing.T)
		ocitest.Run(t, func(testing.TB) ociregistry.Interface {
			return newBackend()
		}, &ocitest.Options{Absent: ocitest.Mount | ocitest.Deletes})
	}
}

func ExampleNewImage() {
	ctx := context.Background()
	r := ocimem.New()

	image := ocitest.NewImage(ocitest.Spec{
		Seed:        1,
		Layers:      []int64{4 << 10, 1 << 20},
		Annotations: map[string]string{"org.opencontainers.image.title": "demo"},
	})
	if err := image.Push(ctx, r, "demo", "v1", "latest"); err != nil {
		fmt.Println(err)
		return
	}
	tags, err := ociregistry.All(r.Tags(ctx, "demo", ""))
	fmt.Println(tags, err)
	fmt.Println(image.Verify(ctx, r, "demo"))
	// Output:
	// [latest v1] <nil>
	// <nil>
}

func ExampleNewImage_artifact() {
	ctx := context.Background()
	r := ocimem.New()

	image := ocitest.NewImage(ocitest.Spec{Layers: []int64{100}})
	signature := ocitest.NewImage(ocitest.Spec{
		ArtifactType: "application/vnd.example.signature",
		Layers:       []int64{64},
		Subject:      &image.Descriptor,
	})
	for _, a := range []*ocitest.Artifact{image, signature} {
		if err := a.Push(ctx, r, "demo"); err != nil {
			fmt.Println(err)
			return
		}
	}
	for d, err := range r.Referrers(ctx, "demo", image.Descriptor.Digest, "") {
		fmt.Println(d.ArtifactType, d.Digest == signature.Descriptor.Digest, err)
	}
	// Output:
	// application/vnd.example.signature true <nil>
}

func ExampleNewIndex() {
	ctx := context.Background()
	r := ocimem.New()

	var images []*ocitest.Artifact
	for i, arch := range []string{"amd64", "arm64"} {
		images = append(images, ocitest.NewImage(ocitest.Spec{
			Seed:     uint64(i),
			Layers:   []int64{100},
			Platform: &ocispec.Platform{OS: "linux", Architecture: arch},
		}))
	}
	index := ocitest.NewIndex(ocitest.Spec{}, images...)
	if err := index.Push(ctx, r, "demo", "v1"); err != nil {
		fmt.Println(err)
		return
	}
	desc, err := r.ResolveTag(ctx, "demo", "v1")
	fmt.Println(desc.MediaType, err)
	// Output:
	// application/vnd.oci.image.index.v1+json <nil>
}

func ExamplePushContent() {
	r := ocimem.New()
	pushed, err := ocitest.PushContent(r, ocitest.RegistryContent{
		"demo": {
			Blobs: map[string]string{"config": "{}", "layer": "hello"},
			Manifests: map[string]ociregistry.Manifest{
				"image": {
					Config: ociregistry.Descriptor{Digest: "config"},
					Layers: []ociregistry.Descriptor{{Digest: "layer"}},
				},
			},
			Tags: map[string]string{"v1": "image"},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	desc, err := r.ResolveTag(context.Background(), "demo", "v1")
	fmt.Println(desc.Digest == pushed["demo"].Manifests["image"].Digest, err)
	// Output:
	// true <nil>
}
