package ociunify_test

import (
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociunify"
)

// over is a cache and its origin.
type over struct {
	*ociunify.Cache
	origin ociregistry.Interface
}

func newCache(t testing.TB, cache, origin ociregistry.Interface, opts *ociunify.CacheOptions) *ociunify.Cache {
	c := ociunify.NewCache(cache, origin, opts)
	t.Cleanup(func() { qt.Check(t, qt.IsNil(c.Close())) })
	return c
}

func TestCache_KeepsTheContract(t *testing.T) {
	writeThrough := ociunify.CacheOptions{WriteThrough: true}
	memory := func(testing.TB) ociregistry.Interface { return ocimem.New() }
	sparse := func(testing.TB) ociregistry.Interface { return ocimem.NewWithConfig(&ocimem.Config{Sparse: true}) }
	directory := func(t testing.TB) ociregistry.Interface { return newDirectory(t) }
	union := func(t testing.TB) ociregistry.Interface { return ociunify.New(ocimem.New(), newDirectory(t), nil) }
	memories := func(testing.TB) ociregistry.Interface {
		return strict{ociunify.New(ocimem.New(), ocimem.New(), &ociunify.Options{WritePolicy: ociunify.WriteFirst})}
	}
	cached := func(t testing.TB) ociregistry.Interface {
		return newCache(t, ocimem.New(), ocimem.New(), &ociunify.CacheOptions{WriteThrough: true, MaxBytes: 1 << 20})
	}
	tests := []struct {
		name          string
		cache, origin func(testing.TB) ociregistry.Interface
		opts          ociunify.CacheOptions
	}{
		{"ReadOnly", memory, memory, ociunify.CacheOptions{}},
		{"Bounded", memory, memory, ociunify.CacheOptions{WriteThrough: true, TagTTL: time.Hour, NotFoundTTL: time.Hour, MaxBytes: 1 << 20}},
		{"Sparse", sparse, memory, ociunify.CacheOptions{WriteThrough: true, FinishFetches: true, WholeImages: true}},
		// A registry that knows no allowances, and does not verify what it returns.
		{"OverUnion", memories, cached, ociunify.CacheOptions{WriteThrough: true, OriginWait: -1, MaxSpool: 1, MaxBytes: 1 << 20}},
		// A stack of caches on directories, with default options.
		{"Directories", directory, union, writeThrough},
	}
	for _, test := range tests {
		// A directory accepts no upload IDs that it did not issue.
		opts := ocitest.Options{AdoptsUploadIDs: test.name != "Directories", Absent: ocitest.Allowances}
		if !test.opts.WriteThrough {
			opts.Absent |= ocitest.Writes | ocitest.Deletes
			opts.Below = func(r ociregistry.Interface) ociregistry.Interface { return r.(over).origin }
		}
		t.Run(test.name, func(t *testing.T) {
			if test.name == "Directories" && testing.Short() {
				t.Skip("directories are slow")
			}
			ocitest.Run(t, func(t testing.TB) ociregistry.Interface {
				origin := test.origin(t)
				return over{newCache(t, test.cache(t), origin, &test.opts), origin}
			}, &opts)
		})
	}
}
