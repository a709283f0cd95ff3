package repos_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/countstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
)

// open returns a repository of a new process.
func open(t *testing.T, store objstore.Store) *repos.Repository {
	b := bucket.New(objstore.Retry(store, &objstore.RetryOptions{Attempts: -1}), "", 24*time.Hour)
	set := repos.NewSet(b, repos.Options{Max: 10, Keep: func(ociregistry.Digest, string) {}, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(set.Close)
	return set.Open("app")
}

const mediaType = "application/x-test"

func digestOf(text string) ociregistry.Digest { return digest.FromString(text) }

// put is a change that pushes a manifest, which names blobs, with a tag.
func put(text, tag string, blobs ...string) *repos.Change {
	info := &manifest.Info{}
	for _, b := range blobs {
		info.Blobs = append(info.Blobs, manifest.Ref{Digest: digestOf(b)})
	}
	return &repos.Change{Check: func(b *repos.Batch) error {
		b.Add(&repostate.Op{Kind: repostate.PutManifest, Digest: digestOf(text), MediaType: mediaType, Size: int64(len(text)), Text: text, Tags: []string{tag}, Info: info})
		return nil
	}}
}

func tagOf(t *testing.T, r *repos.Repository, tag string) (d ociregistry.Digest) {
	qt.Assert(t, qt.IsNil(r.Refresh(t.Context())))
	qt.Assert(t, qt.IsNil(r.View(func(s *repos.State) {
		if m := s.Tag(tag); m != nil {
			d = m.Digest
		}
	})))
	return d
}

func TestCommit_IsSeenByAllProcesses(t *testing.T) {
	t.Parallel()
	store := memstore.New(nil)
	a, b := open(t, store), open(t, store)
	for i := range 20 {
		r, other := a, b
		if i%3 == 0 {
			r, other = b, a
		}
		text := fmt.Sprint("text ", i)
		qt.Assert(t, qt.IsNil(r.Commit(t.Context(), put(text, "v1"))))
		qt.Check(t, qt.Equals(tagOf(t, other, "v1"), digestOf(text)))
	}
}

// What a change looks at must not be what another one in the same record changes.
func TestCommit_ChecksAChangeAgainstThoseBeforeIt(t *testing.T) {
	t.Parallel()
	denied := errors.New("the tag is there")
	for range 20 {
		store := memstore.New(nil)
		r := open(t, store)
		qt.Assert(t, qt.IsNil(r.Refresh(t.Context())))
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for i := range 8 {
			c := put(fmt.Sprint(i), "v1")
			add := c.Check
			c.Check = func(b *repos.Batch) error {
				if b.Tag("v1") != nil {
					return denied
				}
				return add(b)
			}
			wg.Go(func() {
				err := r.Commit(t.Context(), c)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won++
				} else if !errors.Is(err, denied) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		qt.Check(t, qt.Equals(won, 1))
	}
}

func TestCommit_ShareRecords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(&memstore.Options{Fault: func(req memstore.Request) memstore.Fault {
			return memstore.Fault{Delay: 5 * time.Millisecond}
		}})
		r := open(t, store)
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				if err := r.Commit(t.Context(), put(fmt.Sprint(i), fmt.Sprint("v", i))); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		records := 0
		for _, key := range store.Keys() {
			if strings.HasPrefix(key, keys.Records("app")) {
				records++
			}
		}
		qt.Check(t, qt.IsTrue(records < 50), qt.Commentf("%d records", records))
	})
}

// A link that is known counts until a delete of it is recorded, whoever records it, or the
// state is loaded anew.
func TestLink_CountsUntilItsDeleteIsRecorded(t *testing.T) {
	t.Parallel()
	store := memstore.New(nil)
	a, b := open(t, store), open(t, store)
	blob := digestOf("blob")
	qt.Assert(t, qt.IsNil(a.Load(t.Context())))
	nonce := strings.Repeat("A", 26)
	learn := func() { a.Learn(blob, repos.Known{Nonce: nonce, Size: 3, AsOf: a.AsOf()}) }
	known := func() (is bool) {
		err := a.Commit(t.Context(), &repos.Change{Check: func(b *repos.Batch) error {
			_, is = b.Link(blob)
			return nil
		}})
		qt.Assert(t, qt.IsNil(err))
		return is
	}
	qt.Check(t, qt.IsFalse(known()))
	before := a.AsOf()
	learn()
	qt.Check(t, qt.IsTrue(known()))
	err := b.Commit(t.Context(), &repos.Change{Check: func(b *repos.Batch) error {
		b.DeleteLink(blob, nonce)
		return nil
	}})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(known()))
	qt.Check(t, qt.IsTrue(a.KnowsDead(nonce)))
	nonce = strings.Repeat("B", 26)
	a.Learn(blob, repos.Known{Nonce: nonce, AsOf: before}) // read before the delete
	qt.Check(t, qt.IsFalse(known()))
	learn()
	qt.Check(t, qt.IsTrue(known()))
}

// A record that landed too late counts for nobody.
func TestRecord_ThatLandsTooLateIsVoid(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	var mu sync.Mutex
	late := false
	store := memstore.New(&memstore.Options{
		Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now },
		Fault: func(req memstore.Request) memstore.Fault {
			mu.Lock()
			defer mu.Unlock()
			return memstore.Fault{Late: late && req.Write}
		},
	})
	a, b := open(t, store), open(t, store)
	qt.Assert(t, qt.IsNil(a.Commit(t.Context(), put("one", "v1"))))
	mu.Lock()
	late = true
	mu.Unlock()
	err := a.Commit(t.Context(), put("two", "v1"))
	qt.Check(t, qt.ErrorIs(err, objstore.ErrUnclear))
	mu.Lock()
	late = false
	now = now.Add(13 * time.Hour)
	mu.Unlock()
	store.Land(func(memstore.Request) bool { return true })
	qt.Check(t, qt.Equals(tagOf(t, b, "v1"), digestOf("one")))
	qt.Check(t, qt.Equals(tagOf(t, a, "v1"), digestOf("one")))
	qt.Assert(t, qt.IsNil(a.Commit(t.Context(), put("three", "v1"))))
	qt.Check(t, qt.Equals(tagOf(t, b, "v1"), digestOf("three")))
}

// A process that only reads, or whose snapshots others write, need not know each delete for ever.
func TestState_ForgetsDeadLinksThatOthersSawDead(t *testing.T) {
	t.Parallel()
	var snapshots atomic.Int64
	store := memstore.New(nil)
	a := open(t, store)
	qt.Assert(t, qt.IsNil(a.Commit(t.Context(), put("text", "v1"))))
	reader := countstore.New(store)
	reader.Log = func(op, key string) {
		if op == "Get" && strings.Contains(key, "!/s/") {
			snapshots.Add(1)
		}
	}
	b := open(t, reader)
	tagOf(t, b, "v1")
	for range 40 {
		qt.Assert(t, qt.IsNil(a.Commit(t.Context(), &repos.Change{Check: func(b *repos.Batch) error {
			for range 1000 {
				b.DeleteLink(digestOf("blob"), formats.Nonce())
			}
			return nil
		}})))
		tagOf(t, b, "v1")
	}
	before := snapshots.Load()
	qt.Check(t, qt.IsTrue(before > 0), qt.Commentf("the state was never loaded anew"))
	for range 10 {
		tagOf(t, b, "v1")
	}
	qt.Check(t, qt.Equals(snapshots.Load(), before)) // not each time
}
