package ocibucket

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// Of several deletes of a blob at once, one has deleted it, whichever request of it the others come before.
func TestDeleteBlob_HasOneWinner(t *testing.T) {
	t.Parallel()
	for at := range 8 {
		for _, size := range []int64{100, 100_000} {
			var second func()
			var countdown atomic.Int64
			store := memstore.New(&memstore.Options{Fault: func(memstore.Request) memstore.Fault {
				if countdown.Add(-1) == 0 {
					second()
				}
				return memstore.Fault{}
			}})
			a, b := mustOpen(t, store, nil), mustOpen(t, store, nil)
			blob := ocitest.NewBlob(1, size)
			for _, d := range []ocitest.Blob{ocitest.NewBlob(2, 10), blob} { // the repository stays
				_, err := a.PushBlob(t.Context(), "app", d.Descriptor, d.NewReader())
				qt.Assert(t, qt.IsNil(err))
			}
			_, err := b.ResolveBlob(t.Context(), "app", blob.Descriptor.Digest)
			qt.Assert(t, qt.IsNil(err))
			won := 0
			remove := func(r *Registry) {
				err := r.DeleteBlob(t.Context(), "app", blob.Descriptor.Digest)
				if err == nil {
					won++
				} else {
					qt.Check(t, qt.IsTrue(errors.Is(err, ociregistry.ErrBlobUnknown)), qt.Commentf("%v", err))
				}
			}
			done := false
			second = func() { remove(b); done = true }
			countdown.Store(int64(at) + 1)
			remove(a)
			if !done { // it has fewer requests
				countdown.Store(-1)
				remove(b)
			}
			qt.Check(t, qt.Equals(won, 1), qt.Commentf("at request %d", at))
			l, err := a.blobs.Read(t.Context(), "app", blob.Descriptor.Digest)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.IsFalse(a.blobs.Lives(l)))
		}
	}
}

// A repository in which there is nothing but a blob does not exist without it, also for who asks just before it
// comes.
func TestUnknownBlob_IsOfARepositoryThatExistsWithoutIt(t *testing.T) {
	t.Parallel()
	blob := ocitest.NewBlob(1, 100)
	for name, call := range map[string]func(r *Registry) error{
		"ResolveBlob": func(r *Registry) error {
			_, err := r.ResolveBlob(t.Context(), "app", blob.Descriptor.Digest)
			return err
		},
		"DeleteBlob": func(r *Registry) error { return r.DeleteBlob(t.Context(), "app", blob.Descriptor.Digest) },
	} {
		for at := range 6 {
			var push func()
			var countdown atomic.Int64
			store := memstore.New(&memstore.Options{Fault: func(memstore.Request) memstore.Fault {
				if countdown.Add(-1) == 0 {
					push()
				}
				return memstore.Fault{}
			}})
			a, b := mustOpen(t, store, nil), mustOpen(t, store, nil)
			push = func() {
				_, err := b.PushBlob(t.Context(), "app", blob.Descriptor, blob.NewReader())
				qt.Check(t, qt.IsNil(err))
			}
			countdown.Store(int64(at) + 1)
			err := call(a)
			qt.Check(t, qt.IsTrue(err == nil || errors.Is(err, ociregistry.ErrNameUnknown)), qt.Commentf("%s at request %d: %v", name, at, err))
		}
	}
}
