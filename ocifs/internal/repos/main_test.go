package repos

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"
	digest "github.com/opencontainers/go-digest"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ocifs/internal/layout"
)

func TestMain(m *testing.M) { scratch.Main(m) }

// newSet returns the set of the repositories below dir, which is closed when the test ends.
// Nothing is synced.
func newSet(t *testing.T, dir string) (*Set, *disktest.Hooks) {
	t.Helper()
	h := new(disktest.Hooks)
	work := disk.NewWorkspace(h, filepath.Join(dir, layout.PrivateDir), false)
	log := slog.New(slog.DiscardHandler)
	set := New(Options{
		Layouts: layout.Tree{Root: dir, Work: work},
		Store:   blobs.New(work, nil, log),
		Log:     log,
	})
	t.Cleanup(func() {
		h.Set(nil)
		qt.Check(t, qt.IsNil(set.Close()))
		qt.Check(t, qt.IsNil(work.Close()))
		h.CheckClosed(t)
	})
	return set, h
}

// used returns the object of a repository, which it uses until the test ends.
func used(t *testing.T, set *Set, name string) *Repository {
	repo := set.Use(name)
	t.Cleanup(repo.Release)
	return repo
}

// commit makes a change that consists of one operation.
func commit(t *testing.T, repo *Repository, op repostate.Op) {
	t.Helper()
	qt.Assert(t, qt.IsNil(repo.Commit(&Change{Ctx: t.Context(), Creates: true, Check: func(b *Batch) error {
		b.Add(op)
		return nil
	}})))
}

// put is the operation of a push of a manifest.
func put(text, tag string) repostate.Op {
	return repostate.Op{
		Kind: repostate.PutManifest, Digest: digest.FromString(text), MediaType: "text/plain", Size: int64(len(text)), Text: text, Tags: []string{tag},
	}
}
