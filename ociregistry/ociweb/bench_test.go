package ociweb_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-quicktest/qt"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociregistry/ociweb"
)

// BenchmarkPages asks for pages of a registry with 10,000 repositories, one of which has 100,000
// tags of 1,000 images.
func BenchmarkPages(b *testing.B) {
	repos, tags := 10_000, 100_000
	if testing.Short() {
		repos, tags = 100, 1000
	}
	dir, err := ocifs.New(b.TempDir(), &ocifs.Options{NoSync: true})
	qt.Assert(b, qt.IsNil(err))
	defer dir.Close()
	for _, backend := range []struct {
		name string
		reg  ociregistry.Interface
	}{{"ocimem", ocimem.New()}, {"ocifs", dir}} {
		fill(b, backend.reg, repos, tags)
		h := ociweb.New(backend.reg, &ociweb.Options{ShareList: true})
		for _, page := range []struct{ name, path string }{
			{"repositories", "/"},
			{"search repositories", "/?q=9999"},
			{"tags", "/r/app"},
			{"tags in the middle", "/r/app?page=1000"},
			{"search tags", "/r/app?q=9.9"},
			{"image", "/r/app:0.1"},
			{"index", "/r/app:latest"},
			{"compare", "/compare/app?ref=0.1&ref=0.2"},
		} {
			b.Run(backend.name+"/"+page.name, func(b *testing.B) {
				b.ReportAllocs()
				a := get(b, h, page.path)
				qt.Assert(b, qt.Not(qt.StringContains(a.body, "in the order of their names")))
				for b.Loop() {
					rec := httptest.NewRecorder()
					h.ServeHTTP(rec, httptest.NewRequest("GET", page.path, nil))
					if rec.Code != http.StatusOK {
						b.Fatal(rec.Code)
					}
				}
			})
		}
	}
}

// fill pushes repositories and tags.
func fill(b *testing.B, reg ociregistry.Interface, repos, tags int) {
	ctx := context.Background()
	for i := range repos {
		_, err := reg.PushManifest(ctx, fmt.Sprintf("team-%d/app-%04d", i%10, i), "v1", []byte("x"), "text/plain")
		qt.Assert(b, qt.IsNil(err))
	}
	const images = 1000
	each := tags / images
	for i := range images {
		image := ocitest.NewImage(ocitest.Spec{Seed: uint64(i), Layers: []int64{100, 200, 300, 400}})
		var names []string
		for j := range each {
			if i+j > 0 { // in the place of which there is latest
				names = append(names, fmt.Sprintf("%d.%d", j, i))
			}
		}
		if i < 10 {
			image.Descriptor.Platform = &ocispec.Platform{OS: "linux", Architecture: fmt.Sprint("arch", i)}
			index := ocitest.NewIndex(ocitest.Spec{}, image)
			qt.Assert(b, qt.IsNil(index.Push(ctx, reg, "app", "latest")))
		}
		qt.Assert(b, qt.IsNil(image.Push(ctx, reg, "app", names...)))
	}
}
