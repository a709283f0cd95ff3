package ocicopy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocicopy"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// build represents an earlier step of a CI job: it builds an image and signs it.
func build(ctx context.Context, r ociregistry.Interface) {
	image := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{4096, 100}})
	signature := ocitest.NewImage(ocitest.Spec{
		ArtifactType: ocicopy.TypeNotationSignature,
		Subject:      &image.Descriptor,
		Layers:       []int64{300},
	})
	for _, err := range []error{
		image.Push(ctx, r, "team/app", "v1.2.3", "main"),
		signature.Push(ctx, r, "team/app"),
	} {
		if err != nil {
			log.Fatal(err)
		}
	}
}

// A CI job copies an image with its signatures from the staging registry to the production
// registry.
func ExampleCopy() {
	ctx := context.Background()
	staging, production := ocimem.New(), ocimem.New() // or ociclient.New(…)
	build(ctx, staging)

	src := ocicopy.Place{Registry: staging, Repository: "team/app", Ref: "v1.2.3"}
	dst := ocicopy.Place{Registry: production, Repository: "released/app"}
	opts := &ocicopy.Options{Referrers: true, CosignTags: true}
	for range 2 {
		result, err := ocicopy.Copy(ctx, dst, src, opts)
		if err != nil {
			log.Fatal(err)
		}
		blobs, _ := result.Count(ocicopy.Blob, ocicopy.Copied)
		manifests, _ := result.Count(ocicopy.Manifest, ocicopy.Copied)
		fmt.Printf("%d blobs, %d manifests; unchanged: %v\n", blobs, manifests, result.Unchanged())
	}
	// Output:
	// 5 blobs, 2 manifests; unchanged: false
	// 0 blobs, 0 manifests; unchanged: true
}

// A copy for two platforms makes a new index without the others. It has another digest than
// the index that was signed.
func ExampleOptions_dropOthers() {
	ctx := context.Background()
	hub, local := ocimem.New(), ocimem.New()
	var images []*ocitest.Artifact
	for i, architecture := range []string{"amd64", "arm64", "s390x"} {
		images = append(images, ocitest.NewImage(ocitest.Spec{
			Seed:     uint64(i),
			Platform: &ocispec.Platform{OS: "linux", Architecture: architecture},
			Layers:   []int64{4096},
		}))
	}
	index := ocitest.NewIndex(ocitest.Spec{}, images...)
	if err := index.Push(ctx, hub, "team/app", "v1"); err != nil {
		log.Fatal(err)
	}

	opts := &ocicopy.Options{DropOthers: true}
	for _, name := range []string{"linux/amd64", "linux/arm64"} {
		platform, err := ocicopy.ParsePlatform(name)
		if err != nil {
			log.Fatal(err)
		}
		opts.Platforms = append(opts.Platforms, platform)
	}
	src := ocicopy.Place{Registry: hub, Repository: "team/app", Ref: "v1"}
	dst := ocicopy.Place{Registry: local, Repository: "mirror/app"}
	for range 2 {
		result, err := ocicopy.Copy(ctx, dst, src, opts)
		if err != nil {
			log.Fatal(err)
		}
		made, _ := result.Count(ocicopy.Manifest, ocicopy.Made)
		fmt.Printf("made %d index; unchanged: %v; of the source's: %v\n",
			made, result.Unchanged(), result.MadeOf == index.Descriptor.Digest)
	}
	desc, err := local.ResolveTag(ctx, "mirror/app", "v1")
	fmt.Println(desc.MediaType, desc.Digest != index.Descriptor.Digest, err)
	// Output:
	// made 1 index; unchanged: false; of the source's: true
	// made 0 index; unchanged: true; of the source's: true
	// application/vnd.oci.image.index.v1+json true <nil>
}

// Plan returns what a copy would do.
func ExamplePlan() {
	ctx := context.Background()
	staging, production := ocimem.New(), ocimem.New()
	build(ctx, staging)

	plan, err := ocicopy.Plan(ctx,
		ocicopy.Place{Registry: production, Repository: "released/app"},
		ocicopy.Place{Registry: staging, Repository: "team/app", Ref: "v1.2.3"}, nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, item := range plan.Items {
		fmt.Println(item.Action, item.Kind, item.Descriptor.Size, item.Tags)
	}
	// Output:
	// copied blob 264 []
	// copied blob 4096 []
	// copied blob 100 []
	// copied manifest 546 [v1.2.3]
}

// A mirror keeps the newest releases of a team, by a rule that was read from a file. It
// keeps one platform of each image.
func ExampleMirror() {
	ctx := context.Background()
	hub, local := ocimem.New(), ocimem.New()
	build(ctx, hub)

	var rules []ocicopy.Rule
	err := json.Unmarshal([]byte(`[{
		"repositories": "team/**",
		"destination": "mirror",
		"strip": true,
		"tags": {"semver": true, "newest": 10},
		"platforms": ["linux/amd64"],
		"dropOthers": true,
		"onlySigned": true
	}]`), &rules)
	if err != nil {
		log.Fatal(err)
	}
	mirror, err := ocicopy.NewMirror(local, []ocicopy.Source{{Name: "hub", Registry: hub, Rules: rules}}, nil)
	if err != nil {
		log.Fatal(err)
	}
	summary, err := mirror.Pass(ctx) // Run does one at each interval
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(summary.Updated, "updated,", len(summary.Failures), "failed")
	desc, err := local.ResolveTag(ctx, "mirror/app", "v1.2.3")
	fmt.Println(desc.MediaType, err)
	// Output:
	// 1 updated, 0 failed
	// application/vnd.oci.image.manifest.v1+json <nil>
}
