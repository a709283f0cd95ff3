package ocifs

import (
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
)

// draft is an index.json that was written and has not got its name yet.
type draft struct {
	name     string      // of the file
	info     fs.FileInfo // what the system will say of it under any other
	at       place       // up to where it has the journal
	replaces fs.FileInfo // the index.json that it begins with
}

// draftIndex writes a draft of what the state says. Unless the journal is locked,
// that may change meanwhile; then at or replaces are not the repository's any
// more, and the draft is of no use.
func (repo *repository) draftIndex() (*draft, error) {
	repo.mu.RLock()
	s := repo.state
	d := &draft{at: repo.at, replaces: repo.seen.index}
	repo.mu.RUnlock()
	var err error
	d.name, d.info, err = repo.registry.store.writeTemp(func(w io.Writer) error { return s.writeIndex(w, &repo.mu) })
	if err != nil {
		return nil, err
	}
	return d, nil
}

// discardDraft removes the file, if it has not become index.json.
func (repo *repository) discardDraft(d *draft) {
	if d.name != "" {
		repo.registry.fs.Remove(d.name)
	}
}

// putIndex replaces index.json by d, or by a draft that is written now if d is
// nil, unless another program has changed it since it was read. The journal is
// locked.
func (repo *repository) putIndex(d *draft) error {
	if d == nil {
		var err error
		if d, err = repo.draftIndex(); err != nil {
			return err
		}
		defer repo.discardDraft(d)
	}
	r := repo.registry
	now, err := r.lstat(repo.index)
	if err != nil {
		return err
	}
	if !sameFile(now, d.replaces) {
		return fmt.Errorf("%s: %w", repo.index, errChanging)
	}
	if err := r.fs.Rename(d.name, repo.index); err != nil {
		return err
	}
	d.name = ""
	repo.mu.Lock()
	repo.seen.index = d.info
	repo.mu.Unlock()
	if err := r.provide(filepath.Join(repo.dir, "oci-layout"), emptyLayout); err != nil {
		return err
	}
	return r.store.syncDir(repo.dir)
}
