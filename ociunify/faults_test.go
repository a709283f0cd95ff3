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
	"github.com/seed-40b21970/oci/ociunify"
)

// faulty reads a content up to where the fault is.
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
				p[0], n = 'x', 1 // there is nothing left but to add something
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

// TestFaultsAtEveryStage lets the origin die, stall, truncate and corrupt at every
// stage of a miss, while several callers wait, of which some leave. Nobody gets
// content that is wrong, everybody gets an answer, and nothing is left running: the
// test would not end. Then all is well again.
func TestFaultsAtEveryStage(t *testing.T) {
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
	// What ends where it should is no fault.
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

// stingy is a cache registry whose PushBlob takes some bytes, and then fails, does
// not end before its context, or says that all is well.
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

// A cache registry that stops to take a blob at any point disturbs nobody who reads
// it, and neither does one that has not stored what it said it had.
func TestBehaviour09_CacheStopsToTake(t *testing.T) {
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

// What the cache registry has is handed through: if it breaks while it is read, the
// caller has the error. A manifest is fetched again.
func TestBehaviour09_HitBreaks(t *testing.T) {
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

// An origin over HTTP, whose client verifies what it reads: the cache does not, and
// nothing wrong reaches anybody all the same.
func TestBehaviour05_FaultsOverHTTP(t *testing.T) {
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
			// The client goes on by itself where an answer breaks off.
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
