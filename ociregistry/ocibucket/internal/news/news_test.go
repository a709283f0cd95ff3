package news_test

import (
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/news"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
)

// A process writes news, and follows those of others.
type process struct {
	t *testing.T
	*news.Log
	*news.Follower
	bucket *bucket.Bucket
}

func newProcess(t *testing.T, store objstore.Store) *process {
	b := bucket.New(store, "a/", 24*time.Hour)
	l := news.NewLog(b, slog.New(slog.DiscardHandler))
	return &process{t, l, news.NewFollower(b, l), b}
}

func (p *process) follow() {
	p.t.Helper()
	qt.Assert(p.t, qt.IsNil(p.Follow(p.t.Context())))
}

// blobs returns the digests of blobs that it is told of, in order.
func (p *process) blobs() (digests []ociregistry.Digest) {
	p.t.Helper()
	complete, err := p.Read(p.t.Context(), func(c *formats.Changed) { digests = append(digests, c.Blobs...) })
	qt.Assert(p.t, qt.IsNil(err))
	qt.Assert(p.t, qt.IsTrue(complete))
	slices.Sort(digests)
	return digests
}

func number(i int) ociregistry.Digest { return digest.FromString(fmt.Sprint(i)) }

func numbers(from, to int) (digests []ociregistry.Digest) {
	for i := from; i < to; i++ {
		digests = append(digests, number(i))
	}
	slices.Sort(digests)
	return digests
}

func TestNews_AreToldOnceToWhoFollows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(nil)
		one, other := newProcess(t, store), newProcess(t, store)
		one.Blob("a", number(0))
		time.Sleep(news.Every) // nobody has asked
		synctest.Wait()
		qt.Check(t, qt.HasLen(store.Keys(), 0))
		other.follow()
		one.Blob("a", number(1))
		other.Blob("a", number(1)) // which nobody tells itself
		one.Blob("a", number(2))
		qt.Check(t, qt.HasLen(other.blobs(), 0))
		time.Sleep(news.Every)
		synctest.Wait()
		qt.Check(t, qt.DeepEquals(other.blobs(), numbers(1, 3)))
		qt.Check(t, qt.HasLen(other.blobs(), 0))
		one.Blob("b", number(3))
		one.Close()
		one.Blob("b", number(4))
		one.Close()
		qt.Check(t, qt.DeepEquals(other.blobs(), numbers(3, 4)))
		qt.Check(t, qt.HasLen(store.Keys(), 3)) // with that of the other one
	})
}

func TestNews_HaveWhatWasNoted(t *testing.T) {
	t.Parallel()
	store := memstore.New(nil)
	one, other := newProcess(t, store), newProcess(t, store)
	other.follow()
	one.Manifests("a")
	one.Found("b", formats.Found{Number: 7, Links: formats.LinkIDOf(number(1))})
	one.Write()
	var got []formats.Changed
	_, err := other.Read(t.Context(), func(c *formats.Changed) { got = append(got, *c) })
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got, []formats.Changed{
		{Repository: "a", Manifests: true}, {Repository: "b", Found: &formats.Found{Number: 7, Links: formats.LinkIDOf(number(1))}},
	}))
}

// Much goes into several objects, which are removed when nobody needs them any more.
func TestNews_AreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(nil)
		one, other := newProcess(t, store), newProcess(t, store)
		other.follow()
		for i := range 3000 {
			one.Blob("a", number(i))
			if i%10 == 9 {
				one.Write()
			}
		}
		for i := 3000; i < 6000; i++ {
			one.Blob("a", number(i))
		}
		one.Write()
		qt.Check(t, qt.DeepEquals(other.blobs(), numbers(0, 6000)))
		for _, o := range list(t, store) {
			qt.Check(t, qt.IsTrue(o.Size < 128<<10), qt.Commentf("%v", o))
		}
		before := len(store.Keys())
		qt.Check(t, qt.IsTrue(before > 8 && before < 30), qt.Commentf("%d objects", before))
		time.Sleep(48 * time.Hour)
		qt.Assert(t, qt.IsNil(news.Collect(t.Context(), one.bucket)))
		qt.Check(t, qt.HasLen(store.Keys(), before))
		time.Sleep(time.Hour)
		qt.Assert(t, qt.IsNil(news.Collect(t.Context(), one.bucket)))
		qt.Check(t, qt.HasLen(store.Keys(), 1))
		other.follow()
		one.Blob("a", number(1)) // whose object is gone
		one.Write()
		qt.Check(t, qt.DeepEquals(other.blobs(), numbers(1, 2)))
	})
}

func list(t *testing.T, store *memstore.Store) []objstore.Info {
	page, err := store.List(t.Context(), objstore.ListOptions{})
	qt.Assert(t, qt.IsNil(err))
	return page.Objects
}

func TestNews_ThatCannotBeWrittenAreTriedAgain(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"Get", "Put"} {
		synctest.Test(t, func(t *testing.T) {
			var refuse atomic.Bool
			store := memstore.New(&memstore.Options{Fault: func(req memstore.Request) (f memstore.Fault) {
				if refuse.Load() && req.Op == op {
					f.Kind = objstore.ErrDenied
				}
				return f
			}})
			one, other := newProcess(t, store), newProcess(t, store)
			other.follow()
			for round := range 3 {
				refuse.Store(true)
				one.Blob("a", number(2*round))
				time.Sleep(news.Every)
				one.Blob("a", number(2*round+1))
				synctest.Wait()
				time.Sleep(news.Every)
				synctest.Wait()
				refuse.Store(false)
				qt.Check(t, qt.HasLen(other.blobs(), 0))
				time.Sleep(news.Every)
				synctest.Wait()
				qt.Check(t, qt.DeepEquals(other.blobs(), numbers(2*round, 2*round+2)))
			}
		})
	}
}

func TestFollower_WhoIsLateIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t, memstore.New(nil))
		read := func() bool {
			complete, err := p.Read(t.Context(), func(*formats.Changed) {})
			qt.Assert(t, qt.IsNil(err))
			return complete
		}
		qt.Check(t, qt.IsFalse(read()))
		p.follow()
		for range 5 {
			time.Sleep(23 * time.Hour)
			qt.Check(t, qt.IsTrue(read()))
		}
		time.Sleep(25 * time.Hour)
		qt.Check(t, qt.IsFalse(read()))
		p.follow()
		qt.Check(t, qt.IsTrue(read()))
	})
}
