package ocibucket_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
	"github.com/seed-40b21970/oci/ociregistry/ocicopy"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// A registry moves from a directory into a bucket.
func Example_move() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "registry")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	from, err := ocifs.New(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer from.Close()
	image := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{4096}})
	if err := image.Push(ctx, from, "team/app", "v1", "main"); err != nil {
		log.Fatal(err)
	}

	store := memstore.New(nil) // or s3store.New(…)
	to, err := ocibucket.New(ctx, store, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer to.Close()
	all := []ocicopy.Rule{{Repositories: "**"}}
	mirror, err := ocicopy.NewMirror(to, []ocicopy.Source{{Name: "directory", Registry: from, Rules: all}}, nil)
	if err != nil {
		log.Fatal(err)
	}
	summary, err := mirror.Pass(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(summary.Updated, "updated,", len(summary.Failures), "failed")
	fmt.Println(image.Verify(ctx, to, "team/app"))
	// Output:
	// 2 updated, 0 failed
	// <nil>
}
