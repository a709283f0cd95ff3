package ociunify_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociunify"
)

func TestCache_RevalidatesTags(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		mem, cache := ocimem.New(), ocimem.New()
		origin := count(mem)
		one, two := pushed(t, mem, "foo", 1, "v1"), pushed(t, mem, "foo", 2)
		c := ociunify.NewCache(cache, origin, nil)
		steps := []struct {
			do   func()
			want *ocitest.Artifact
			took string
		}{
			{nil, one, "GetTag"},
			{nil, one, "ResolveTag"},
			{func() { pushed(t, mem, "foo", 2, "v1") }, two, "ResolveTag GetManifest"},
			{nil, two, "ResolveTag"},
			{func() { pushed(t, mem, "foo", 1, "v1") }, one, "ResolveTag"}, // its content is there
			{nil, one, "ResolveTag"},
		}
		for _, step := range steps {
			if step.do != nil {
				step.do()
			}
			wantTag(t, c, "foo", "v1", step.want)
			qt.Check(t, qt.Equals(origin.took(), step.took))
		}
		desc, err := c.ResolveTag(ctx, "foo", "v1")
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(desc.Digest, one.Descriptor.Digest))
		qt.Check(t, qt.Equals(origin.took(), "ResolveTag"))
		_, err = c.GetManifest(ctx, "foo", two.Descriptor.Digest)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(origin.took(), ""))

		// A tag that was deleted at the origin is deleted in the cache.
		qt.Assert(t, qt.IsNil(mem.DeleteTag(ctx, "foo", "v1")))
		_, err = c.GetTag(ctx, "foo", "v1")
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrManifestUnknown))
		origin.set("", errBroken)
		_, err = c.GetTag(ctx, "foo", "v1")
		qt.Check(t, qt.ErrorIs(err, errBroken))
		qt.Check(t, qt.IsNil(c.Close()))
	})
}

func TestCache_RevalidatesATagAfterItsTTL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mem := ocimem.New()
		origin := count(mem)
		one := pushed(t, mem, "foo", 1, "v1")
		c := ociunify.NewCache(ocimem.New(), origin, &ociunify.CacheOptions{TagTTL: time.Minute})
		wantTag(t, c, "foo", "v1", one)
		qt.Check(t, qt.Equals(origin.took(), "GetTag"))
		two := pushed(t, mem, "foo", 2, "v1")
		time.Sleep(time.Minute - time.Nanosecond)
		wantTag(t, c, "foo", "v1", one)
		desc, err := c.ResolveTag(t.Context(), "foo", "v1")
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(desc.Digest, one.Descriptor.Digest))
		qt.Check(t, qt.Equals(origin.took(), ""))
		time.Sleep(time.Nanosecond)
		wantTag(t, c, "foo", "v1", two)
		qt.Check(t, qt.Equals(origin.took(), "ResolveTag GetManifest"))
		time.Sleep(time.Minute)
		for range 2 {
			wantTag(t, c, "foo", "v1", two)
		}
		qt.Check(t, qt.Equals(origin.took(), "ResolveTag"))
		qt.Check(t, qt.IsNil(c.Close()))
	})
}

// A tag that moved, but whose new manifest could not be kept, is not served as it was
// before.
func TestCache_RevalidatesATagWhoseNewManifestIsNotKept(t *testing.T) {
	t.Parallel()
	mem, cache := ocimem.New(), count(ocimem.New())
	one := pushed(t, mem, "foo", 1, "v1")
	c := newCache(t, cache, mem, nil)
	wantTag(t, c, "foo", "v1", one)
	c = newCache(t, cache, mem, &ociunify.CacheOptions{TagTTL: time.Hour})
	two := pushed(t, mem, "foo", 2, "v1")
	cache.set("PushManifest", errBroken)
	for range 2 {
		wantTag(t, c, "foo", "v1", two)
	}
}

func TestCache_ServesStaleTagWhenOriginIsDown(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		method string // that fails
		err    error
		served bool
	}{
		{"dead", "", errBroken, true},
		{"busy", "", ociregistry.ErrTooManyRequests, true},
		{"manifests only", "GetManifest", errBroken, true},
		{"denied", "", ociregistry.ErrDenied, false},
		{"unauthorized", "", ociregistry.ErrUnauthorized, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			mem := ocimem.New()
			origin := count(mem)
			image := pushed(t, mem, "foo", 1, "v1", "v2")
			var log logLines
			c := newCache(t, ocimem.New(), origin, &ociunify.CacheOptions{Logger: log.logger()})
			qt.Assert(t, qt.IsNil(image.Verify(ctx, c, "foo")))
			wantTag(t, c, "foo", "v1", image)
			pushed(t, mem, "foo", 2, "v1")
			origin.set(test.method, test.err)

			qt.Check(t, qt.IsNil(image.Verify(ctx, c, "foo"))) // digests do not need the origin
			if !test.served {
				_, err := c.GetTag(ctx, "foo", "v1")
				qt.Check(t, qt.ErrorIs(err, test.err))
				_, err = c.ResolveTag(ctx, "foo", "v1")
				qt.Check(t, qt.ErrorIs(err, test.err))
				return
			}
			wantTag(t, c, "foo", "v1", image)
			qt.Check(t, qt.IsTrue(log.has("serving what is kept")))
			if test.method != "" {
				return
			}
			desc, err := c.ResolveTag(ctx, "foo", "v1")
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(desc.Digest, image.Descriptor.Digest))
			tags, err := ociregistry.All(c.Tags(ctx, "foo", ""))
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.DeepEquals(tags, []string{"v1"})) // v2 was never asked for
			_, err = c.GetTag(ctx, "foo", "v2")
			qt.Check(t, qt.ErrorIs(err, test.err))
		})
	}
}
