package ocifs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ocifs/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// openHooked opens a registry that is closed when the test ends.
func openHooked(t *testing.T, dir string, opts *Options) (*Registry, *disktest.Hooks) {
	t.Helper()
	h := new(disktest.Hooks)
	r, err := open(h, dir, "", opts)
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() {
		h.Set(nil)
		qt.Check(t, qt.IsNil(r.Close()))
		h.CheckClosed(t)
	})
	return r, h
}

// used returns the object of a repository, which it uses until the test ends.
func used(t *testing.T, r *Registry, name string) *repos.Repository {
	repo := r.repos.Use(name)
	t.Cleanup(repo.Release)
	return repo
}

// foldSome makes the files of a fold that then goes no further.
func foldSome(t *testing.T, h *disktest.Hooks, repo *repos.Repository) {
	t.Helper()
	stop := errors.New("stop")
	h.Set(func(op, name string) error {
		if op == "Rename" && filepath.Base(name) == "index.json" {
			return stop
		}
		return nil
	})
	defer h.Set(nil)
	qt.Assert(t, qt.ErrorIs(repo.Fold(t.Context()), stop))
}

func foldAll(t *testing.T, repo *repos.Repository) {
	t.Helper()
	qt.Assert(t, qt.IsNil(repo.Fold(t.Context())))
}

// TestDeleteBlob_ThatFailsDuringFoldKeepsTheBlob lets a deletion fail in one process,
// while another has made a file of the blob and is about to fold the rest.
func TestDeleteBlob_ThatFailsDuringFoldKeepsTheBlob(t *testing.T) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		ctx := t.Context()
		dir := scratch.Kept(t)
		opts := &Options{NoSync: true}
		r, first := openHooked(t, dir, opts)
		other, h := openHooked(t, dir, opts)
		b := ocitest.NewBlob(1, 100)
		_, err := r.PushBlob(ctx, "foo", b.Descriptor, b.NewReader())
		qt.Assert(t, qt.IsNil(err))
		repo := used(t, r, "foo")
		foldSome(t, first, repo)

		h.Set(func(op, name string) error {
			if op == "file.WriteAt" && strings.HasSuffix(name, "journal") {
				return os.ErrInvalid
			}
			return nil
		})
		qt.Assert(t, qt.ErrorIs(other.DeleteBlob(ctx, "foo", b.Descriptor.Digest), os.ErrInvalid))
		h.Set(nil)
		foldAll(t, repo)
		_, err = r.ResolveBlob(ctx, "foo", b.Descriptor.Digest)
		qt.Check(t, qt.IsNil(err))
	})
}

// TestFold_SyncsDirectoryMadeByOtherProgram folds into a directory for SHA-512 that
// another program has just made. Its name must be durable before the journal is
// restarted.
func TestFold_SyncsDirectoryMadeByOtherProgram(t *testing.T) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		dir := scratch.Kept(t)
		r, h := openHooked(t, dir, nil)
		data := []byte("content")
		desc := ociregistry.Descriptor{Digest: digest.SHA512.FromBytes(data), Size: int64(len(data))}
		_, err := r.PushBlob(t.Context(), "foo", desc, strings.NewReader(string(data)))
		qt.Assert(t, qt.IsNil(err))
		blobs := filepath.Join(dir, "foo", "blobs")
		qt.Assert(t, qt.IsNil(os.Mkdir(filepath.Join(blobs, "sha512"), 0o755)))

		synced := make(chan struct{}, 10)
		h.Set(func(op, name string) error {
			if op == "SyncDir" && name == blobs {
				synced <- struct{}{}
			}
			return nil
		})
		foldAll(t, used(t, r, "foo"))
		h.Set(nil)
		qt.Check(t, qt.Not(qt.Equals(len(synced), 0)))
	})
}
