package ocifs

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

const (
	// foldDelay is how long a repository must be at rest before its journal is
	// folded into index.json.
	foldDelay = 300 * time.Millisecond

	// minJournal and maxJournal are how long, in bytes, the journal of a
	// repository may become that is never at rest, if its index.json is not
	// longer, before it is folded in the background. To make a file of small
	// content costs several times what a push does that others share an fsync
	// with: a burst should not wait for that. The more repositories are to be
	// folded, the less each may have.
	minJournal = 4 << 20
	maxJournal = 32 << 20

	// maxBehind is how much longer it may become while that is going on, before
	// changes wait. With maxJournal it bounds the memory for contents that are not
	// files yet.
	maxBehind = 32 << 20

	// Contents are written and synced foldWrites at a time, and get their names
	// foldNames at a time, for which changes wait.
	foldWrites = 1024
	foldNames  = 256
)

// folding has what a repository knows of its folds.
type folding struct {
	due  atomic.Bool  // one is going to come when it is at rest
	long atomic.Bool  // one is under way because the journal is long
	last atomic.Int64 // when the last change was, in nanoseconds
	bad  atomic.Int32 // how many at rest have failed since one has not

	parts gate // for the one who folds in parts
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
	last := repo.folding.last.Load()
	rest := foldDelay - time.Since(time.Unix(0, last))
	if repo.commits.busy() {
		rest = foldDelay
	}
	if rest > foldDelay/10 {
		r.background(rest, repo.foldAtRest)
		return
	}
	repo.folding.due.Store(false)
	atRest := func() error {
		if repo.folding.last.Load() != last || repo.commits.busy() {
			return errNoRest
		}
		return nil
	}
	err := repo.foldInParts(ctx, atRest, repo.sealDraft)
	switch {
	case err == nil:
		repo.folding.bad.Store(0)
		return
	case ctx.Err() != nil:
		return
	case errors.Is(err, ociregistry.ErrNameUnknown):
		if r.isMarkOld(repo) {
			r.unmark(repo)
			return
		}
	case !errors.Is(err, errNoRest):
		r.log.Error("folding the journal", "repository", repo.name, "err", err)
		repo.retryFold()
		return
	}
	repo.scheduleFold()
}

// retryFold lets a fold that failed come again, later each time.
func (repo *repository) retryFold() {
	if !repo.folding.due.Swap(true) {
		bad := repo.folding.bad.Add(1)
		repo.registry.background(min(foldDelay<<min(bad, 10), time.Minute), repo.foldAtRest)
	}
}

// keepShort sees to it that the journal, which is locked, does not become too
// long.
func (repo *repository) keepShort(journal file) {
	repo.mu.RLock()
	excess := repo.at.offset - max(minJournal, maxJournal/repo.registry.unfolded.count(), repo.indexSize())
	repo.mu.RUnlock()
	switch {
	case excess <= 0:
	case excess > maxBehind:
		if err := repo.fold(journal); err != nil {
			repo.registry.log.Error("folding the journal", "repository", repo.name, "err", err)
		}
	case !repo.folding.long.Swap(true):
		repo.registry.background(0, repo.foldLong)
	}
}

// foldLong folds while changes go on.
func (repo *repository) foldLong(ctx context.Context) {
	defer repo.folding.long.Store(false)
	always := func() error { return nil }
	err := repo.foldInParts(ctx, always, func(ctx context.Context) error {
		return repo.commit(&change{ctx: ctx, alone: true, work: repo.fold})
	})
	if err != nil && ctx.Err() == nil && !errors.Is(err, ociregistry.ErrNameUnknown) {
		repo.registry.log.Error("folding the journal", "repository", repo.name, "err", err)
	}
}

// foldInParts folds, of which end is the last part. Before that it makes files of
// contents, for which the journal is not locked but when they get their names,
// some at a time. Before each part it asks whether to go on.
func (repo *repository) foldInParts(ctx context.Context, goOn func() error, end func(context.Context) error) error {
	repo.folding.parts.lock()
	defer repo.folding.parts.unlock()
	store := repo.registry.store
	for contents := range slices.Chunk(repo.pending(), foldWrites) {
		if err := goOn(); err != nil {
			return err
		}
		written, err := store.writeContents(contents)
		for names := range slices.Chunk(written, foldNames) {
			if err == nil {
				err = repo.commit(&change{ctx: ctx, alone: true, work: func(journal file) error {
					if err := repo.confirm(journal); err != nil {
						return err
					}
					return repo.nameContents(names)
				}})
			}
		}
		store.discardContents(written)
		if err != nil {
			return err
		}
	}
	if err := store.syncBlobDirs(repo.dir); err != nil {
		return err
	}
	if err := goOn(); err != nil {
		return err
	}
	return end(ctx)
}

// errNoRest is for a fold at rest that a change came into.
var errNoRest = errors.New("the repository has changed")

// sealDraft ends a fold with an index.json that is written before the journal is
// locked. If there was a change meanwhile, it returns errNoRest.
func (repo *repository) sealDraft(ctx context.Context) error {
	repo.mu.RLock()
	empty := repo.at.offset <= int64(headerLen)
	repo.mu.RUnlock()
	if empty {
		return repo.commit(&change{ctx: ctx, alone: true, work: repo.fold})
	}
	d, err := repo.draftIndex()
	if err != nil {
		return err
	}
	defer repo.discardDraft(d)
	return repo.commit(&change{ctx: ctx, alone: true, work: func(journal file) error {
		if repo.at != d.at || !sameFile(repo.seen.index, d.replaces) {
			return errNoRest
		}
		return repo.seal(journal, d)
	}})
}

// fold folds all that is left. The journal is locked, and the state is up to date.
func (repo *repository) fold(journal file) error { return repo.seal(journal, nil) }

// seal makes files of the contents that are still in the journal alone, replaces
// index.json by what the state says, which is what d has if it is not nil, and
// begins the journal anew. The journal is locked, and the state is up to date.
//
// Each step is durable before the next begins, and can be repeated: after a
// crash at any point, index.json and the journal say together what they said
// before.
func (repo *repository) seal(journal file, d *draft) error {
	if repo.at.offset <= int64(headerLen) {
		repo.registry.unmark(repo)
		return nil // nothing has happened since the last
	}
	// A manifest's file without what the journal says of it would be a blob.
	if err := repo.confirm(journal); err != nil {
		return err
	}
	if err := repo.putContents(); err != nil {
		return err
	}
	if err := repo.putIndex(d); err != nil {
		return err
	}
	if err := repo.removeDeleted(); err != nil {
		return err
	}
	return repo.restart(journal)
}

// pending returns the contents that are in the journal alone.
func (repo *repository) pending() []content {
	repo.mu.RLock()
	defer repo.mu.RUnlock()
	s := repo.state
	var contents []content
	add := func(c content) {
		if s.isPending(&c) {
			contents = append(contents, c)
		}
	}
	for digest, text := range s.blobs {
		add(content{digest, text, true})
	}
	for _, m := range s.fresh {
		if _, twice := s.blobs[m.digest]; !twice {
			add(content{m.digest, m.contents, m.blob})
		}
	}
	return contents
}

// isPending reports whether the journal has c, and no file does.
func (s *state) isPending(c *content) bool {
	if _, named := s.named[c.digest]; named {
		return false
	}
	if text, ok := s.blobs[c.digest]; ok {
		return text == c.text
	}
	m := s.manifests[c.digest]
	return m != nil && m.contents != "" && m.contents == c.text && m.blob == c.blob
}

// nameContents gives their names to those of the written contents that the
// journal still has, and no file does. The journal is locked.
func (repo *repository) nameContents(written []writtenContent) error {
	var names []*writtenContent
	repo.mu.RLock()
	for i := range written {
		if repo.state.isPending(&written[i].content) {
			names = append(names, &written[i])
		}
	}
	repo.mu.RUnlock()
	if err := repo.registry.store.nameContents(repo.dir, names); err != nil {
		return err
	}
	repo.mu.Lock()
	defer repo.mu.Unlock()
	for _, w := range names {
		repo.state.named[w.digest] = struct{}{}
	}
	return nil
}

// putContents makes files of all contents that are in the journal alone, and
// makes the names of all durable.
func (repo *repository) putContents() error {
	store := repo.registry.store
	written, err := store.writeContents(repo.pending())
	defer func() { store.discardContents(written) }()
	if err != nil {
		return err
	}
	if err := repo.nameContents(written); err != nil {
		return err
	}
	if len(repo.state.named) == 0 { // only commits change it
		return nil
	}
	return store.syncBlobDirs(repo.dir)
}

// removeDeleted removes the files of deleted manifests, durably: once the journal
// does not say that they are deleted, they would be taken for blobs.
func (repo *repository) removeDeleted() error {
	store := repo.registry.store
	deleted := repo.deletedFiles()
	for _, digest := range deleted {
		if err := store.removeFile(repo.dir, digest); err != nil {
			return err
		}
	}
	if len(deleted) == 0 {
		return nil
	}
	return store.syncBlobDirs(repo.dir)
}

// deletedFiles returns the manifests that were deleted and may be files.
func (repo *repository) deletedFiles() []ociregistry.Digest {
	repo.mu.RLock()
	defer repo.mu.RUnlock()
	return slices.Collect(maps.Keys(repo.state.deleted))
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
	repo.at, repo.synced = at, at
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
	clear(s.named)
	clear(s.deleted)
	for _, m := range s.fresh {
		m.contents = ""
		m.present.Store(true)
	}
	s.fresh = nil
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
