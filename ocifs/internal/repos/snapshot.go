package repos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/snapshots"
	"github.com/seed-40b21970/oci/ociregistry"
)

// readSnapshot returns the state that the snapshot has, or nil if there is none, and whether it
// is that of the present index.json, which info describes.
func (repo *Repository) readSnapshot(info fs.FileInfo) (s *repostate.State, current bool) {
	if info == nil {
		return nil, false
	}
	s, current, err := repo.snapshot.Read(info.Size())
	if err != nil {
		repo.Warn("a snapshot is damaged or cannot be read, and is ignored", "error", err)
	}
	return s, current
}

// draftSnapshot writes the snapshot of a state, for the index.json that has the given sum,
// or returns nil.
func (repo *Repository) draftSnapshot(s *repostate.State, sum repostate.IndexSum) *snapshots.Draft {
	d, err := repo.snapshot.Draft(s, sum, repo.mu.RLocker())
	if err != nil {
		repo.noSnapshot(err)
	}
	return d
}

// putSnapshot gives a snapshot its name. The journal is locked, if there is one.
func (repo *Repository) putSnapshot(d *snapshots.Draft) {
	if err := d.Put(); err != nil {
		repo.noSnapshot(err)
	}
}

func (repo *Repository) noSnapshot(err error) { repo.Warn("writing a snapshot", "error", err) }

// goOnFrom replaces the state by that of a snapshot of it, which takes less memory.
// repo.mu is held.
func (repo *Repository) goOnFrom(d *snapshots.Draft) {
	if d != nil {
		d.Next.Continue(repo.state)
		repo.state = d.Next
	}
}

// SaveSoon writes a snapshot in the background: some manifests were read of which the
// present one, if any, does not say what they name.
func (repo *Repository) SaveSoon() {
	set := repo.set
	repo.mu.RLock()
	index, folds := repo.seen.index, repo.at.HasRecords()
	repo.mu.RUnlock()
	if set.readOnly || folds || index == nil || index.Size() < snapshots.MinIndex || repo.saving.Swap(true) {
		return
	}
	set.mu.RLock()
	defer set.mu.RUnlock()
	if set.closed.Load() {
		return
	}
	repo.retain()
	set.working.Go(func() { // Close waits for it
		defer repo.Release()
		repo.saving.Store(false)
		if err := repo.save(); err != nil {
			repo.noSnapshot(err)
		}
	})
}

// save writes the snapshot of a state that is what index.json says. If anything changes
// meanwhile, it does nothing.
func (repo *Repository) save() error {
	repo.mu.RLock()
	s, seen, at := repo.state, repo.seen, repo.at
	repo.mu.RUnlock()
	sum, info, err := snapshots.SumIndex(repo.set.fs, repo.index)
	if disk.IsAbsent(err) || err == nil && !disk.Unchanged(info, seen.index) {
		return nil
	}
	if err != nil {
		return err
	}
	d := repo.draftSnapshot(s, sum)
	if d == nil {
		return nil
	}
	defer d.Discard()
	// Without a journal, a change of this process begins by making one.
	isCurrent := func() bool {
		return repo.state == s && repo.at == at && !at.HasRecords() && disk.Unchanged(repo.seen.index, seen.index) &&
			(repo.seen.journal == nil) == (seen.journal == nil)
	}
	put := func(disk.File) error {
		repo.mu.RLock()
		current := isCurrent()
		repo.mu.RUnlock()
		if !current {
			return nil
		}
		repo.putSnapshot(d)
		repo.mu.Lock()
		defer repo.mu.Unlock()
		if isCurrent() {
			repo.goOnFrom(d)
		}
		return nil
	}
	if seen.journal != nil {
		err = repo.Commit(&Change{Ctx: context.Background(), Exclusive: true, work: put})
		if errors.Is(err, ociregistry.ErrNameUnknown) {
			err = nil
		}
		return err
	}
	// Only programs that know nothing of journals have written here.
	if err := disk.MakeDirs(repo.set.fs, filepath.Dir(repo.snapshot.Path)); err != nil {
		return fmt.Errorf("a snapshot has no place: %w", err)
	}
	return put(nil)
}
