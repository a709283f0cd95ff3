package ociunify_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociunify"
)

func wantTag(t testing.TB, r ociregistry.Interface, repo, tag string, image *ocitest.Artifact) {
	t.Helper()
	got, err := readAll(r.GetTag(t.Context(), repo, tag))
	wantBytes(t, got, err, image.Manifest)
}

func TestBehaviour06_TagsAreRevalidated(t *testing.T) {
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

		// A tag that is gone at the origin is gone here.
		qt.Assert(t, qt.IsNil(mem.DeleteTag(ctx, "foo", "v1")))
		_, err = c.GetTag(ctx, "foo", "v1")
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrManifestUnknown))
		origin.set("", errBroken)
		_, err = c.GetTag(ctx, "foo", "v1")
		qt.Check(t, qt.ErrorIs(err, errBroken))
		qt.Check(t, qt.IsNil(c.Close()))
	})
}

func TestBehaviour06_TTL(t *testing.T) {
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

// A tag that moved is not taken to be where it was because its new manifest could
// not be kept.
func TestBehaviour06_MovedButNotKept(t *testing.T) {
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

func TestBehaviour06_DeadOrigin(t *testing.T) {
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

func TestBehaviour07_DownFromTheStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		mem, cache := ocimem.New(), ocimem.New()
		origin := count(mem)
		image, other := pushed(t, mem, "foo", 1, "v1"), pushed(t, mem, "foo", 2).Blobs[1].Descriptor.Digest
		layer := image.Blobs[2].Descriptor.Digest
		origin.set("", errBroken)
		ask := func(c *ociunify.Cache) {
			t.Helper()
			for range 5 {
				_, err := c.GetTag(ctx, "foo", "v1")
				qt.Check(t, qt.ErrorIs(err, errBroken))
				_, err = c.GetManifest(ctx, "foo", image.Descriptor.Digest)
				qt.Check(t, qt.ErrorIs(err, errBroken))
				_, err = c.GetBlob(ctx, "foo", layer)
				qt.Check(t, qt.ErrorIs(err, errBroken))
			}
			_, err := ociregistry.All(c.Tags(ctx, "foo", ""))
			qt.Check(t, qt.ErrorIs(err, errBroken))
			origin.took()
		}
		c := ociunify.NewCache(cache, origin, nil)
		ask(c)
		time.Sleep(time.Hour)
		qt.Check(t, qt.Equals(origin.took(), ""))
		qt.Check(t, qt.IsNil(c.Close()))

		var log logLines
		c = ociunify.NewCache(cache, origin, &ociunify.CacheOptions{RetryDelay: time.Minute, MaxRetries: 3, Logger: log.logger()})
		ask(c)
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, method := range []string{"GetTag", "GetManifest", "GetBlob"} {
			qt.Check(t, qt.Equals(origin.number(method), 1), qt.Commentf("retries of %s", method))
		}
		origin.set("", nil)
		origin.took()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		_, err := cache.ResolveTag(ctx, "foo", "v1")
		qt.Check(t, qt.IsNil(err))
		_, err = cache.ResolveBlob(ctx, "foo", layer)
		qt.Check(t, qt.IsNil(err))
		origin.took()
		time.Sleep(time.Hour)
		qt.Check(t, qt.Equals(origin.took(), ""))

		// Retries that are exhausted end, and the next failure begins new ones.
		origin.set("", errBroken)
		for range 2 {
			_, err = c.GetBlob(ctx, "foo", other)
			qt.Check(t, qt.ErrorIs(err, errBroken))
			time.Sleep(time.Hour)
			qt.Check(t, qt.Equals(origin.took(), "GetBlob GetBlob GetBlob GetBlob"))
		}
		qt.Check(t, qt.IsTrue(log.has("no more retries")))
		_, err = c.GetBlob(ctx, "foo", other)
		qt.Check(t, qt.ErrorIs(err, errBroken))
		qt.Check(t, qt.IsNil(c.Close()))
	})
}

func TestBehaviour08_DeletedLocally(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		mem, cache := ocimem.New(), ocimem.New()
		origin := count(mem)
		image := pushed(t, mem, "foo", 1, "v1")
		layer := image.Blobs[2].Descriptor.Digest
		c := ociunify.NewCache(cache, origin, &ociunify.CacheOptions{TagTTL: time.Hour, MaxBytes: 1 << 30})
		for range 3 {
			wantTag(t, c, "foo", "v1", image)
			qt.Check(t, qt.Equals(origin.took(), "GetTag"))
			got, err := readBlob(ctx, c, "foo", layer)
			wantBytes(t, got, err, image.Blobs[2].Bytes())
			qt.Check(t, qt.Equals(origin.took(), "GetBlob"))
			synctest.Wait()
			qt.Assert(t, qt.IsNil(cache.DeleteManifest(ctx, "foo", image.Descriptor.Digest)))
			qt.Assert(t, qt.IsNil(cache.DeleteBlob(ctx, "foo", layer)))
		}
		qt.Check(t, qt.IsNil(c.Close()))
	})
}

// A restart keeps everything, and nothing is needed from the origin that was read
// before.
func TestBehaviour10_OfflineAfterARestart(t *testing.T) {
	t.Parallel()
	for _, sparse := range []bool{false, true} {
		ctx := t.Context()
		mem, dir := ocimem.New(), t.TempDir()
		origin := count(mem)
		amd64 := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{1000, 2000}})
		arm64 := ocitest.NewImage(ocitest.Spec{Seed: 2, Layers: []int64{1000, 2000}})
		index := ocitest.NewIndex(ocitest.Spec{}, amd64, arm64)
		ocitest.NewRegistry(t, mem).MustPush("foo", index, "latest")

		pull := func(c *ociunify.Cache) {
			t.Helper()
			wantTag(t, c, "foo", "latest", index)
			qt.Check(t, qt.IsNil(amd64.Verify(ctx, c, "foo")))
		}
		opts := &ociunify.CacheOptions{Sparse: sparse, MaxBytes: 1 << 20}
		for range 2 {
			cache, err := ocifs.New(dir, &ocifs.Options{NoSync: true, Sparse: sparse})
			qt.Assert(t, qt.IsNil(err))
			c := ociunify.NewCache(cache, origin, opts)
			pull(c)
			qt.Check(t, qt.IsNil(c.Close()))
			qt.Check(t, qt.IsNil(cache.Close()))
			origin.set("", errBroken)
		}
		cache, err := ocifs.New(dir, &ocifs.Options{NoSync: true, Sparse: sparse})
		qt.Assert(t, qt.IsNil(err))
		c := ociunify.NewCache(cache, origin, opts)
		qt.Check(t, qt.ErrorIs(arm64.Verify(ctx, c, "foo"), errBroken))
		repos, err := ociregistry.All(c.Repositories(ctx, ""))
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(repos, []string{"foo"}))
		_, err = ociregistry.All(c.Tags(ctx, "ociunify.cache", ""))
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameUnknown))
		qt.Check(t, qt.IsNil(c.Close()))
		qt.Check(t, qt.IsNil(cache.Close()))
	}
}

// A page of referrers that begins late leaves a list of all behind, not its end.
func TestCache_KeepsAllReferrersWhenItIsAskedForTheEnd(t *testing.T) {
	t.Parallel()
	mem := ocimem.New()
	origin := count(mem)
	image := pushed(t, mem, "foo", 1, "v1")
	for seed := range uint64(3) {
		ocitest.NewRegistry(t, mem).MustPush("foo", ocitest.NewImage(ocitest.Spec{Seed: seed, Layers: []int64{10}, ArtifactType: "a/b", Subject: &image.Descriptor}))
	}
	all, err := ociregistry.All(mem.Referrers(t.Context(), "foo", image.Descriptor.Digest, ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(all, 3))
	c := newCache(t, ocimem.New(), origin, nil)
	after := ociregistry.WithReferrersAfter(t.Context(), all[1].Digest)
	end, err := ociregistry.All(c.Referrers(after, "foo", image.Descriptor.Digest, ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(end[len(end)-1], all[2]))
	origin.set("", errBroken)
	kept, err := ociregistry.All(c.Referrers(t.Context(), "foo", image.Descriptor.Digest, ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(kept, all))
}

func TestBehaviour11_Referrers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	mem := ocimem.New()
	origin := count(mem)
	image := pushed(t, mem, "foo", 1, "v1")
	d := image.Descriptor.Digest
	var log logLines
	c := newCache(t, ocimem.New(), origin, &ociunify.CacheOptions{Logger: log.logger()})
	list := func(artifactType string) []ociregistry.Descriptor {
		t.Helper()
		all, err := ociregistry.All(c.Referrers(ctx, "foo", d, artifactType))
		qt.Assert(t, qt.IsNil(err))
		return all
	}
	qt.Assert(t, qt.IsNil(image.Verify(ctx, c, "foo")))
	qt.Check(t, qt.HasLen(list(""), 0))

	// Signed after it was cached.
	signature := ocitest.NewImage(ocitest.Spec{Seed: 2, ArtifactType: "application/vnd.example.signature", Subject: &image.Descriptor, Annotations: map[string]string{"a": "b"}})
	bom := ocitest.NewImage(ocitest.Spec{Seed: 3, ArtifactType: "application/vnd.example.bom", Subject: &image.Descriptor})
	reg := ocitest.NewRegistry(t, mem)
	reg.MustPush("foo", signature)
	reg.MustPush("foo", bom)
	cosign := "sha256-" + d.Encoded() + ".sig"
	reg.MustPush("foo", pushed(t, mem, "foo", 4, cosign))
	all := list("")
	qt.Check(t, qt.HasLen(all, 2))
	signed := list("application/vnd.example.signature")
	qt.Check(t, qt.HasLen(signed, 1))
	qt.Check(t, qt.DeepEquals(signed[0].Annotations, map[string]string{"a": "b"}))
	_, err := c.GetTag(ctx, "foo", cosign)
	qt.Check(t, qt.IsNil(err))

	// That one cannot be fetched is its failure alone.
	origin.set("GetManifest", errBroken)
	qt.Check(t, qt.ErrorIs(signature.Verify(ctx, c, "foo"), errBroken))
	qt.Check(t, qt.IsNil(image.Verify(ctx, c, "foo")))
	wantTag(t, c, "foo", "v1", image)
	origin.set("GetManifest", nil)
	qt.Check(t, qt.IsNil(signature.Verify(ctx, c, "foo")))

	origin.set("", errBroken)
	qt.Check(t, qt.DeepEquals(list(""), all))
	qt.Check(t, qt.DeepEquals(list("application/vnd.example.signature"), signed))
	qt.Check(t, qt.HasLen(list("application/vnd.example.bom"), 1)) // from the list of all
	qt.Check(t, qt.HasLen(list("application/vnd.example.other"), 0))
	qt.Check(t, qt.IsNil(signature.Verify(ctx, c, "foo")))
	_, err = c.GetTag(ctx, "foo", cosign)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(log.has("listing what is kept")))
}

func TestBehaviour13_NotFoundIsRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		image := ocitest.NewImage(ocitest.Spec{})
		d, blob := image.Descriptor.Digest, image.Blobs[0].Descriptor.Digest
		asks := map[string]func(ociregistry.Interface) error{
			"GetTag":          func(r ociregistry.Interface) error { _, err := r.GetTag(ctx, "foo", "v1"); return err },
			"ResolveTag":      func(r ociregistry.Interface) error { _, err := r.ResolveTag(ctx, "foo", "v1"); return err },
			"GetManifest":     func(r ociregistry.Interface) error { _, err := r.GetManifest(ctx, "foo", d); return err },
			"ResolveManifest": func(r ociregistry.Interface) error { _, err := r.ResolveManifest(ctx, "foo", d); return err },
			"ResolveBlob":     func(r ociregistry.Interface) error { _, err := r.ResolveBlob(ctx, "foo", blob); return err },
			"GetBlob": func(r ociregistry.Interface) error {
				rd, err := r.GetBlob(ctx, "foo", blob)
				if err == nil {
					rd.Close()
				}
				return err
			},
		}
		for _, ttl := range []time.Duration{0, time.Minute} {
			for method, ask := range asks {
				mem := ocimem.New()
				origin := count(mem)
				c := ociunify.NewCache(ocimem.New(), origin, &ociunify.CacheOptions{NotFoundTTL: ttl})
				for range 3 {
					qt.Check(t, qt.ErrorIs(ask(c), ociregistry.ErrNameUnknown))
				}
				want := 3
				if ttl > 0 {
					want = 1
				}
				qt.Check(t, qt.Equals(origin.number(method), want), qt.Commentf("%s with a TTL of %v", method, ttl))
				ocitest.NewRegistry(t, mem).MustPush("foo", image, "v1")
				time.Sleep(time.Minute)
				qt.Check(t, qt.IsNil(ask(c)), qt.Commentf("%s with a TTL of %v", method, ttl))
				qt.Check(t, qt.IsNil(c.Close()))
			}
		}
	})
}

func TestBehaviour14_Writes(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	mem, cache := ocimem.New(), ocimem.New()
	origin := count(mem)
	image := ocitest.NewImage(ocitest.Spec{Layers: []int64{1000}})
	c := newCache(t, cache, origin, nil)
	qt.Check(t, qt.ErrorIs(image.Push(ctx, c, "foo", "v1"), ociregistry.ErrUnsupported))
	qt.Check(t, qt.ErrorIs(c.DeleteTag(ctx, "foo", "v1"), ociregistry.ErrUnsupported))
	qt.Check(t, qt.Equals(origin.took(), ""))

	c = newCache(t, cache, origin, &ociunify.CacheOptions{WriteThrough: true, TagTTL: time.Hour})
	qt.Assert(t, qt.IsNil(image.Push(ctx, c, "foo", "v1")))
	qt.Check(t, qt.IsNil(image.Verify(ctx, mem, "foo")))
	origin.took()
	qt.Check(t, qt.IsNil(image.Verify(ctx, c, "foo")))
	wantTag(t, c, "foo", "v1", image)
	qt.Check(t, qt.Equals(origin.took(), ""))

	// What the origin refuses is not kept.
	other := ocitest.NewImage(ocitest.Spec{Seed: 7, Layers: []int64{1000}})
	origin.set("PushBlob", ociregistry.ErrDenied)
	origin.set("PushManifest", ociregistry.ErrDenied)
	_, err := c.PushBlob(ctx, "foo", other.Blobs[1].Descriptor, other.Blobs[1].NewReader())
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDenied))
	_, err = c.PushManifest(ctx, "foo", "v1", other.Manifest, other.Descriptor.MediaType)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDenied))
	_, err = cache.ResolveBlob(ctx, "foo", other.Blobs[1].Descriptor.Digest)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUnknown))
	wantTag(t, c, "foo", "v1", image)

	qt.Check(t, qt.IsNil(c.DeleteTag(ctx, "foo", "v1")))
	qt.Check(t, qt.IsNil(c.DeleteManifest(ctx, "foo", image.Descriptor.Digest)))
	origin.set("", errBroken)
	_, err = c.GetTag(ctx, "foo", "v1")
	qt.Check(t, qt.ErrorIs(err, errBroken))
	_, err = c.GetManifest(ctx, "foo", image.Descriptor.Digest)
	qt.Check(t, qt.ErrorIs(err, errBroken))
}

func TestBehaviour15_SeveralOrigins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		one, two, three := ocimem.New(), ocimem.New(), ocimem.New()
		dead, first, second := count(one), count(two), count(three)
		image := pushed(t, two, "foo", 1, "v1")
		only := pushed(t, three, "foo", 2, "v2")
		dead.set("", errBroken)
		var log logLines
		c := ociunify.NewCache(ocimem.New(), ociunify.Origins(&ociunify.OriginsOptions{Logger: log.logger()}, nil, dead, first, second), nil)
		wantTag(t, c, "foo", "v1", image)
		qt.Check(t, qt.Equals(dead.took()+","+first.took()+","+second.took(), "GetTag,GetTag,"))
		qt.Check(t, qt.IsTrue(log.has("origin failed")))
		qt.Check(t, qt.IsNil(image.Verify(ctx, c, "foo")))
		qt.Check(t, qt.Equals(dead.took(), "")) // it is remembered that it fails
		wantTag(t, c, "foo", "v2", only)
		first.took()
		second.took()
		_, err := c.GetTag(ctx, "foo", "v3")
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrManifestUnknown))
		tags, err := ociregistry.All(c.Tags(ctx, "foo", ""))
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(tags, []string{"v1"}))

		time.Sleep(time.Minute)
		qt.Check(t, qt.IsNil(only.Verify(ctx, c, "foo")))
		qt.Check(t, qt.Equals(dead.took(), "GetBlob")) // once in a while

		// When all have failed, all are asked.
		first.set("", errBroken)
		second.set("", errors.New("certificate has expired"))
		for range 2 {
			_, err = c.GetTag(ctx, "foo", "v3")
			qt.Check(t, qt.ErrorIs(err, errBroken))
			qt.Check(t, qt.ErrorMatches(err, "(?s).*certificate.*"))
		}
		second.set("", nil)
		wantTag(t, c, "foo", "v2", only)
		qt.Check(t, qt.IsNil(c.Close()))
	})
}

// Every stage of a miss at which the origin can stall: the caller goes when it
// wants to, and nothing is left of it.
func TestStalls(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"GetBlob", "GetManifest", "GetTag", "ResolveTag", "ResolveBlob", "ResolveManifest", "body"} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mem := ocimem.New()
				origin := count(mem)
				image := pushed(t, mem, "foo", 1, "v1")
				c := ociunify.NewCache(ocimem.New(), origin, nil)
				if method == "body" {
					origin.setBody(func(rd ociregistry.BlobReader) ociregistry.BlobReader { return newGate(rd, 50, nil) })
				} else {
					origin.hold(method)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				d, layer := image.Descriptor.Digest, image.Blobs[2].Descriptor.Digest
				calls := map[string]func() error{
					"GetBlob":         func() error { _, err := readBlob(ctx, c, "foo", layer); return err },
					"GetManifest":     func() error { _, err := readAll(c.GetManifest(ctx, "foo", d)); return err },
					"GetTag":          func() error { _, err := readAll(c.GetTag(ctx, "foo", "v1")); return err },
					"ResolveTag":      func() error { _, err := c.ResolveTag(ctx, "foo", "v1"); return err },
					"ResolveBlob":     func() error { _, err := c.ResolveBlob(ctx, "foo", layer); return err },
					"ResolveManifest": func() error { _, err := c.ResolveManifest(ctx, "foo", d); return err },
				}
				for name, call := range calls {
					if name == method || method == "body" && name[0] == 'G' {
						qt.Check(t, qt.ErrorIs(call(), context.DeadlineExceeded), qt.Commentf("%s", name))
					}
				}
				// The same, but the cache is closed meanwhile.
				ctx = t.Context()
				failed := make(chan error)
				call := calls[method]
				if call == nil {
					call = calls["GetBlob"]
				}
				go func() { failed <- call() }()
				synctest.Wait()
				qt.Check(t, qt.IsNil(c.Close()))
				qt.Check(t, qt.ErrorMatches(<-failed, ".*the cache is closed.*"))
				_, err := c.GetBlob(ctx, "foo", layer)
				qt.Check(t, qt.ErrorMatches(err, ".*the cache is closed.*"))
			})
		})
	}
}

// Readers of what is fetched can be closed at any time, also by others.
func TestFollowerIsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mem := ocimem.New()
		origin := count(mem)
		layer := pushed(t, mem, "foo", 1).Blobs[2].Descriptor.Digest
		origin.setBody(func(rd ociregistry.BlobReader) ociregistry.BlobReader { return newGate(rd, 1000, nil) })
		c := ociunify.NewCache(ocimem.New(), origin, nil)
		rd, err := c.GetBlob(t.Context(), "foo", layer)
		qt.Assert(t, qt.IsNil(err))
		failed := make(chan error)
		go func() {
			_, err := io.Copy(io.Discard, rd)
			failed <- err
		}()
		synctest.Wait()
		qt.Check(t, qt.IsNil(rd.Close()))
		qt.Check(t, qt.IsNotNil(<-failed))
		qt.Check(t, qt.IsNil(rd.Close()))
		_, err = rd.Read(make([]byte, 1))
		qt.Check(t, qt.IsNotNil(err))
		qt.Check(t, qt.IsNil(c.Close()))
	})
}
