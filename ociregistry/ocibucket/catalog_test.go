package ocibucket

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
)

// A name whose content has not come is in the catalog, with a mark, and is not listed.
func TestRepositories_DoNotHaveNamesWhoseFirstPushFailed(t *testing.T) {
	t.Parallel()
	var refuse atomic.Bool
	store := memstore.New(&memstore.Options{Fault: func(req memstore.Request) (f memstore.Fault) {
		if refuse.Load() && req.Write && strings.HasPrefix(req.Key, keys.Repository("a")) {
			f.Kind = objstore.ErrDenied
		}
		return f
	}})
	b := &bench{TB: t, ctx: t.Context(), Registry: mustOpen(t, store, nil)}
	listed := func() []string {
		names, err := ociregistry.All(mustOpen(t, store, nil).Repositories(t.Context(), ""))
		b.must(err)
		return names
	}
	marks := func() (n int) {
		for _, key := range store.Keys() {
			if strings.HasPrefix(key, keys.AllMarks) {
				n++
			}
		}
		return n
	}
	blob := b.blob(100)
	refuse.Store(true)
	_, err := b.PushBlob(b.ctx, "a", blob.Descriptor, blob.NewReader())
	qt.Assert(t, qt.ErrorIs(err, objstore.ErrDenied))
	_, err = b.PushManifest(b.ctx, "a", "v1", []byte("text"), "text/plain")
	qt.Assert(t, qt.ErrorIs(err, objstore.ErrDenied))
	b.push("b", 100)
	b.repos.Wait()
	qt.Check(t, qt.DeepEquals(listed(), []string{"b"}))
	qt.Check(t, qt.Equals(marks(), 1))

	refuse.Store(false)
	b.push("a", 100)
	b.repos.Wait()
	qt.Check(t, qt.DeepEquals(listed(), []string{"a", "b"}))
	qt.Check(t, qt.Equals(marks(), 0))
}

// Who may leave a repository empty marks it, and that mark stays.
func TestRepositories_DoNotHaveThoseThatAreEmptyAgain(t *testing.T) {
	t.Parallel()
	store := memstore.New(nil)
	b := &bench{TB: t, ctx: t.Context(), Registry: mustOpen(t, store, nil)}
	other := mustOpen(t, store, nil)
	blob := b.push("a", 100)
	b.push("b", 100)
	b.must(other.DeleteBlob(b.ctx, "a", blob.Descriptor.Digest))
	for range 2 {
		names, err := ociregistry.All(b.Repositories(b.ctx, ""))
		b.must(err)
		qt.Check(t, qt.DeepEquals(names, []string{"b"}))
		b.repos.Wait()
	}
	b.push("a", 200)
	names, err := ociregistry.All(b.Repositories(b.ctx, ""))
	b.must(err)
	qt.Check(t, qt.DeepEquals(names, []string{"a", "b"}))
}
