package ocibucket

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// smallParts are options with which small content has many parts.
var smallParts = Options{PartSize: minPartSize}

// twoProcesses returns two registries in one bucket.
func twoProcesses(t testing.TB, store *memstore.Store) (a, b *Registry) {
	return mustOpen(t, store, &smallParts), mustOpen(t, store, &smallParts)
}

func wantContent(t testing.TB, r *Registry, repo string, d ociregistry.Digest, want []byte) {
	t.Helper()
	rd, err := r.GetBlob(t.Context(), repo, d)
	qt.Assert(t, qt.IsNil(err))
	ocitest.CheckContent(t, rd, want, "")
}

// Any process goes on with a session, whatever it is made of by then: bytes in it, a tail, or parts.
func TestSessions_GoOnInAnotherProcess(t *testing.T) {
	t.Parallel()
	const k = 1 << 10
	for _, chunks := range [][]int{
		{0}, {1}, {64 * k}, {64*k + 1}, {100 * k}, {128 * k}, {300 * k}, {1000 * k},
		{10, 20, 30}, {60 * k, 10 * k, 10 * k}, {100 * k, 100 * k, 100 * k}, {200 * k, 0, 1, 70 * k, 500 * k}, {600 * k, 600 * k, 1}, {1, 900 * k, 80 * k},
	} {
		for _, named := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			store := memstore.New(&memstore.Options{MinPartSize: 100 * k})
			a, b := twoProcesses(t, store)
			size := 0
			for _, n := range chunks {
				size += n
			}
			data := ocitest.NewBlob(uint64(size), int64(size)).Bytes()
			w, err := a.PushBlobChunked(t.Context(), "app", 0)
			qt.Assert(t, qt.IsNil(err))
			for i, n := range chunks {
				_, err := w.Write(data[w.Size() : w.Size()+int64(n)])
				qt.Assert(t, qt.IsNil(err), qt.Commentf("%v", chunks))
				qt.Assert(t, qt.IsNil(w.Close()))
				r := [2]*Registry{b, a}[i%2]
				offset := [2]int64{-1, w.Size()}[i/2%2]
				w, err = r.PushBlobChunkedResume(t.Context(), "app", w.ID(), offset, 0)
				qt.Assert(t, qt.IsNil(err), qt.Commentf("%v", chunks))
			}
			d := named.FromBytes(data)
			_, err = w.Commit(d)
			qt.Assert(t, qt.IsNil(err), qt.Commentf("%v", chunks))
			wantContent(t, a, "app", d, data)
			for _, r := range []*Registry{a, b} {
				_, err = r.PushBlobChunkedResume(t.Context(), "app", w.ID(), -1, 0)
				qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUploadUnknown)))
			}
		}
	}
}

// What a writer was not told to be kept must not replace what another one was.
func TestSessions_OneOfTwoProcessesAppends(t *testing.T) {
	t.Parallel()
	const size = 700_000
	for _, before := range []int{0, 100, 200_000, 500_000} {
		store := memstore.New(nil)
		a, b := twoProcesses(t, store)
		head := ocitest.NewBlob(1, int64(before)).Bytes()
		w, err := a.PushBlobChunked(t.Context(), "app", 0)
		qt.Assert(t, qt.IsNil(err))
		_, err = w.Write(head)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(w.Close()))
		var writers [2]ociregistry.BlobWriter
		var tails [2][]byte
		for i, r := range []*Registry{a, b} {
			writers[i], err = r.PushBlobChunkedResume(t.Context(), "app", w.ID(), -1, 0)
			qt.Assert(t, qt.IsNil(err))
			tails[i] = ocitest.NewBlob(uint64(2+i), size).Bytes()
		}
		var errs [2]error
		for at := 0; at < size; at += 100_000 { // in turns
			for i, w := range writers {
				if errs[i] == nil {
					_, errs[i] = w.Write(tails[i][at : at+100_000])
				}
			}
		}
		for i, w := range writers {
			errs[i] = errors.Join(errs[i], w.Close())
		}
		qt.Assert(t, qt.IsTrue((errs[0] == nil) != (errs[1] == nil)), qt.Commentf("%v", errs))
		winner := 0
		if errs[0] != nil {
			winner = 1
		}
		qt.Check(t, qt.ErrorIs(errs[1-winner], error(ociregistry.ErrRangeInvalid)))
		w, err = a.PushBlobChunkedResume(t.Context(), "app", w.ID(), -1, 0)
		qt.Assert(t, qt.IsNil(err))
		data := append(bytes.Clone(head), tails[winner]...)
		_, err = w.Commit(digest.FromBytes(data))
		qt.Assert(t, qt.IsNil(err))
		wantContent(t, b, "app", digest.FromBytes(data), data)
	}
}

// refusing returns a store that refuses one write, of a key that has a part.
func refusing(part string) *memstore.Store {
	var refused atomic.Bool
	return memstore.New(&memstore.Options{Fault: func(req memstore.Request) memstore.Fault {
		if req.Write && strings.Contains(req.Key, part) && !refused.Swap(true) {
			return memstore.Fault{Kind: objstore.ErrDenied}
		}
		return memstore.Fault{}
	}})
}

func TestSessions_ACommitThatWasBrokenOffIsFinishedByAnother(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"c/app!", "e/app!", "b/sha256/", "/r/app!", "r/app!/b/"} {
		for _, size := range []int64{100, 200_000, 600_000} {
			a, b := twoProcesses(t, refusing(part))
			blob := ocitest.NewBlob(1, size)
			w, err := a.PushBlobChunked(t.Context(), "app", 0)
			qt.Assert(t, qt.IsNil(err))
			_, err = w.Write(blob.Bytes())
			qt.Assert(t, qt.IsNil(err))
			_, err = w.Commit(blob.Descriptor.Digest)
			qt.Assert(t, qt.ErrorIs(err, objstore.ErrDenied), qt.Commentf("%s", part))
			other, err := b.PushBlobChunkedResume(t.Context(), "app", w.ID(), -1, 0)
			qt.Assert(t, qt.IsNil(err))
			_, err = other.Write([]byte("x"))
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUploadInvalid)))
			qt.Check(t, qt.ErrorIs(other.Cancel(), error(ociregistry.ErrBlobUploadInvalid)))
			_, err = b.PushBlobChunkedResume(t.Context(), "app", w.ID(), size+1, 0)
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrRangeInvalid)))
			other, err = b.PushBlobChunkedResume(t.Context(), "app", w.ID(), size, 0)
			qt.Assert(t, qt.IsNil(err))
			_, err = other.Commit(blob.Descriptor.Digest)
			qt.Assert(t, qt.IsNil(err))
			wantContent(t, a, "app", blob.Descriptor.Digest, blob.Bytes())
		}
	}
}

// A Close without an error is a promise.
func TestSessions_CloseTellsThatBytesAreLost(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{100, 100_000, 900_000} {
		r := mustOpen(t, memstore.New(&memstore.Options{Fault: func(req memstore.Request) memstore.Fault {
			if req.Write && (req.Condition.IfMatch != "" || req.Op == "PutPart") {
				return memstore.Fault{Kind: objstore.ErrDenied}
			}
			return memstore.Fault{}
		}}), &smallParts)
		w, err := r.PushBlobChunked(t.Context(), "app", 0)
		qt.Assert(t, qt.IsNil(err))
		_, err = w.Write(ocitest.NewBlob(1, size).Bytes())
		qt.Check(t, qt.IsNotNil(errors.Join(err, w.Close())))
		again, err := r.PushBlobChunkedResume(t.Context(), "app", w.ID(), -1, 0)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(again.Size(), 0))
	}
}

func TestSessions_ExpireWhenNobodyContinuesThem(t *testing.T) {
	t.Parallel()
	g := newGarden(t)
	w, err := g.PushBlobChunked(g.ctx, "app", 0)
	g.must(err)
	g.must(w.Close())
	g.wait(DefaultUploadExpiry - time.Hour)
	_, err = g.PushBlobChunkedResume(g.ctx, "app", w.ID(), -1, 0)
	g.must(err)
	g.wait(2 * time.Hour)
	_, err = g.PushBlobChunkedResume(g.ctx, "app", w.ID(), -1, 0)
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUploadUnknown)))
}

func TestSessions_AnAnswerIsPromptWhenTheStoreHangs(t *testing.T) {
	t.Parallel()
	var hang atomic.Bool
	r := mustOpen(t, memstore.New(&memstore.Options{Fault: func(req memstore.Request) memstore.Fault {
		if hang.Load() {
			return memstore.Fault{Delay: time.Hour}
		}
		return memstore.Fault{}
	}}), &smallParts)
	ctx, cancel := context.WithCancel(t.Context())
	w, err := r.PushBlobChunked(ctx, "app", 0)
	qt.Assert(t, qt.IsNil(err))
	hang.Store(true)
	time.AfterFunc(10*time.Millisecond, cancel)
	_, err = w.Write(make([]byte, 10<<20))
	qt.Check(t, qt.ErrorIs(err, context.Canceled))
	hang.Store(false)
}

// whileCommitting returns a store that calls a function once, when a session is committing.
func whileCommitting(meanwhile *func()) *memstore.Store {
	return memstore.New(&memstore.Options{Fault: func(req memstore.Request) memstore.Fault {
		if f := *meanwhile; f != nil && strings.HasPrefix(req.Key, "b/") {
			*meanwhile = nil
			f()
		}
		return memstore.Fault{}
	}})
}

// parked returns the ID of a session with some content.
func parked(t testing.TB, r *Registry, data []byte) string {
	w, err := r.PushBlobChunked(t.Context(), "app", 0)
	qt.Assert(t, qt.IsNil(err))
	_, err = w.Write(data)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(w.Close()))
	return w.ID()
}

func resumed(t testing.TB, r *Registry, id string, offset int64) ociregistry.BlobWriter {
	w, err := r.PushBlobChunkedResume(t.Context(), "app", id, offset, 0)
	qt.Assert(t, qt.IsNil(err))
	return w
}

// A session that another process commits has not ended before that has succeeded, but takes nothing.
func TestSession_ThatIsBeingCommittedCanOnlyBeCommitted(t *testing.T) {
	t.Parallel()
	var meanwhile func()
	a, b := twoProcesses(t, whileCommitting(&meanwhile))
	blob := ocitest.NewBlob(1, 100)
	id := parked(t, a, blob.Bytes())
	late := resumed(t, a, id, 100)
	_, err := late.Write([]byte("more"))
	qt.Assert(t, qt.IsNil(err))
	other := resumed(t, b, id, 100)
	asked := false
	meanwhile = func() {
		asked = true
		qt.Check(t, qt.Equals(resumed(t, a, id, -1).Size(), 100)) // what late has written is lost
		qt.Check(t, qt.ErrorIs(late.Close(), error(ociregistry.ErrBlobUploadInvalid)))
		_, err := a.PushBlobChunkedResume(t.Context(), "app", id, 104, 0)
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrRangeInvalid)))
		qt.Check(t, qt.Equals(resumed(t, a, id, -1).Size(), 100))
		qt.Check(t, qt.ErrorIs(resumed(t, a, id, 100).Cancel(), error(ociregistry.ErrBlobUploadInvalid)))
	}
	_, err = other.Commit(blob.Descriptor.Digest)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(asked))
	wantContent(t, a, "app", blob.Descriptor.Digest, blob.Bytes())
	_, err = a.PushBlobChunkedResume(t.Context(), "app", id, -1, 0)
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUploadUnknown)))
}

// A process that has seen another one commit a session knows when that has ended.
func TestSession_ThatWasBeingCommittedIsUnknownAfterThat(t *testing.T) {
	t.Parallel()
	blob := ocitest.NewBlob(1, 100)
	for name, use := range map[string]func(w ociregistry.BlobWriter) error{
		"Write": func(w ociregistry.BlobWriter) error {
			_, err := w.Write([]byte("more"))
			return err
		},
		"Commit": func(w ociregistry.BlobWriter) error {
			_, err := w.Commit(blob.Descriptor.Digest)
			return err
		},
		"Cancel": ociregistry.BlobWriter.Cancel,
	} {
		var meanwhile func()
		a, b := twoProcesses(t, whileCommitting(&meanwhile))
		id := parked(t, b, blob.Bytes())
		held := resumed(t, a, id, 100)
		meanwhile = func() {
			_, err := resumed(t, a, id, -1).Write([]byte("more"))
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUploadInvalid)), qt.Commentf(name))
		}
		_, err := resumed(t, b, id, 100).Commit(blob.Descriptor.Digest)
		qt.Assert(t, qt.IsNil(err))
		err = use(held)
		if name == "Cancel" {
			qt.Check(t, qt.IsNil(err)) // it has ended
		} else {
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUploadUnknown)), qt.Commentf(name))
		}
		_, err = a.PushBlobChunkedResume(t.Context(), "app", id, 100, 0)
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUploadUnknown)), qt.Commentf(name))
	}
}

// Who saw the blob there must not be told that the session was unknown: it was there by somebody's commit.
func TestSession_ThatIsCommittedTwiceAtOnceIsCommitted(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{100, 100_000} {
		var meanwhile func()
		a, b := twoProcesses(t, whileCommitting(&meanwhile))
		blob := ocitest.NewBlob(1, size)
		id := parked(t, a, blob.Bytes())
		commit := func(r *Registry) {
			_, err := resumed(t, r, id, size).Commit(blob.Descriptor.Digest)
			qt.Check(t, qt.IsNil(err))
			wantContent(t, a, "app", blob.Descriptor.Digest, blob.Bytes())
		}
		meanwhile = func() { commit(a) }
		commit(b)
		_, err := a.PushBlobChunkedResume(t.Context(), "app", id, -1, 0)
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUploadUnknown)))
	}
}

// A commit that was broken off when the blob was there does not bring it back after a delete.
func TestSession_ThatBecameABlobDoesNotBringItBack(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{100, 100_000} {
		var published, broken atomic.Bool
		store := memstore.New(&memstore.Options{Fault: func(req memstore.Request) memstore.Fault {
			switch {
			case req.Write && strings.HasPrefix(req.Key, "r/app!/b/"):
				published.Store(true)
			case req.Write && strings.HasPrefix(req.Key, "u/") && published.Load() && !broken.Swap(true):
				return memstore.Fault{Kind: objstore.ErrDenied}
			}
			return memstore.Fault{}
		}})
		a, b := twoProcesses(t, store)
		blob := ocitest.NewBlob(1, size)
		d := blob.Descriptor.Digest
		id := parked(t, a, blob.Bytes())
		first, second := resumed(t, a, id, size), resumed(t, b, id, size)
		_, err := first.Commit(d)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsTrue(broken.Load()))
		wantContent(t, b, "app", d, blob.Bytes())
		qt.Assert(t, qt.IsNil(b.DeleteBlob(t.Context(), "app", d)))
		_, err = second.Commit(d)
		qt.Check(t, qt.ErrorIs(err, objstore.ErrUnclear))
		_, err = a.ResolveBlob(t.Context(), "app", d)
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrNameUnknown)))
		_, err = b.PushBlobChunkedResume(t.Context(), "app", id, -1, 0)
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUploadUnknown)))
	}
}

// Who is told that a session is elsewhere, or where it is, is told what holds for all: what one writer has not
// saved may be lost.
func TestSession_IsWhereOthersFindIt(t *testing.T) {
	t.Parallel()
	for _, size := range []int{100, 100_000, 300_000} {
		a, b := twoProcesses(t, memstore.New(nil))
		data := ocitest.NewBlob(1, int64(size)).Bytes()
		for _, learn := range []func(late ociregistry.BlobWriter) int64{
			func(late ociregistry.BlobWriter) int64 { return resumed(t, a, late.ID(), -1).Size() },
			func(late ociregistry.BlobWriter) int64 {
				_, err := late.Write([]byte("other"))
				qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrRangeInvalid)))
				return int64(size)
			},
			func(late ociregistry.BlobWriter) int64 {
				_, err := late.Commit(digest.FromString(""))
				qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrRangeInvalid)))
				return int64(size)
			},
		} {
			id := parked(t, a, nil)
			late, w := resumed(t, a, id, 0), resumed(t, a, id, 0)
			_, err := w.Write(data)
			qt.Assert(t, qt.IsNil(err))
			told := learn(late)
			qt.Check(t, qt.Equals(told, int64(size)))
			other := resumed(t, b, id, -1)
			qt.Check(t, qt.Equals(other.Size(), told))
			qt.Check(t, qt.IsNil(w.Close()))
			_, err = other.Commit(digest.FromBytes(data))
			qt.Check(t, qt.IsNil(err))
		}
	}
}

// What one writer loses, another one of the same process may have written.
func TestSession_EachWriterIsToldThatItsBytesAreLost(t *testing.T) {
	t.Parallel()
	a, b := twoProcesses(t, memstore.New(nil))
	id := parked(t, a, nil)
	late, w, other := resumed(t, a, id, 0), resumed(t, a, id, 0), resumed(t, b, id, 0)
	_, err := w.Write([]byte("lost"))
	qt.Assert(t, qt.IsNil(err))
	_, err = other.Write([]byte("what is kept"))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(other.Close()))
	_, err = late.Write([]byte("late"))
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrRangeInvalid)))
	next := resumed(t, a, id, -1)
	qt.Check(t, qt.Equals(next.Size(), 12))
	qt.Check(t, qt.ErrorIs(w.Close(), error(ociregistry.ErrRangeInvalid)))
	_, err = next.Commit(digest.FromString("what is kept"))
	qt.Check(t, qt.IsNil(err))
}

// A process that has claimed numbers of parts, and died, has added nothing.
func TestSession_ClaimsOfOthersDoNotMoveIt(t *testing.T) {
	t.Parallel()
	for _, before := range []int{0, 100, 500_000} {
		a, b := twoProcesses(t, memstore.New(nil))
		data := ocitest.NewBlob(1, 1_500_000).Bytes()
		id := parked(t, a, data[:before])
		dead, w := resumed(t, b, id, int64(before)), resumed(t, a, id, int64(before))
		_, err := dead.Write(data[before : before+300_000]) // parts, and it is not closed
		qt.Assert(t, qt.IsNil(err))
		_, err = w.Write(data[before:])
		qt.Assert(t, qt.IsNil(err))
		_, err = w.Commit(digest.FromBytes(data))
		qt.Assert(t, qt.IsNil(err))
		wantContent(t, b, "app", digest.FromBytes(data), data)
		qt.Check(t, qt.IsNotNil(dead.Close()))
	}
}

// A commit by a wrong digest ends the session that its writer has seen, and no other.
func TestSession_WrongDigestDoesNotEndWhatOthersHaveAdded(t *testing.T) {
	t.Parallel()
	a, b := twoProcesses(t, memstore.New(nil))
	id := parked(t, a, []byte("some"))
	late, other := resumed(t, a, id, 4), resumed(t, b, id, 4)
	_, err := other.Write([]byte("thing"))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(other.Close()))
	_, err = late.Commit(digest.FromString("something"))
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrRangeInvalid)))
	_, err = resumed(t, b, id, 9).Commit(digest.FromString("something"))
	qt.Check(t, qt.IsNil(err))
}

// Who commits a session as it is need not know where it is, and gets what others have added.
func TestSession_IsCommittedAsOthersLeftIt(t *testing.T) {
	t.Parallel()
	for _, added := range []int{0, 10, 100_000, 600_000} {
		a, b := twoProcesses(t, memstore.New(nil))
		data := ocitest.NewBlob(1, int64(added)+20).Bytes()
		ctx := wire.WithCommitAsItIs(t.Context())
		for _, d := range []ociregistry.Digest{digest.FromBytes(data), digest.FromBytes(data[:20])} {
			id := parked(t, a, data[:20])
			if added > 0 {
				w := resumed(t, b, id, 20)
				_, err := w.Write(data[20:])
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.IsNil(w.Close()))
			}
			w, err := a.PushBlobChunkedResume(ctx, "app", id, -1, 0)
			qt.Assert(t, qt.IsNil(err))
			desc, err := w.Commit(d)
			if d == digest.FromBytes(data) {
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.Equals(desc.Size, int64(len(data))))
				wantContent(t, b, "app", d, data)
			} else {
				qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrDigestInvalid)))
			}
			_, err = b.PushBlobChunkedResume(t.Context(), "app", id, -1, 0)
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUploadUnknown)))
		}
	}
}

// A writer that commits its session as it is knows where that is when it is asked, as by a quota.
func TestSession_AsItIsHasItsSize(t *testing.T) {
	t.Parallel()
	a, b := twoProcesses(t, memstore.New(nil))
	id := parked(t, a, []byte("some"))
	ctx := wire.WithCommitAsItIs(t.Context())
	w := resumed(t, b, id, 4)
	_, err := w.Write([]byte("thing"))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(w.Close()))
	asItIs := func() ociregistry.BlobWriter {
		w, err := a.PushBlobChunkedResume(ctx, "app", id, -1, 0)
		qt.Assert(t, qt.IsNil(err))
		return w
	}
	w = asItIs()
	qt.Check(t, qt.Equals(w.Size(), 9))
	qt.Assert(t, qt.IsNil(w.Close()))
	w = asItIs()
	_, err = w.Write([]byte(" more"))
	qt.Assert(t, qt.IsNil(err))
	desc, err := w.Commit(digest.FromString("something more"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(desc.Size, 14))
}
