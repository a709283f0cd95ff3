package ociunify_test

import (
	"context"
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

func TestCache_RetriesWhatFailedInTheBackground(t *testing.T) {
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
		c = ociunify.NewCache(cache, origin, &ociunify.CacheOptions{RetryDelay: time.Minute, Attempts: 4, Logger: log.logger()})
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

		// Retries end when they are exhausted. The next failure starts new ones.
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

func TestCache_FetchesAgainWhatWasDeletedFromCacheRegistry(t *testing.T) {
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

// A restart loses nothing: what was read before needs no origin.
func TestCache_ServesWhatIsKeptAfterARestart(t *testing.T) {
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

func TestCache_RemembersWhatTheOriginLacks(t *testing.T) {
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

// Callers can leave at every stage of a miss at which the origin can stall, and nothing is
// left running.
func TestCache_CallersCanLeaveAnOriginThatStalls(t *testing.T) {
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
				// The same when the cache is closed meanwhile.
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

// The reader of a fetch can be closed at any time, even by another goroutine.
func TestCache_ReaderOfAFetchCanBeClosedAtAnyTime(t *testing.T) {
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
