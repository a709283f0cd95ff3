package ociweb_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
	"github.com/seed-40b21970/oci/ociregistry/ociweb"
	"github.com/seed-40b21970/oci/ociunify"
)

// What the package comment says of each page.
func TestPages_AskTheRegistryForNoMoreThanTheySay(t *testing.T) {
	t.Parallel()
	c := newContent(t, "foo")
	image := c.image(fullConfig, []ociregistry.Descriptor{layer("a", 5)}, "image")
	var children []ociregistry.Descriptor
	for i := range 40 {
		children = append(children, on(c.image(fullConfig, []ociregistry.Descriptor{layer(fmt.Sprint(i), 5)}), "linux", fmt.Sprint(i)))
	}
	c.index(children, "index")
	c.artifact("application/x", &image, nil, "artifact")
	for i := range 100 {
		c.manifest("text/plain", "x", fmt.Sprintf("tag-%d", i))
	}
	for _, test := range []struct {
		path          string
		local, remote map[string]int
	}{
		{"/", map[string]int{"Repositories": 1}, map[string]int{"Repositories": 1}},
		{"/?q=o", map[string]int{"Repositories": 1}, map[string]int{"Repositories": 1}},
		{"/style.css", map[string]int{}, map[string]int{}},
		{"/r/foo", map[string]int{"Tags": 1, "GetTag": 50}, map[string]int{"Tags": 1}},
		{"/r/foo?q=image", map[string]int{"Tags": 1, "GetTag": 1, "GetBlob": 1}, map[string]int{"Tags": 1}},
		{"/r/foo?q=index", map[string]int{"Tags": 1, "GetTag": 1, "GetManifest": 1, "GetBlob": 1}, map[string]int{"Tags": 1}},
		{"/r/foo?sort=newest", map[string]int{"Tags": 1, "GetTag": 103, "GetManifest": 1, "GetBlob": 2}, map[string]int{"Tags": 1}},
		{"/r/foo:image", map[string]int{"GetTag": 1, "GetBlob": 1, "Referrers": 1, "ResolveTag": 3}, map[string]int{"GetTag": 1, "GetBlob": 1, "Referrers": 1, "ResolveTag": 3}},
		{"/r/foo:index", map[string]int{"GetTag": 1, "GetManifest": 32, "Referrers": 1, "ResolveTag": 3}, map[string]int{"GetTag": 1, "Referrers": 1, "ResolveTag": 3}},
		{"/r/foo:artifact", map[string]int{"GetTag": 1, "ResolveManifest": 1, "Referrers": 1, "ResolveTag": 3}, map[string]int{"GetTag": 1, "ResolveManifest": 1, "Referrers": 1, "ResolveTag": 3}},
		{"/json/foo:image", map[string]int{"GetTag": 1, "GetBlob": 1}, map[string]int{"GetTag": 1, "GetBlob": 1}},
		{"/json/foo:index", map[string]int{"GetTag": 1}, map[string]int{"GetTag": 1}},
		{"/compare/foo", map[string]int{"Tags": 1}, map[string]int{"Tags": 1}},
		{"/compare/foo?ref=image&ref=artifact", map[string]int{"GetTag": 2}, map[string]int{"GetTag": 2}},
		{"/compare/foo?ref=image&ref=index", map[string]int{"GetTag": 2, "GetManifest": 1}, map[string]int{"GetTag": 2, "GetManifest": 1}},
	} {
		for _, remote := range []bool{false, true} {
			reg := &spy{Interface: c.reg}
			page(t, ociweb.New(reg, &ociweb.Options{Remote: remote}), test.path)
			want := test.local
			if remote {
				want = test.remote
			}
			qt.Check(t, qt.DeepEquals(reg.take(), want), qt.Commentf("%s, remote %v", test.path, remote))
		}
	}
}

func TestLists_AreNotReadFurtherThanTheLimit(t *testing.T) {
	t.Parallel()
	c := newContent(t, "foo")
	for i := range 500 {
		c.manifest("text/plain", "x", fmt.Sprintf("tag-%d", i))
		c.repo = fmt.Sprintf("foo-%d", i)
		c.manifest("text/plain", "x", "v1")
		c.repo = "foo"
	}
	for _, test := range []struct {
		path string
		want int
	}{
		{"/", 101}, // one more than it shows, to know that there are more
		{"/?q=nothing", 151},
		{"/r/foo", 151},
		{"/r/foo?after=tag-2", 51},
		{"/r/foo?after=tag-2&q=nothing", 151},
	} {
		reg := &spy{Interface: c.reg}
		page(t, ociweb.New(reg, &ociweb.Options{MaxNames: 150}), test.path)
		qt.Check(t, qt.Equals(reg.names, test.want), qt.Commentf("%s", test.path))
	}
}

// Who looks at what a cache has makes it fetch what the page shows, and never a layer, not even
// if a pull would fetch the whole image.
func TestPages_OfACacheFetchNoImages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newContent(t, "foo")
		whole := c.blob("application/x", "a layer")
		image := c.image(fullConfig, []ociregistry.Descriptor{whole}, "v1", "v2")
		c.artifact("application/x", &image, nil)
		origin := &spy{Interface: c.reg}
		kept := ocimem.New()
		cache := ociunify.NewCache(kept, origin, &ociunify.CacheOptions{WholeImages: true})
		defer cache.Close()
		h := ociweb.New(cache, &ociweb.Options{Remote: true})
		for path, want := range map[string]map[string]int{
			"/":         {"Repositories": 1},
			"/r/foo":    {"Tags": 1},
			"/r/foo:v1": {"GetTag": 1, "GetBlob": 1, "Referrers": 1, "ResolveTag": 3},
		} {
			page(t, h, path)
			synctest.Wait()
			qt.Check(t, qt.DeepEquals(origin.take(), want), qt.Commentf("%s", path))
		}
		_, err := kept.ResolveBlob(t.Context(), "foo", whole.Digest)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUnknown))
	})
}

// Looking at tags does not keep them.
func TestPages_CountNotAsPulls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reg := ocimem.New()
		c := content{t, reg, "foo"}
		c.manifest("text/plain", "x", "v1", "v2")
		time.Sleep(100 * time.Hour) // of the bubble's clock
		h := ociweb.New(reg, nil)
		page(t, h, "/r/foo")
		page(t, h, "/r/foo:v1")
		_, err := reg.GC(t.Context(), &ocigc.Options{Policies: []ocigc.Policy{{Keep: []ocigc.TagRule{{PulledWithin: time.Hour}}}}})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(get(t, h, "/r/foo:v1").status, 404))
	})
}
