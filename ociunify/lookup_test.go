package ociunify_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociunify"
)

// lookups returns options whose hook sends what it is told.
func lookups() (*ociunify.CacheOptions, chan ociunify.Lookup) {
	seen := make(chan ociunify.Lookup, 100)
	return &ociunify.CacheOptions{OnLookup: func(_ context.Context, l ociunify.Lookup) { seen <- l }}, seen
}

// lookupTest has the calls of a cache of an image with the tag v1, each of which tells one
// outcome.
type lookupTest struct {
	c      *ociunify.Cache
	origin *counted
	mem    ociregistry.Interface
	image  *ocitest.Artifact
	seen   chan ociunify.Lookup
}

// tells makes a call, which must tell that it had an outcome, and whose error must be want.
func (l *lookupTest) tells(t *testing.T, method, ref string, outcome ociunify.Outcome, want error) {
	t.Helper()
	ctx, d := t.Context(), ociregistry.Digest(ref)
	var rd ociregistry.BlobReader
	var err error
	switch method {
	case "GetBlob":
		rd, err = l.c.GetBlob(ctx, "foo", d)
	case "GetBlobRange":
		rd, err = l.c.GetBlobRange(ctx, "foo", d, 1, 3)
	case "GetManifest":
		rd, err = l.c.GetManifest(ctx, "foo", d)
	case "GetTag":
		rd, err = l.c.GetTag(ctx, "foo", ref)
	case "ResolveBlob":
		_, err = l.c.ResolveBlob(ctx, "foo", d)
	case "ResolveManifest":
		_, err = l.c.ResolveManifest(ctx, "foo", d)
	case "ResolveTag":
		_, err = l.c.ResolveTag(ctx, "foo", ref)
	}
	if want == nil {
		qt.Check(t, qt.IsNil(err), qt.Commentf("%s %s", method, ref))
	} else {
		qt.Check(t, qt.ErrorIs(err, want), qt.Commentf("%s %s", method, ref))
	}
	if rd != nil {
		_, err := readAll(rd, nil)
		qt.Check(t, qt.IsNil(err))
	}
	synctest.Wait() // until it is kept, and nothing else can be told
	got := <-l.seen
	qt.Check(t, qt.HasLen(l.seen, 0))
	qt.Check(t, qt.Equals(got, ociunify.Lookup{
		Method: method, Repository: "foo", Reference: ref,
		Manifest: method != "GetBlob" && method != "GetBlobRange" && method != "ResolveBlob",
		Outcome:  outcome, Err: got.Err,
	}))
	qt.Check(t, qt.Equals(got.Err, err), qt.Commentf("%s %s", method, ref))
}

func TestOnLookup_TellsWhereTheAnswerCameFrom(t *testing.T) {
	t.Parallel()
	const hit, checked, stale, fetched = ociunify.OutcomeHit, ociunify.OutcomeChecked, ociunify.OutcomeStale, ociunify.OutcomeFetched
	missing := string(digest.FromString("missing"))
	for _, test := range []struct {
		name string
		opts func(*ociunify.CacheOptions)
		run  func(*testing.T, *lookupTest)
	}{
		{"blobs", nil, func(t *testing.T, l *lookupTest) {
			blob := string(l.image.Blobs[1].Descriptor.Digest)
			l.tells(t, "ResolveBlob", blob, fetched, nil)
			l.tells(t, "GetBlobRange", blob, fetched, nil)
			l.tells(t, "GetBlob", blob, fetched, nil)
			l.tells(t, "GetBlob", blob, hit, nil)
			l.tells(t, "GetBlobRange", blob, hit, nil)
			l.tells(t, "ResolveBlob", blob, hit, nil)
		}},
		{"manifests", nil, func(t *testing.T, l *lookupTest) {
			d := string(l.image.Descriptor.Digest)
			l.tells(t, "ResolveManifest", d, fetched, nil)
			l.tells(t, "GetManifest", d, fetched, nil)
			l.tells(t, "GetManifest", d, hit, nil)
			l.tells(t, "ResolveManifest", d, hit, nil)
		}},
		{"tags", nil, func(t *testing.T, l *lookupTest) {
			l.tells(t, "ResolveTag", "v1", fetched, nil)
			l.tells(t, "GetTag", "v1", fetched, nil)
			l.tells(t, "GetTag", "v1", checked, nil)
			l.tells(t, "ResolveTag", "v1", checked, nil)
			pushed(t, l.mem, "foo", 2, "v1")
			l.tells(t, "ResolveTag", "v1", fetched, nil)
			l.tells(t, "GetTag", "v1", fetched, nil)
			pushed(t, l.mem, "foo", 1, "v1") // whose manifest is kept
			l.tells(t, "GetTag", "v1", checked, nil)
		}},
		{"tags with a TTL", func(o *ociunify.CacheOptions) { o.TagTTL = time.Minute }, func(t *testing.T, l *lookupTest) {
			l.tells(t, "ResolveTag", "v1", fetched, nil)
			l.tells(t, "ResolveTag", "v1", hit, nil)
			l.tells(t, "GetTag", "v1", fetched, nil)
			l.tells(t, "GetTag", "v1", hit, nil)
			l.tells(t, "ResolveTag", "v1", hit, nil)
			time.Sleep(2 * time.Minute)
			l.tells(t, "GetTag", "v1", checked, nil)
			l.tells(t, "GetTag", "v1", hit, nil)
		}},
		{"an origin that is down", nil, func(t *testing.T, l *lookupTest) {
			l.tells(t, "GetTag", "v1", fetched, nil)
			l.origin.set("", errBroken)
			l.tells(t, "GetTag", "v1", stale, nil)
			l.tells(t, "ResolveTag", "v1", stale, nil)
			l.tells(t, "GetManifest", string(l.image.Descriptor.Digest), hit, nil)
			l.tells(t, "GetBlob", string(l.image.Blobs[0].Descriptor.Digest), ociunify.OutcomeFailed, errBroken)
			l.tells(t, "GetTag", "v2", ociunify.OutcomeFailed, errBroken)
		}},
		{"an origin that stalls", nil, func(t *testing.T, l *lookupTest) {
			l.tells(t, "GetTag", "v1", fetched, nil)
			defer close(l.origin.hold("ResolveTag"))
			l.tells(t, "GetTag", "v1", stale, nil)
			l.tells(t, "GetTag", "v1", stale, nil) // without waiting
			l.tells(t, "ResolveTag", "v1", stale, nil)
		}},
		{"what does not exist", nil, func(t *testing.T, l *lookupTest) {
			for _, method := range []string{"GetBlob", "GetBlobRange", "ResolveBlob"} {
				l.tells(t, method, missing, ociunify.OutcomeNotFound, ociregistry.ErrBlobUnknown)
			}
			for _, method := range []string{"GetManifest", "ResolveManifest"} {
				l.tells(t, method, missing, ociunify.OutcomeNotFound, ociregistry.ErrManifestUnknown)
			}
			for _, method := range []string{"GetTag", "ResolveTag"} {
				l.tells(t, method, "v2", ociunify.OutcomeNotFound, ociregistry.ErrManifestUnknown)
			}
		}},
		{"what is remembered not to exist", func(o *ociunify.CacheOptions) { o.NotFoundTTL = time.Minute }, func(t *testing.T, l *lookupTest) {
			for _, call := range [][2]string{{"GetBlob", missing}, {"GetManifest", missing}, {"GetTag", "v2"}} {
				err := ociregistry.ErrManifestUnknown
				if call[0] == "GetBlob" {
					err = ociregistry.ErrBlobUnknown
				}
				l.tells(t, call[0], call[1], ociunify.OutcomeNotFound, err)
				l.tells(t, call[0], call[1], ociunify.OutcomeAbsent, err)
			}
			l.tells(t, "GetBlobRange", missing, ociunify.OutcomeAbsent, ociregistry.ErrBlobUnknown)
			l.tells(t, "ResolveBlob", missing, ociunify.OutcomeAbsent, ociregistry.ErrBlobUnknown)
			l.tells(t, "ResolveManifest", missing, ociunify.OutcomeAbsent, ociregistry.ErrManifestUnknown)
			l.tells(t, "ResolveTag", "v2", ociunify.OutcomeAbsent, ociregistry.ErrManifestUnknown)
		}},
		{"what the origin refuses", nil, func(t *testing.T, l *lookupTest) {
			l.origin.set("", ociregistry.ErrDenied)
			l.tells(t, "GetTag", "v1", ociunify.OutcomeFailed, ociregistry.ErrDenied)
			l.tells(t, "GetBlob", missing, ociunify.OutcomeFailed, ociregistry.ErrDenied)
		}},
		{"arguments that are invalid", nil, func(t *testing.T, l *lookupTest) {
			for _, method := range []string{"GetBlob", "GetBlobRange", "GetManifest", "ResolveBlob", "ResolveManifest"} {
				l.tells(t, method, "sha256:x", ociunify.OutcomeFailed, ociregistry.ErrDigestInvalid)
			}
			l.tells(t, "GetTag", ".v", ociunify.OutcomeNotFound, ociregistry.ErrManifestUnknown)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				opts, seen := lookups()
				if test.opts != nil {
					test.opts(opts)
				}
				l := &lookupTest{mem: ocimem.New(), seen: seen}
				l.origin, l.image = count(l.mem), pushed(t, l.mem, "foo", 1, "v1")
				l.c = ociunify.NewCache(ocimem.New(), l.origin, opts)
				test.run(t, l)
				qt.Check(t, qt.IsNil(l.c.Close()))
			})
		})
	}
}

// Callers that share a fetch are told each.
func TestOnLookup_IsCalledForEachCallerOfAFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		opts, seen := lookups()
		mem := ocimem.New()
		origin, image := count(mem), pushed(t, mem, "foo", 1, "v1")
		c := ociunify.NewCache(ocimem.New(), origin, opts)
		for _, method := range []string{"GetTag", "GetBlob"} {
			answer := origin.hold(method)
			for range 3 {
				go func() {
					if method == "GetTag" {
						wantTag(t, c, "foo", "v1", image)
						return
					}
					got, err := readBlob(t.Context(), c, "foo", image.Blobs[1].Descriptor.Digest)
					wantBytes(t, got, err, image.Blobs[1].Bytes())
				}()
			}
			synctest.Wait()
			qt.Check(t, qt.HasLen(seen, 0))
			close(answer)
			synctest.Wait()
			qt.Check(t, qt.HasLen(seen, 3))
			for range 3 {
				qt.Check(t, qt.Equals((<-seen).Outcome, ociunify.OutcomeFetched))
			}
			qt.Check(t, qt.Equals(origin.took(), method))
		}
		qt.Check(t, qt.IsNil(c.Close()))
	})
}

func TestOnLookup_IsNotCalledForWhatTheCacheReadsForItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		opts, seen := lookups()
		opts.WholeImages, opts.RetryDelay = true, time.Second
		mem := ocimem.New()
		origin, image := count(mem), pushed(t, mem, "foo", 1, "v1")
		c := ociunify.NewCache(ocimem.New(), origin, opts)
		origin.set("", errBroken)
		_, err := c.GetTag(t.Context(), "foo", "v1")
		qt.Check(t, qt.ErrorIs(err, errBroken))
		origin.set("", nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		qt.Check(t, qt.HasLen(seen, 1))
		qt.Check(t, qt.Equals((<-seen).Outcome, ociunify.OutcomeFailed))
		origin.set("", errBroken)
		got, err := readBlob(t.Context(), c, "foo", image.Blobs[1].Descriptor.Digest)
		wantBytes(t, got, err, image.Blobs[1].Bytes())
		qt.Check(t, qt.Equals((<-seen).Outcome, ociunify.OutcomeHit))
		qt.Check(t, qt.IsNil(c.Close()))
	})
}
