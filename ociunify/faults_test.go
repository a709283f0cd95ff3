package ociunify_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociunify"
)

// faulty reads content up to the fault.
type faulty struct {
	*gate     // which never opens
	fault     string
	corrupted bool
}

func newFaulty(rd ociregistry.BlobReader, fault string, at int64) ociregistry.BlobReader {
	return &faulty{gate: newGate(rd, int(at), nil), fault: fault}
}

func (f *faulty) Read(p []byte) (int, error) {
	if f.left == 0 {
		switch f.fault {
		case "dies":
			return 0, errBroken
		case "truncates":
			return 0, io.EOF
		case "corrupts":
			n, err := f.BlobReader.Read(p)
			if n == 0 && err == io.EOF && !f.corrupted {
				p[0], n = 'x', 1 // at the end, the only possible corruption is another byte
			}
			if n > 0 && !f.corrupted {
				p[0] ^= 1
				f.corrupted = true
			}
			return n, err
		}
	}
	return f.gate.Read(p)
}

// The origin dies, stalls, truncates or corrupts at every stage of a miss, while several
// callers wait, some of which leave. No caller gets wrong content, every caller gets an
// answer, and nothing is left running: the test would not end. When the fault is over,
// the cache works again.
func TestCache_SurvivesFaultsOfTheOriginAtEveryStage(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"dies", "stalls", "truncates", "corrupts"} {
		for _, method := range []string{"GetBlob", "GetManifest", "GetTag"} {
			for stage := range 5 {
				for _, finish := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/%s/%d/%v", fault, method, stage, finish), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) { testFault(t, fault, method, stage, finish) })
					})
				}
			}
		}
	}
}

func testFault(t *testing.T, fault, method string, stage int, finish bool) {
	mem, cache := ocimem.New(), ocimem.New()
	origin := count(mem)
	image := pushed(t, mem, "foo", 1, "v1")
	layer := image.Blobs[2]
	c := ociunify.NewCache(cache, origin, &ociunify.CacheOptions{FinishFetches: finish})
	origin.setBody(func(rd ociregistry.BlobReader) ociregistry.BlobReader {
		size := rd.Descriptor().Size
		return newFaulty(rd, fault, []int64{0, 1, size / 2, size - 1, size}[stage])
	})
	ask := func(ctx context.Context) ([]byte, error) { return readBlob(ctx, c, "foo", layer.Descriptor.Digest) }
	want := layer.Bytes()
	switch method {
	case "GetManifest":
		want = image.Manifest
		ask = func(ctx context.Context) ([]byte, error) {
			return readAll(c.GetManifest(ctx, "foo", image.Descriptor.Digest))
		}
	case "GetTag":
		want = image.Manifest
		ask = func(ctx context.Context) ([]byte, error) { return readAll(c.GetTag(ctx, "foo", "v1")) }
	}
	// Ending at the right place is not a fault.
	harmless := fault == "truncates" && stage == 4

	var asking sync.WaitGroup
	for i := range 4 {
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i+1)*time.Second)
			defer cancel()
			got, err := ask(ctx)
			qt.Check(t, qt.Equals(err == nil, harmless), qt.Commentf("%v", err))
			qt.Check(t, qt.Equals(bytes.Equal(got, want), harmless))
			if fault == "dies" {
				qt.Check(t, qt.ErrorIs(err, errBroken))
			}
		})
	}
	asking.Wait()
	if finish && fault == "stalls" {
		// The fetch waits for the origin for as long as the cache is open.
		qt.Check(t, qt.IsNil(c.Close()))
		c = ociunify.NewCache(cache, origin, nil)
	}
	synctest.Wait()
	if !harmless {
		repos, err := ociregistry.All(cache.Repositories(t.Context(), ""))
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(repos, 0))
	}
	origin.setBody(nil)
	qt.Check(t, qt.IsNil(image.Verify(t.Context(), c, "foo")))
	got, err := ask(t.Context())
	wantBytes(t, got, err, want)
	qt.Check(t, qt.IsNil(c.Close()))
}

// stingy is a cache registry whose PushBlob accepts some bytes, and then fails or claims
// success.
type stingy struct {
	*ocimem.Registry
	takes int64
	then  string
}

var errStingy = errors.New("no space left on device")

func (s *stingy) PushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, r io.Reader) (ociregistry.Descriptor, error) {
	if _, err := io.CopyN(io.Discard, r, s.takes); err != nil {
		return ociregistry.Descriptor{}, err
	}
	if s.then == "lies" {
		return desc, nil
	}
	return ociregistry.Descriptor{}, errStingy
}

// A cache registry that stops accepting a blob at any point does not disturb its readers.
// Neither does one that has not stored what it claims.
func TestCache_CacheRegistryThatStopsTakingABlobDisturbsNobody(t *testing.T) {
	t.Parallel()
	for _, then := range []string{"fails", "lies"} {
		for _, takes := range []int64{0, 1, 150_000, 299_999, 300_000} {
			t.Run(fmt.Sprint(then, takes), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					mem := ocimem.New()
					origin := count(mem)
					layer := pushed(t, mem, "foo", 1).Blobs[2]
					var log logLines
					c := ociunify.NewCache(&stingy{ocimem.New(), takes, then}, origin, &ociunify.CacheOptions{MaxBytes: 1 << 20, Logger: log.logger()})
					for range 2 {
						got, err := readBlob(t.Context(), c, "foo", layer.Descriptor.Digest)
						wantBytes(t, got, err, layer.Bytes())
						synctest.Wait()
					}
					qt.Check(t, qt.Equals(origin.number("GetBlob"), 2))
					qt.Check(t, qt.Equals(log.has("cannot keep a blob"), then == "fails"))
					qt.Check(t, qt.IsNil(c.Close()))
				})
			})
		}
	}
}

// A blob of the cache registry is passed through: if reading it fails, the caller gets
// the error. A manifest is fetched again.
func TestCache_HitThatBreaksIsAnError(t *testing.T) {
	t.Parallel()
	mem, kept := ocimem.New(), ocimem.New()
	image := pushed(t, mem, "foo", 1, "v1")
	filling := ociunify.NewCache(kept, mem, nil)
	qt.Assert(t, qt.IsNil(image.Verify(t.Context(), filling, "foo")))
	wantTag(t, filling, "foo", "v1", image)
	qt.Assert(t, qt.IsNil(filling.Close()))
	cache, origin := count(kept), count(mem)
	c := newCache(t, cache, origin, nil)
	for _, at := range []int64{0, 10, 99} {
		cache.setBody(func(rd ociregistry.BlobReader) ociregistry.BlobReader { return newFaulty(rd, "dies", at) })
		got, err := readBlob(t.Context(), c, "foo", image.Blobs[1].Descriptor.Digest)
		qt.Check(t, qt.ErrorIs(err, errBroken))
		qt.Check(t, qt.HasLen(got, max(int(at)-1, 0))) // one byte is held back
		got, err = readAll(c.GetTag(t.Context(), "foo", "v1"))
		wantBytes(t, got, err, image.Manifest)
		qt.Check(t, qt.Equals(origin.took(), "GetTag"))
	}
}

// The client of an origin over HTTP verifies content, and the cache does not. No caller
// gets wrong content all the same.
func TestCache_ServesNoWrongContentOfARemoteOrigin(t *testing.T) {
	t.Parallel()
	mem := ocimem.New()
	served := count(mem)
	image := pushed(t, mem, "foo", 1, "v1")
	layer := image.Blobs[2]
	origin := remote(t, served)
	for _, fault := range []string{"dies", "truncates", "corrupts"} {
		for _, at := range []int64{0, 1, 150_000, 299_999} {
			cache := ocimem.New()
			c := newCache(t, cache, origin, nil)
			served.setBody(func(rd ociregistry.BlobReader) ociregistry.BlobReader { return newFaulty(rd, fault, at) })
			got, err := readBlob(t.Context(), c, "foo", layer.Descriptor.Digest)
			// The client resumes an answer that breaks off.
			qt.Check(t, qt.Equals(err == nil, bytes.Equal(got, layer.Bytes())), qt.Commentf("%s at %d: %v", fault, at, err))
			if fault == "corrupts" {
				qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
			}
			served.setBody(nil)
			got, err = readBlob(t.Context(), c, "foo", layer.Descriptor.Digest)
			wantBytes(t, got, err, layer.Bytes())
		}
	}
}

// Each call of the cache registry fails in turn, then all of them. Callers get the right
// content all the same.
func TestCache_ServesTheOriginWhenCacheRegistryFails(t *testing.T) {
	t.Parallel()
	methods := []string{
		"", "GetBlob", "GetBlobRange", "GetManifest", "GetTag", "ResolveBlob", "ResolveManifest", "ResolveTag",
		"PushBlob", "PushManifest", "DeleteBlob", "DeleteManifest", "DeleteTag", "Tags", "Referrers",
	}
	for _, method := range methods {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				mem := ocimem.New()
				cache := count(ocimem.New())
				image := pushed(t, mem, "foo", 1, "v1")
				other := pushed(t, mem, "foo", 2, "v2")
				reg := ocitest.NewRegistry(t, mem)
				reg.MustPush("foo", ocitest.NewImage(ocitest.Spec{ArtifactType: "text/plain", Subject: &image.Descriptor}))
				var log logLines
				opts := &ociunify.CacheOptions{MaxBytes: 350_000, TagTTL: time.Minute, Logger: log.logger()}
				c := ociunify.NewCache(cache, mem, opts)
				use := func() {
					t.Helper()
					for _, a := range []*ocitest.Artifact{image, other} {
						qt.Check(t, qt.IsNil(a.Verify(ctx, c, "foo")))
						got, err := readAll(c.GetBlobRange(ctx, "foo", a.Blobs[2].Descriptor.Digest, 5, 15))
						wantBytes(t, got, err, a.Blobs[2].Bytes()[5:15])
						_, err = c.ResolveBlob(ctx, "foo", a.Blobs[2].Descriptor.Digest)
						qt.Check(t, qt.IsNil(err))
						_, err = c.ResolveManifest(ctx, "foo", a.Descriptor.Digest)
						qt.Check(t, qt.IsNil(err))
						synctest.Wait()
					}
					for range 2 {
						wantTag(t, c, "foo", "v1", image)
						wantTag(t, c, "foo", "v2", other)
						_, err := c.ResolveTag(ctx, "foo", "v1")
						qt.Check(t, qt.IsNil(err))
					}
					referrers, err := ociregistry.All(c.Referrers(ctx, "foo", image.Descriptor.Digest, ""))
					qt.Check(t, qt.IsNil(err))
					qt.Check(t, qt.HasLen(referrers, 1))
				}
				cache.set(method, errBroken)
				use()
				use()
				if method == "" || method == "PushBlob" {
					qt.Check(t, qt.IsTrue(log.has("cannot keep")))
				}
				cache.set(method, nil)
				use()
				qt.Check(t, qt.IsNil(c.Close()))
			})
		})
	}
}

// A push to the cache registry that fails in the middle of a blob disturbs no caller.
func TestCache_ServesTheOriginWhenCacheRegistryIsFull(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	mem := ocimem.New()
	image := pushed(t, mem, "foo", 1, "v1")
	var log logLines
	c := newCache(t, ocimem.NewWithConfig(&ocimem.Config{MaxBytes: 100_000}), mem, &ociunify.CacheOptions{Logger: log.logger()})
	for range 2 {
		qt.Check(t, qt.IsNil(image.Verify(ctx, c, "foo")))
	}
	qt.Check(t, qt.IsNil(c.Close()))
	qt.Check(t, qt.IsTrue(log.has("cannot keep a blob")))
}
