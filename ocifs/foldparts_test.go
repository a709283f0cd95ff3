package ocifs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// openHooked opens a registry that is closed when the test ends.
func openHooked(t *testing.T, dir string, opts *Options) (*Registry, *hookFS) {
	t.Helper()
	h := new(hookFS)
	r, err := open(h, dir, "", opts)
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() {
		h.set(nil)
		qt.Check(t, qt.IsNil(r.Close()))
		h.checkClosed(t)
	})
	return r, h
}

// foldSome makes the files of a fold that then goes no further.
func foldSome(t *testing.T, repo *repository) {
	t.Helper()
	stop := errors.New("stop")
	err := repo.foldInParts(t.Context(), func() error { return nil }, func(context.Context) error { return stop })
	qt.Assert(t, qt.ErrorIs(err, stop))
}

func foldAll(t *testing.T, repo *repository) {
	t.Helper()
	qt.Assert(t, qt.IsNil(repo.commit(&change{ctx: t.Context(), alone: true, work: repo.fold})))
}

// TestFailedDeleteDuringFold lets a deletion fail in one process, while another has
// made a file of the blob and is about to fold the rest.
func TestFailedDeleteDuringFold(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := KeptDir(t)
	opts := &Options{NoSync: true}
	r, _ := openHooked(t, dir, opts)
	other, h := openHooked(t, dir, opts)
	b := ocitest.NewBlob(1, 100)
	_, err := r.PushBlob(ctx, "foo", b.Descriptor, b.NewReader())
	qt.Assert(t, qt.IsNil(err))
	repo := r.repository("foo")
	foldSome(t, repo)

	h.set(func(op, name string) error {
		if op == "file.WriteAt" && strings.HasSuffix(name, "journal") {
			return os.ErrInvalid
		}
		return nil
	})
	qt.Assert(t, qt.ErrorIs(other.DeleteBlob(ctx, "foo", b.Descriptor.Digest), os.ErrInvalid))
	h.set(nil)
	foldAll(t, repo)
	_, err = r.ResolveBlob(ctx, "foo", b.Descriptor.Digest)
	qt.Check(t, qt.IsNil(err))
}

// TestFoldIntoForeignDirectory folds into a directory for SHA-512 that another
// program has just made: its name must be durable when the journal begins anew.
func TestFoldIntoForeignDirectory(t *testing.T) {
	t.Parallel()
	dir := KeptDir(t)
	r, h := openHooked(t, dir, nil)
	data := []byte("content")
	desc := ociregistry.Descriptor{Digest: digest.SHA512.FromBytes(data), Size: int64(len(data))}
	_, err := r.PushBlob(t.Context(), "foo", desc, strings.NewReader(string(data)))
	qt.Assert(t, qt.IsNil(err))
	blobs := filepath.Join(dir, "foo", "blobs")
	qt.Assert(t, qt.IsNil(os.Mkdir(filepath.Join(blobs, "sha512"), 0o755)))

	synced := make(chan struct{}, 10)
	h.set(func(op, name string) error {
		if op == "SyncDir" && name == blobs {
			synced <- struct{}{}
		}
		return nil
	})
	foldAll(t, r.repository("foo"))
	h.set(nil)
	qt.Check(t, qt.Not(qt.Equals(len(synced), 0)))
}
