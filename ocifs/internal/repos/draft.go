package repos

import (
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/journal"
	"github.com/seed-40b21970/oci/ocifs/internal/layout"
	"github.com/seed-40b21970/oci/ocifs/internal/snapshots"
)

// draft is an index.json that was written but is not named yet.
type draft struct {
	name     string           // of the staged file
	info     fs.FileInfo      // remains valid after a rename
	at       journal.Position // the draft has the changes of the journal before it
	replaces fs.FileInfo      // the index.json that the draft is based on
	snapshot *snapshots.Draft // the snapshot for it, or nil
}

// draftIndex writes the index.json that says what the state does to a draft. It returns
// errChanging if another program has changed index.json since it was read.
//
// Unless the journal is locked, the state may change meanwhile. Then at or replaces are no
// longer those of the repository, and the draft is useless.
func (repo *Repository) draftIndex() (*draft, error) {
	repo.mu.RLock()
	s := repo.state
	d := &draft{at: repo.at, replaces: repo.seen.index}
	repo.mu.RUnlock()
	write := func(w io.Writer) error { return s.WriteIndex(w, repo.mu.RLocker()) }
	if s.IsForeign() {
		old, err := repo.readForeign(d.replaces)
		if err != nil {
			return nil, err
		}
		write = func(w io.Writer) error { return s.MergeIndex(w, old, repo.mu.RLocker()) }
	}
	var err error
	// It is synced even with NoSync: without an index everything would be lost.
	var sum repostate.IndexSum
	d.name, d.info, err = repo.set.work.WriteTemp(func(w io.Writer) error { return write(io.MultiWriter(w, &sum)) })
	if err != nil {
		return nil, err
	}
	d.snapshot = repo.draftSnapshot(s, sum)
	return d, nil
}

// readForeign returns the text of index.json, which must be the one that info is of.
func (repo *Repository) readForeign(info fs.FileInfo) (text string, err error) {
	same := false
	err = disk.WithText(repo.set.fs, repo.index, func(f disk.File, read string) error {
		now, err := f.Stat()
		text, same = read, err == nil && disk.Unchanged(now, info)
		return err
	})
	if err == nil && !same {
		err = fmt.Errorf("%s: %w", repo.index, errChanging)
	}
	return text, err
}

// discardDraft removes the staged files, unless they have become what they are for.
func (repo *Repository) discardDraft(d *draft) {
	if d.name != "" {
		repo.set.fs.Remove(d.name)
	}
	d.snapshot.Discard()
}

// putIndex replaces index.json by d. It fails if another program has changed index.json
// since it was read. The journal is locked.
func (repo *Repository) putIndex(d *draft) error {
	set := repo.set
	now, err := disk.Lstat(set.fs, repo.index)
	if err != nil {
		return err
	}
	if !disk.Unchanged(now, d.replaces) {
		return fmt.Errorf("%s: %w", repo.index, errChanging)
	}
	if err := set.fs.Rename(d.name, repo.index); err != nil {
		return err
	}
	d.name = ""
	repo.putSnapshot(d.snapshot)
	repo.mu.Lock()
	repo.seen.index = d.info
	repo.mu.Unlock()
	if err := set.layouts.Provide(filepath.Join(repo.Dir, layout.FileName), layout.FileText); err != nil {
		return err
	}
	return set.work.SyncDir(repo.Dir)
}
