package repos

import (
	"context"
	"errors"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/marks"
	"github.com/seed-40b21970/oci/ociregistry"
)

// The repositories whose journals are to be folded are in a set, which uses them. Each has a
// mark, from which the next Set learns about those that this one does not fold.

// toFold adds a repository to the set, for a caller who uses it, and reports whether it is new.
func (set *Set) toFold(repo *Repository) bool {
	isNew := set.unfolded.Add(repo)
	if isNew {
		repo.retain()
	}
	return isNew
}

// folded removes a repository from the set, and reports whether it was there.
func (set *Set) folded(repo *Repository) bool {
	was := set.unfolded.Remove(repo)
	if was {
		repo.Release()
	}
	return was
}

// Unfolded returns the repositories whose journals are to be folded, those included that
// another Set has left undone.
func (set *Set) Unfolded() []*Repository {
	set.foldMarked(set.ctx)
	return set.unfolded.All()
}

// mark records that a repository is to be folded.
func (set *Set) mark(repo *Repository) {
	if set.toFold(repo) {
		set.writeMark(repo)
	}
}

// markAgain is mark for a repository whose mark others may have removed. If its journal gets
// its first record, and is locked, whoever folded the records before may have removed a mark that
// this process found, or made, after they were gone. So that this one stays, a mark of a
// repository that exists is only removed while its journal is locked and has no records.
func (set *Set) markAgain(repo *Repository) {
	if set.toFold(repo) || set.single == "" && !set.marks.Has(repo.Name) {
		set.writeMark(repo)
	}
}

func (set *Set) writeMark(repo *Repository) {
	if set.single != "" {
		return
	}
	if err := set.marks.Add(repo.Name); err != nil {
		repo.Warn("marking a journal", "error", err)
	}
}

// unmark records that a repository was folded.
func (set *Set) unmark(repo *Repository) {
	set.folded(repo)
	if set.single == "" {
		set.marks.Remove(repo.Name)
	}
}

// unmarkAbsent is unmark for a repository that does not exist, unless it has just been
// created.
func (set *Set) unmarkAbsent(repo *Repository) {
	set.unmark(repo)
	if journal, _ := disk.Lstat(set.fs, repo.journal); journal != nil {
		repo.scheduleFold()
	}
}

// Marked returns the names of the repositories that this process or another one is to fold.
func (set *Set) Marked() ([]string, error) {
	if set.single != "" {
		return []string{set.single}, nil
	}
	return set.marks.Names(!set.readOnly)
}

// Watcher returns who finds out which repositories others change, or nil if only one can be.
func (set *Set) Watcher() *marks.Watcher {
	if set.single != "" {
		return nil
	}
	return &marks.Watcher{Dir: set.marks}
}

// foldMarked schedules, once, the folds that another Set has left undone.
// Another process may do them first.
func (set *Set) foldMarked(ctx context.Context) {
	set.marking.Lock()
	defer set.marking.Unlock()
	if !set.foundMarked {
		set.foundMarked = true
		set.findMarked(ctx)
	}
}

func (set *Set) findMarked(ctx context.Context) {
	names, err := set.Marked()
	if err != nil {
		set.log.Warn("looking for journals", "error", err)
	}
	for _, name := range names {
		if ctx.Err() != nil {
			return
		}
		set.foldFound(name)
	}
}

// foldFound schedules the fold of a repository that has a mark. If it does not exist, it
// may just be being created; if not, the fold removes the mark.
func (set *Set) foldFound(name string) {
	repo := set.Use(name)
	defer repo.Release()
	err := repo.Find()
	switch {
	case err == nil || errors.Is(err, ociregistry.ErrNameUnknown):
		repo.scheduleFold()
	case !set.closed.Load():
		repo.Warn("looking at a journal", "error", err)
	}
}
