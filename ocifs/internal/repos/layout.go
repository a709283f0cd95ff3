package repos

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/journal"
	"github.com/seed-40b21970/oci/ocifs/internal/layout"
)

// makeLayout makes the repository's directory a layout with a journal, or adds what
// is missing.
func (repo *Repository) makeLayout(ctx context.Context) error {
	there, err := repo.set.layouts.CheckDirs(repo.Dir)
	if err != nil {
		return err
	}
	for range 100 {
		if there {
			err = repo.Locked(ctx, repo.Complete)
		} else {
			err = repo.newLayout()
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			break
		}
		// Another process has just made the directory, or has removed it or a parent of it.
		there = errors.Is(err, fs.ErrExist)
	}
	return err
}

// newLayout creates the directory together with everything that a layout has.
func (repo *Repository) newLayout() error {
	set, dir := repo.set, repo.Dir
	made, err := set.layouts.Make(dir)
	if err != nil {
		return err
	}
	repo.begin(stamps{made.Index, made.Journal})
	return set.layouts.SyncParents(dir)
}

// begin records that the repository was made a moment ago, and holds nothing.
func (repo *Repository) begin(made stamps) {
	repo.loading.Lock()
	defer repo.loading.Unlock()
	repo.mu.Lock()
	defer repo.mu.Unlock()
	if repo.seen == (stamps{}) { // otherwise somebody has looked since
		repo.state, repo.seen, repo.at = repostate.New(), made, journal.Position{}
	}
}

// Locked calls f while it holds the lock of the journal, which it creates, with a
// directory for it, if it does not exist. Nobody can change or remove the repository
// meanwhile.
func (repo *Repository) Locked(ctx context.Context, f func() error) error {
	set := repo.set
	for {
		journal, err := set.layouts.OpenJournal(repo.Dir)
		if err != nil {
			return err
		}
		info, err := disk.LockNamed(ctx, set.fs, journal, repo.journal)
		if info != nil {
			err = f()
		}
		journal.Close()
		if info != nil || err != nil {
			return err
		}
	}
}

// anchor makes durable, before the first change by this process, the parts of the
// repository that it found. The layout, the name of a blob, or a new generation of
// the journal may be the work of another program, or of a process that died before it
// synced them.
func (repo *Repository) anchor() error {
	if repo.anchored.Load() {
		return nil
	}
	set := repo.set
	for _, name := range []string{"blobs", layout.PrivateDir, "."} {
		if err := set.work.SyncDir(filepath.Join(repo.Dir, name)); err != nil && !disk.IsAbsent(err) {
			return err
		}
	}
	if err := set.store.SyncBlobDirs(repo.Dir); err != nil {
		return err
	}
	if err := repo.syncJournal(); err != nil {
		return err
	}
	if err := set.layouts.SyncParents(repo.Dir); err != nil {
		return err
	}
	repo.anchored.Store(true)
	return nil
}

// syncJournal makes the journal durable, if there is one. It rewrites the bytes that
// it reads: after a failed sync, in this process or another, the system may take
// pages for written that are not, and the next sync would skip them.
func (repo *Repository) syncJournal() error {
	if !repo.set.work.IsDurable() {
		return nil
	}
	journal, err := repo.set.fs.OpenFile(repo.journal, os.O_RDWR, 0)
	if disk.IsAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer journal.Close()
	text, err := disk.ReadFrom(journal, 0)
	if err != nil {
		return err
	}
	if _, err := journal.WriteAt([]byte(text), 0); err != nil {
		return err
	}
	return repo.sync(journal)
}

// Complete adds what is missing from the layout, except the journal, which is locked. The
// index.json is durable before there can be a blob. If there are blobs and no index.json,
// the error is [ErrNoIndex].
func (repo *Repository) Complete() error {
	set := repo.set
	index, err := disk.Lstat(set.fs, repo.index)
	if err == nil && index == nil {
		if err = repo.checkNoBlobs(); err == nil {
			err = set.layouts.Provide(repo.index, repostate.EmptyIndex)
		}
		if err == nil {
			err = set.work.SyncDir(repo.Dir)
		}
	}
	if err == nil {
		err = set.layouts.Fill(repo.Dir)
	}
	if err == nil {
		err = set.store.SyncBlobDirs(repo.Dir)
	}
	if err == nil {
		err = set.layouts.SyncParents(repo.Dir)
	}
	return err
}

// removeIfEmpty removes the repository's directory if the repository holds nothing,
// and reports whether it did. Afterwards the state is not up to date. The journal is
// locked.
func (repo *Repository) removeIfEmpty(f disk.File) bool {
	set := repo.set
	repo.mu.RLock()
	known := repo.seen.journal != nil // otherwise the state has operations that were not written
	empty := repo.state.IsEmpty() && !repo.state.HasUnknownEntries()
	repo.mu.RUnlock()
	if !known || !empty || set.single != "" {
		return false
	}
	if has, err := repo.hasBlobs(); has || err != nil {
		return false
	}
	// A power cut may leave the present index.json: no file that it names may go.
	if len(repo.deletedFiles()) > 0 && repo.fold(f) != nil {
		return false
	}
	// Once the journal is gone, others may create the repository anew: what is known
	// about it here is obsolete.
	repo.mu.Lock()
	repo.state, repo.seen, repo.at = repostate.New(), stamps{}, journal.Position{}
	repo.mu.Unlock()
	repo.anchored.Store(false)
	repo.writing.Store(false)
	set.unmark(repo)
	// Once the blob directories are gone, nobody can add a blob without making them
	// again, which requires the lock.
	if set.layouts.Remove(repo.Dir) {
		set.layouts.RemoveParents(repo.Dir)
	}
	return true
}
