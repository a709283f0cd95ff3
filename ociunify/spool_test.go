package ociunify_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"sync"
	"sync/atomic"
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

const spoolBound = 2 << 20

// endless is a blob without end that counts the bytes that are read.
type endless struct {
	desc   ociregistry.Descriptor
	n      atomic.Int64
	closed atomic.Bool
}

func (e *endless) Descriptor() ociregistry.Descriptor { return e.desc }

func (e *endless) Read(p []byte) (int, error) {
	if e.closed.Load() {
		return 0, io.ErrClosedPipe
	}
	e.n.Add(int64(len(p)))
	return len(p), nil
}

func (e *endless) Close() error {
	e.closed.Store(true)
	return nil
}

// When nobody reads a blob, no more of it is fetched than the spool can hold.
func TestCache_BoundsTheSpool(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		size  int64
		opts  ociunify.CacheOptions
		bound int64
	}{
		"unknown size":           {-1, ociunify.CacheOptions{MaxSpool: spoolBound}, spoolBound},
		"large":                  {1 << 50, ociunify.CacheOptions{MaxSpool: spoolBound}, spoolBound},
		"larger than what fits":  {1 << 50, ociunify.CacheOptions{MaxBytes: 3 << 20}, 3 << 20},
		"unknown, and a bound":   {-1, ociunify.CacheOptions{MaxBytes: 3 << 20}, 3 << 20},
		"to be finished":         {-1, ociunify.CacheOptions{MaxSpool: spoolBound, FinishFetches: true}, spoolBound},
		"larger, to be finished": {1 << 50, ociunify.CacheOptions{MaxBytes: 3 << 20, FinishFetches: true}, 3 << 20},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := digest.FromString("x")
				blob := &endless{desc: ociregistry.Descriptor{Digest: d, Size: test.size}}
				origin := &ociregistry.Funcs{GetBlob_: func(context.Context, string, ociregistry.Digest) (ociregistry.BlobReader, error) { return blob, nil }}
				test.opts.TempDir = t.TempDir()
				c := ociunify.NewCache(ocimem.New(), origin, &test.opts)
				rd, err := c.GetBlob(t.Context(), "foo", d)
				qt.Assert(t, qt.IsNil(err))
				time.Sleep(time.Hour) // the cache registry is waited for no longer
				synctest.Wait()
				most := test.bound + 256<<10
				qt.Check(t, qt.IsTrue(blob.n.Load() <= most), qt.Commentf("%d bytes were read", blob.n.Load()))
				qt.Check(t, qt.IsTrue(blob.n.Load() > test.bound-1<<20), qt.Commentf("%d bytes were read", blob.n.Load()))

				// The fetch continues as far as the blob is read.
				n, err := io.CopyN(io.Discard, rd, 5<<20)
				qt.Check(t, qt.IsNil(err))
				synctest.Wait()
				qt.Check(t, qt.IsTrue(blob.n.Load() <= most+n), qt.Commentf("%d bytes were read", blob.n.Load()))
				qt.Check(t, qt.IsFalse(blob.closed.Load()))
				qt.Check(t, qt.IsNil(rd.Close()))
				time.Sleep(time.Hour)
				synctest.Wait()
				qt.Check(t, qt.IsTrue(blob.closed.Load()))
				qt.Check(t, qt.IsNil(c.Close()))
			})
		})
	}
}

// large is a cache with a blob that does not fit in the spool.
type large struct {
	*ociunify.Cache
	origin *counted
	kept   ociregistry.Interface
	blob   ocitest.Blob
}

func newLarge(t *testing.T, opts ociunify.CacheOptions) *large {
	return newLargeIn(t, ocimem.New(), opts)
}

func newLargeIn(t *testing.T, kept ociregistry.Interface, opts ociunify.CacheOptions) *large {
	mem := ocimem.New()
	blob := ocitest.NewBlob(1, 8<<20)
	_, err := mem.PushBlob(t.Context(), "foo", blob.Descriptor, blob.NewReader())
	qt.Assert(t, qt.IsNil(err))
	origin := count(mem)
	opts.MaxSpool, opts.TempDir = spoolBound, t.TempDir()
	return &large{ociunify.NewCache(kept, origin, &opts), origin, kept, blob}
}

func (l *large) get(t *testing.T) ociregistry.BlobReader {
	t.Helper()
	rd, err := l.GetBlob(t.Context(), "foo", l.blob.Descriptor.Digest)
	qt.Assert(t, qt.IsNil(err))
	return rd
}

func (l *large) isKept(t *testing.T) bool {
	_, err := l.kept.ResolveBlob(t.Context(), "foo", l.blob.Descriptor.Digest)
	return err == nil
}

// A reader that is too far behind continues from the cache registry if the blob is kept,
// or else from the origin. Its content is verified all the same.
func TestCache_ReaderThatIsBehindContinuesElsewhere(t *testing.T) {
	t.Parallel()
	for _, bound := range []int64{0, 4 << 20} {
		for _, begun := range []int64{0, 1, 300_000, 1_000_000} {
			synctest.Test(t, func(t *testing.T) {
				l := newLarge(t, ociunify.CacheOptions{MaxBytes: bound})
				slow, fast := l.get(t), l.get(t)
				head := make([]byte, begun)
				_, err := io.ReadFull(slow, head)
				qt.Assert(t, qt.IsNil(err))
				got, err := readAll(fast, nil)
				wantBytes(t, got, err, l.blob.Bytes())
				synctest.Wait()
				qt.Check(t, qt.Equals(l.isKept(t), bound == 0))
				rest, err := readAll(slow, nil)
				wantBytes(t, append(head, rest...), err, l.blob.Bytes())
				switch {
				case begun == 0:
					qt.Check(t, qt.Equals(l.origin.took(), "GetBlob GetBlob"))
				case bound > 0:
					qt.Check(t, qt.Equals(l.origin.took(), "GetBlob GetBlobRange"))
				default:
					qt.Check(t, qt.Equals(l.origin.took(), "GetBlob"))
				}
				qt.Check(t, qt.IsNil(l.Close()))
			})
		}
	}
}

// slowContext takes its time whenever it is asked for.
type slowContext struct{ context.Context }

func (c slowContext) Done() <-chan struct{} {
	time.Sleep(time.Second)
	return c.Context.Done()
}

// A fetch discards nothing before those have their readers for whom it began, or who have joined
// it, however fast the cache registry takes the blob.
func TestCache_WaitsForReadersThatAreAboutToRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLarge(t, ociunify.CacheOptions{})
		rd, err := l.GetBlob(slowContext{t.Context()}, "foo", l.blob.Descriptor.Digest)
		qt.Assert(t, qt.IsNil(err))
		got, err := readAll(rd, nil)
		wantBytes(t, got, err, l.blob.Bytes())
		synctest.Wait()
		qt.Check(t, qt.Equals(l.origin.took(), "GetBlob"))
		qt.Check(t, qt.IsTrue(l.isKept(t)))
		qt.Check(t, qt.IsNil(l.Close()))
	})
}

// Content that the origin sends to a reader that was behind is verified.
func TestCache_VerifiesWhatAReaderThatIsBehindReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLarge(t, ociunify.CacheOptions{MaxBytes: 4 << 20})
		inner := l.origin.GetBlobRange_
		l.origin.GetBlobRange_ = func(ctx context.Context, repo string, d ociregistry.Digest, o0, o1 int64) (ociregistry.BlobReader, error) {
			rd, err := inner(ctx, repo, d, o0, o1)
			return newFaulty(rd, "corrupts", 10_000), err
		}
		slow, fast := l.get(t), l.get(t)
		n, err := io.CopyN(io.Discard, slow, 500_000)
		qt.Assert(t, qt.IsNil(err))
		got, err := readAll(fast, nil)
		wantBytes(t, got, err, l.blob.Bytes())
		rest, err := readAll(slow, nil)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
		qt.Check(t, qt.IsTrue(n+int64(len(rest)) < l.blob.Descriptor.Size))
		qt.Check(t, qt.IsNil(l.Close()))
	})
}

// A reader that was behind notices damage in the rest of a blob that is kept.
func TestCache_ReaderThatIsBehindFindsDamage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kept := &rotten{Interface: ocimem.New()}
		l := newLargeIn(t, kept, ociunify.CacheOptions{})
		kept.of = l.blob.Descriptor.Digest
		slow, fast := l.get(t), l.get(t)
		_, err := io.CopyN(io.Discard, slow, 500_000)
		qt.Assert(t, qt.IsNil(err))
		got, err := readAll(fast, nil)
		wantBytes(t, got, err, l.blob.Bytes())
		synctest.Wait()
		kept.damage = damage["last byte"]
		_, err = readAll(slow, nil)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
		qt.Check(t, qt.IsFalse(l.isKept(t)))
		qt.Check(t, qt.IsNil(l.Close()))
	})
}

// A reader that comes when the spool has lost the beginning makes its own request, also
// for a range.
func TestCache_LateReaderOfALargeBlobReadsOnItsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLarge(t, ociunify.CacheOptions{})
		d := l.blob.Descriptor.Digest
		first := l.get(t)
		head := make([]byte, 5<<20)
		_, err := io.ReadFull(first, head)
		qt.Assert(t, qt.IsNil(err))
		synctest.Wait()
		late := l.get(t)
		part, err := readAll(l.GetBlobRange(t.Context(), "foo", d, 10, 20))
		wantBytes(t, part, err, l.blob.Bytes()[10:20])
		part, err = readAll(l.GetBlobRange(t.Context(), "foo", d, 5<<20, 5<<20+10))
		wantBytes(t, part, err, l.blob.Bytes()[5<<20:5<<20+10])
		got, err := readAll(late, nil)
		wantBytes(t, got, err, l.blob.Bytes())
		qt.Check(t, qt.Equals(l.origin.took(), "GetBlob GetBlobRange GetBlob"))
		rest, err := readAll(first, nil)
		wantBytes(t, append(head, rest...), err, l.blob.Bytes())
		synctest.Wait()
		qt.Check(t, qt.IsTrue(l.isKept(t)))
		qt.Check(t, qt.IsNil(l.Close()))
	})
}

// The fetch waits for its only reader for any time, and the origin does not stall then.
func TestCache_OnlyReaderHoldsTheOriginBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLarge(t, ociunify.CacheOptions{})
		rd := l.get(t)
		var got bytes.Buffer
		for range 8 {
			time.Sleep(time.Hour)
			_, err := io.CopyN(&got, rd, 1<<20)
			qt.Assert(t, qt.IsNil(err))
		}
		rest, err := readAll(rd, nil)
		wantBytes(t, append(got.Bytes(), rest...), err, l.blob.Bytes())
		qt.Check(t, qt.Equals(l.origin.took(), "GetBlob"))
		synctest.Wait()
		qt.Check(t, qt.IsTrue(l.isKept(t)))
		qt.Check(t, qt.IsNil(l.Close()))
	})
}

// Many readers at different speeds, some of which leave, all get the right bytes.
func TestCache_ReadersOfAnySpeedGetAllBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLarge(t, ociunify.CacheOptions{})
		var reading sync.WaitGroup
		for i := range 20 {
			rd := l.get(t)
			reading.Go(func() {
				defer rd.Close()
				h := sha256.New()
				for n := int64(0); ; n++ {
					time.Sleep(time.Duration(i) * time.Millisecond)
					_, err := io.CopyN(h, rd, 100_000)
					if err == io.EOF {
						break
					}
					qt.Check(t, qt.IsNil(err))
					if i%5 == 4 && n == int64(3*i) {
						return
					}
				}
				qt.Check(t, qt.Equals(digest.NewDigest(digest.SHA256, h), l.blob.Descriptor.Digest))
			})
		}
		reading.Wait()
		synctest.Wait()
		qt.Check(t, qt.IsTrue(l.isKept(t)))
		qt.Check(t, qt.IsNil(l.Close()))
	})
}

// stuck is a registry that accepts some bytes of a blob and then nothing.
type stuck struct {
	ociregistry.Interface
	takes int64
}

func (s stuck) PushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, r io.Reader) (ociregistry.Descriptor, error) {
	io.CopyN(io.Discard, r, s.takes)
	<-ctx.Done()
	return ociregistry.Descriptor{}, ctx.Err()
}

// The fetch does not wait for ever for a cache registry that accepts nothing.
func TestCache_DoesNotWaitForACacheRegistryThatTakesNothing(t *testing.T) {
	t.Parallel()
	for _, takes := range []int64{0, 1, 3 << 20} {
		synctest.Test(t, func(t *testing.T) {
			l := newLarge(t, ociunify.CacheOptions{})
			var log logLines
			c := ociunify.NewCache(stuck{l.kept, takes}, l.origin, &ociunify.CacheOptions{MaxSpool: spoolBound, Logger: log.logger()})
			start := time.Now()
			got, err := readBlob(t.Context(), c, "foo", l.blob.Descriptor.Digest)
			wantBytes(t, got, err, l.blob.Bytes())
			qt.Check(t, qt.Equals(time.Since(start), 30*time.Second))
			synctest.Wait()
			qt.Check(t, qt.IsTrue(log.has("cannot keep a blob")))
			qt.Check(t, qt.IsNil(c.Close()))
			qt.Check(t, qt.IsNil(l.Close()))
		})
	}
}

// With FinishFetches, a fetch continues without readers if the blob is kept.
func TestCache_FinishesALargeBlobWithoutReaders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLarge(t, ociunify.CacheOptions{FinishFetches: true})
		rd := l.get(t)
		qt.Check(t, qt.IsNil(rd.Close()))
		synctest.Wait()
		qt.Check(t, qt.IsTrue(l.isKept(t)))
		qt.Check(t, qt.IsNil(l.Close()))
	})
}

// A large blob of unknown size is passed on, and not kept.
func TestCache_PassesOnALargeBlobOfUnknownSize(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLarge(t, ociunify.CacheOptions{})
		l.origin.setBody(func(rd ociregistry.BlobReader) ociregistry.BlobReader {
			return withDescriptor{rd, ociregistry.Descriptor{Size: -1}}
		})
		for range 2 {
			got, err := readAll(l.get(t), nil)
			wantBytes(t, got, err, l.blob.Bytes())
			synctest.Wait()
		}
		qt.Check(t, qt.Equals(l.origin.took(), "GetBlob GetBlob"))
		qt.Check(t, qt.IsFalse(l.isKept(t)))
		qt.Check(t, qt.IsNil(l.Close()))
	})
}

// A reader that has left a fetch for its own request does not wait for the fetch, which
// another reader may hold back for ever.
func TestCache_ReaderWithItsOwnRequestDoesNotWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLarge(t, ociunify.CacheOptions{MaxBytes: 1 << 20}) // it is not kept
		behind, slow := l.get(t), l.get(t)
		_, err := io.CopyN(io.Discard, slow, 4<<20)
		qt.Assert(t, qt.IsNil(err))
		synctest.Wait()
		var got bytes.Buffer
		_, err = behind.(io.WriterTo).WriteTo(&got)
		wantBytes(t, got.Bytes(), err, l.blob.Bytes())
		qt.Check(t, qt.IsNil(slow.Close()))
		qt.Check(t, qt.IsNil(behind.Close()))
		qt.Check(t, qt.IsNil(l.Close()))
	})
}
