package ocibucket_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
	"github.com/seed-40b21970/oci/ociregistry/ocicopy"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociunify"
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

// Two machines have a cache each, which keep what they fetch in one bucket.
func Example_cacheOfAFleet() {
	ctx := context.Background()
	origin := ocimem.New() // or ociclient.New(…)
	image := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{4096}})
	if err := image.Push(ctx, origin, "team/app", "v1"); err != nil {
		log.Fatal(err)
	}

	store := memstore.New(nil) // or s3store.New(…)
	for _, machine := range []string{"one", "two"} {
		kept, err := ocibucket.New(ctx, store, &ocibucket.Options{Sparse: true})
		if err != nil {
			log.Fatal(err)
		}
		cache := ociunify.NewCache(kept, origin, &ociunify.CacheOptions{
			TagTTL: time.Minute,
			OnLookup: func(_ context.Context, l ociunify.Lookup) {
				fmt.Println(machine, l.Method, l.Outcome)
			},
		})
		rd, err := cache.GetBlob(ctx, "team/app", image.Blobs[1].Descriptor.Digest)
		if err != nil {
			log.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, rd); err != nil {
			log.Fatal(err)
		}
		rd.Close()
		cache.Close() // waits until what was fetched is kept
		kept.Close()
	}
	// Output:
	// one GetBlob fetched
	// two GetBlob hit
}
