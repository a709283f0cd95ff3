package ocifs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

const (
	// foldDelay is how long a repository must be at rest before its journal is
	// folded into index.json.
	foldDelay = 300 * time.Millisecond

	// maxJournal is how long, in bytes, the journal of a repository may become
	// that is never at rest, if its index.json is not longer. It bounds the
	// memory for contents that are not files yet, too.
	maxJournal = 4 << 20
)

// folding has the timer of a repository's next fold.
type folding struct {
	due  atomic.Bool  // a fold is going to come
	last atomic.Int64 // when the last change was, in nanoseconds
}

// scheduleFold lets a fold come when the repository is at rest.
func (repo *repository) scheduleFold() {
	r := repo.registry
	if r.opts.ReadOnly {
		return
	}
	r.mark(repo)
	repo.folding.last.Store(time.Now().UnixNano())
	if repo.folding.due.Swap(true) {
		return
	}
	r.background(foldDelay, repo.foldAtRest)
}

// foldAtRest folds, or waits on if there were changes meanwhile.
func (repo *repository) foldAtRest(ctx context.Context) {
	r := repo.registry
	last := time.Unix(0, repo.folding.last.Load())
	if rest := foldDelay - time.Since(last); rest > foldDelay/10 {
		r.background(rest, repo.foldAtRest)
		return
	}
	repo.folding.due.Store(false)
	if err := repo.commit(&change{ctx: ctx, alone: true, folds: true}); err != nil {
		if errors.Is(err, ociregistry.ErrNameUnknown) && r.isMarkOld(repo) {
			r.unmark(repo)
			return
		}
		if ctx.Err() != nil {
			return
		}
		if !errors.Is(err, ociregistry.ErrNameUnknown) {
			r.log.Error("folding the journal", "repository", repo.name, "err", err)
		}
		repo.scheduleFold()
	}
}

// fold makes files of the contents that are in the journal alone, replaces
// index.json by what the state says, and begins the journal anew. The journal is
// locked, and the state is up to date.
//
// Each step is durable before the next begins, and can be repeated: after a
// crash at any point, index.json and the journal say together what they said
// before.
func (repo *repository) fold(journal file) error {
	if repo.at.offset <= int64(headerLen) {
		repo.registry.unmark(repo)
		return nil // nothing has happened since the last
	}
	if err := repo.writeContents(); err != nil {
		return err
	}
	if err := repo.writeIndex(); err != nil {
		return err
	}
	if err := repo.removeDeleted(); err != nil {
		return err
	}
	return repo.restart(journal)
}

// removeDeleted removes the files of deleted manifests, durably: once the journal
// does not say that they are deleted, they would be taken for blobs.
func (repo *repository) removeDeleted() error {
	store := repo.registry.store
	for digest := range repo.state.deleted { // only commits change it
		if err := store.removeFile(repo.dir, digest); err != nil {
			return err
		}
	}
	if len(repo.state.deleted) == 0 {
		return nil
	}
	return store.syncBlobDirs(repo.dir)
}

// writeContents makes files of all pending contents.
func (repo *repository) writeContents() error {
	var contents []content
	repo.mu.RLock()
	for digest, text := range repo.state.blobs {
		contents = append(contents, content{digest, text, true})
	}
	for _, m := range repo.state.fresh {
		if _, twice := repo.state.blobs[m.digest]; !twice && repo.state.manifests[m.digest] == m {
			contents = append(contents, content{m.digest, m.contents, m.blob})
		}
	}
	repo.mu.RUnlock()
	return repo.registry.store.putContents(repo.dir, contents)
}

// parallel calls f for all numbers below n, some at a time, and returns one of
// their errors.
func parallel(workers, n int, f func(i int) error) error {
	var wg sync.WaitGroup
	var next atomic.Int64
	errs := make([]error, min(workers, n))
	for w := range errs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for errs[w] == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				errs[w] = f(i)
			}
		}()
	}
	wg.Wait()
	return errors.Join(errs...)
}

// writeIndex replaces index.json, if nobody else has changed it since it was
// read.
func (repo *repository) writeIndex() error {
	r := repo.registry
	tmp, written, err := r.store.writeTemp(func(w io.Writer) error {
		repo.mu.RLock()
		defer repo.mu.RUnlock()
		return repo.state.writeIndex(w)
	})
	if err != nil {
		return err
	}
	now, err := r.lstat(repo.index)
	if err == nil && !sameFile(now, repo.seen.index) { // only commits change what was seen
		err = fmt.Errorf("%s: %w", repo.index, errChanging)
	}
	if err == nil {
		err = r.fs.Rename(tmp, repo.index)
	}
	if err != nil {
		r.fs.Remove(tmp)
		return err
	}
	repo.mu.Lock()
	repo.seen.index = written
	repo.mu.Unlock()
	if err := r.provide(filepath.Join(repo.dir, "oci-layout"), emptyLayout); err != nil {
		return err
	}
	return r.store.syncDir(repo.dir)
}

// restart begins the journal anew.
func (repo *repository) restart(journal file) error {
	header, at := newHeader()
	if err := journal.Truncate(0); err != nil {
		return err
	}
	// Without a header the journal is one that begins with the next change.
	if _, err := journal.WriteAt(header, 0); err != nil {
		at = place{}
	}
	// What the journal had must not come back: to delete a blob whose file it
	// became leaves no trace here.
	if err := repo.sync(journal); err != nil {
		return err
	}
	now, err := journal.Stat()
	repo.mu.Lock()
	defer repo.mu.Unlock()
	repo.at = at
	repo.seen.journal = now
	if err != nil {
		repo.seen = stamps{}
	}
	repo.state.settle()
	repo.registry.unmark(repo)
	return nil
}

// settle notes that everything is in files now.
func (s *state) settle() {
	clear(s.blobs)
	clear(s.deleted)
	for _, m := range s.fresh {
		m.contents = ""
		m.present.Store(true)
	}
	s.fresh = nil
}
