package pulls_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/pulls"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
)

// open returns the log of a new process, which has seen the store's Date.
func open(t *testing.T, store *memstore.Store) (*pulls.Log, *bucket.Bucket) {
	b := bucket.New(store, "", 24*time.Hour)
	_, err := b.Read(t.Context(), "g", 0)
	qt.Assert(t, qt.IsNil(err))
	return pulls.New(b, slog.New(slog.DiscardHandler)), b
}

func number(i int) ociregistry.Digest { return digest.FromString(fmt.Sprint(i)) }

// count returns how many manifests a process knows to have been pulled.
func count(t *testing.T, l *pulls.Log) (n int) {
	t.Helper()
	all, err := l.Read(t.Context())
	qt.Assert(t, qt.IsNil(err))
	for _, times := range all {
		n += len(times)
	}
	return n
}

func TestLog_IsWrittenNowAndThenAndWhenItIsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(nil)
		one, _ := open(t, store)
		other, _ := open(t, store)
		one.Note("app", number(1))
		qt.Check(t, qt.Equals(count(t, one), 1))
		qt.Check(t, qt.Equals(count(t, other), 0))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		qt.Check(t, qt.Equals(count(t, other), 1))
		one.Note("app", number(2))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		qt.Check(t, qt.Equals(count(t, other), 2))
		qt.Check(t, qt.HasLen(store.Keys(), 1))
		one.Note("app/b", number(2))
		one.Close()
		one.Note("app", number(4))
		one.Close()
		qt.Check(t, qt.Equals(count(t, other), 3))
		time.Sleep(time.Hour)
		other.Close() // which has nothing
		qt.Check(t, qt.HasLen(store.Keys(), 1))
	})
}

func TestLog_KeepsTheLastPull(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	store := memstore.New(&memstore.Options{Now: func() time.Time { return now }})
	one, _ := open(t, store)
	one.Note("app", number(1))
	now = now.Add(time.Hour)
	other, b := open(t, store)
	other.Note("app", number(1))
	other.Close()
	one.Close()
	all, err := pulls.New(b, nil).Read(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(all, formats.Pulls{"app": {number(1): now.Unix()}}))
}

// When a process has noted as much as an object may have, it writes that down and begins anew.
func TestLog_IsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const max = 1 << 16
		store := memstore.New(nil)
		l, _ := open(t, store)
		for i := range max {
			l.Note("app", number(i))
		}
		l.Note("app", number(max)) // unless the others are written already
		synctest.Wait()
		qt.Check(t, qt.HasLen(store.Keys(), 1))
		qt.Check(t, qt.Equals(l.Noted("app", number(0)), 0))
		l.Note("app", number(max+1))
		l.Close()
		qt.Check(t, qt.HasLen(store.Keys(), 2))
		other, _ := open(t, store)
		n := count(t, other)
		qt.Check(t, qt.IsTrue(n == max+1 || n == max+2), qt.Commentf("%d", n))
	})
}

func TestMerge_MakesOneObjectOfManyWithoutWhatIsGone(t *testing.T) {
	t.Parallel()
	store := memstore.New(nil)
	isThere := func(repo string, digest ociregistry.Digest) (bool, error) { return digest != number(7), nil }
	var last *pulls.Log
	for i := range 65 {
		l, _ := open(t, store)
		l.Note("app", number(i))
		l.Note("app", number(i%3))
		l.Close()
		if last = l; i < 64 {
			qt.Assert(t, qt.IsNil(l.Merge(t.Context(), isThere)))
			qt.Assert(t, qt.HasLen(store.Keys(), i+1))
		}
	}
	qt.Assert(t, qt.IsNil(last.Merge(t.Context(), isThere)))
	qt.Check(t, qt.HasLen(store.Keys(), 1))
	other, _ := open(t, store)
	qt.Check(t, qt.Equals(count(t, other), 64))
}

// Collections of one process read the pulls one after the other, and each ends with its context.
func TestLog_WaitingForAnotherReaderEndsWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(&memstore.Options{Fault: func(req memstore.Request) memstore.Fault {
			if req.Op == "List" {
				return memstore.Fault{Delay: time.Hour}
			}
			return memstore.Fault{}
		}})
		l, _ := open(t, store)
		ctx, cancel := context.WithCancel(t.Context())
		go l.Read(ctx)
		synctest.Wait()
		late, cancelLate := context.WithTimeout(t.Context(), time.Second)
		defer cancelLate()
		_, err := l.Read(late)
		qt.Check(t, qt.ErrorIs(err, context.DeadlineExceeded))
		cancel()
		synctest.Wait()
	})
}
