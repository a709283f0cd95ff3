package repos

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/journal"
	"github.com/seed-40b21970/oci/ocifs/internal/queue"
	"github.com/seed-40b21970/oci/ociregistry"
)

const (
	// foldDelay is how long a repository must be at rest before its journal is folded
	// into index.json.
	foldDelay = 300 * time.Millisecond

	// minJournal and maxJournal are the length, in bytes, at which the journal of a
	// repository that is never at rest is folded in the background, unless its
	// index.json is longer. A file for small content costs several times as much as a
	// push that shares its fsync with others, and a burst of pushes should not wait
	// for it. The more repositories have a journal, the shorter each one may be.
	minJournal = 4 << 20
	maxJournal = 32 << 20

	// maxBehind is how many more bytes the journal may get during that fold before
	// changes wait. Together with maxJournal it bounds the memory for contents that
	// are not files yet.
	maxBehind = 32 << 20

	// Contents are written and synced foldWrites at a time, and named foldNames at a
	// time. Changes wait while contents are named. The last foldFew have no part of
	// their own: they are named when index.json is.
	foldWrites = 1024
	foldNames  = 256
	foldFew    = 16
)

// folding is the state of a repository's folds.
type folding struct {
	due  atomic.Bool  // a fold is scheduled for when the repository is at rest
	long atomic.Bool  // a fold is under way because the journal is long
	last atomic.Int64 // the time of the last change, in Unix nanoseconds
	bad  atomic.Int32 // consecutive folds at rest that have failed

	parts queue.Gate // held while folding in parts
}

// scheduleFold schedules a fold for when the repository is at rest.
func (repo *Repository) scheduleFold() {
	set := repo.set
	if set.readOnly {
		return
	}
	set.mark(repo)
	repo.folding.last.Store(time.Now().UnixNano())
	repo.foldLater(foldDelay)
}

// foldLater calls foldAtRest after a delay, unless that is to happen already.
func (repo *Repository) foldLater(delay time.Duration) {
	if repo.folding.due.Swap(true) {
		return
	}
	repo.retain()
	repo.set.background(delay, repo.foldAtRest)
}

// foldAtRest folds, or waits longer if there were changes meanwhile. It is a user of the
// repository, and releases it.
func (repo *Repository) foldAtRest(ctx context.Context) {
	set := repo.set
	last := repo.folding.last.Load()
	rest := foldDelay - time.Since(time.Unix(0, last))
	if repo.commits.IsBusy() {
		rest = foldDelay
	}
	if rest > foldDelay/10 {
		set.background(rest, repo.foldAtRest)
		return
	}
	defer repo.Release()
	repo.folding.due.Store(false)
	atRest := func() error {
		if repo.folding.last.Load() != last || repo.commits.IsBusy() {
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
		if set.marks.IsOld(repo.Name) {
			set.unmarkAbsent(repo)
			return
		}
	case !errors.Is(err, errNoRest):
		set.log.Error("folding the journal", "repository", repo.Name, "error", err)
		repo.retryFold()
		return
	}
	repo.scheduleFold()
}

// retryFold schedules a fold again after a failure, with a delay that doubles.
func (repo *Repository) retryFold() {
	bad := repo.folding.bad.Add(1)
	repo.foldLater(min(foldDelay<<min(bad, 10), time.Minute))
}

// keepShort keeps the journal, which is locked, from becoming too long.
func (repo *Repository) keepShort(journal disk.File) {
	repo.mu.RLock()
	excess := repo.at.Offset() - max(minJournal, maxJournal/max(1, int64(repo.set.unfolded.Len())), repo.indexSize())
	repo.mu.RUnlock()
	switch {
	case excess <= 0:
	case excess > maxBehind:
		if err := repo.fold(journal); err != nil {
			repo.set.log.Error("folding the journal", "repository", repo.Name, "error", err)
		}
	case !repo.folding.long.Swap(true):
		repo.retain()
		repo.set.background(0, repo.foldLong)
	}
}

// foldLong folds without holding up changes.
func (repo *Repository) foldLong(ctx context.Context) {
	defer repo.Release()
	defer repo.folding.long.Store(false)
	always := func() error { return nil }
	err := repo.foldInParts(ctx, always, repo.sealNow)
	if err != nil && ctx.Err() == nil && !errors.Is(err, ociregistry.ErrNameUnknown) {
		repo.set.log.Error("folding the journal", "repository", repo.Name, "error", err)
	}
}

// foldInParts makes files of contents in parts, and then calls end, which names the
// last few and completes the fold. The journal is locked only while contents are named,
// a few at a time. Before each part foldInParts calls goOn, and stops if that returns an
// error.
func (repo *Repository) foldInParts(ctx context.Context, goOn func() error, end func(context.Context, []blobs.Written) error) error {
	repo.folding.parts.Lock()
	defer repo.folding.parts.Unlock()
	pending := repo.pending()
	for len(pending) > foldFew {
		if err := goOn(); err != nil {
			return err
		}
		part := pending[:min(foldWrites, len(pending))]
		if err := repo.foldPart(ctx, part); err != nil {
			return err
		}
		pending = pending[len(part):]
	}
	if err := goOn(); err != nil {
		return err
	}
	store := repo.set.store
	written, err := store.WriteContents(pending)
	defer func() { store.DiscardContents(written) }()
	if err == nil {
		err = goOn()
	}
	if err != nil {
		return err
	}
	return end(ctx, written)
}

// foldPart makes files of contents.
func (repo *Repository) foldPart(ctx context.Context, contents []blobs.Content) error {
	store := repo.set.store
	written, err := store.WriteContents(contents)
	defer func() { store.DiscardContents(written) }()
	if err != nil {
		return err
	}
	for names := range slices.Chunk(written, foldNames) {
		name := func(journal disk.File) error { return repo.nameContents(journal, names) }
		if err := repo.Commit(&Change{Ctx: ctx, Exclusive: true, work: name}); err != nil {
			return err
		}
	}
	return store.SyncBlobDirs(repo.Dir)
}

// errNoRest means that a change interrupted a fold at rest.
var errNoRest = errors.New("the repository has changed")

// sealDraft completes a fold, with contents and an index.json that were written before
// the journal is locked. If there was a change meanwhile, it names the contents and
// returns errNoRest.
func (repo *Repository) sealDraft(ctx context.Context, written []blobs.Written) error {
	repo.mu.RLock()
	empty := !repo.at.HasRecords()
	repo.mu.RUnlock()
	if empty {
		return repo.Fold(ctx)
	}
	d, err := repo.draftIndex()
	if errors.Is(err, errChanging) {
		if err = repo.refresh(); err == nil {
			err = errNoRest
		}
	}
	if err != nil {
		return err
	}
	defer repo.discardDraft(d)
	return repo.Commit(&Change{Ctx: ctx, Exclusive: true, work: func(journal disk.File) error {
		if err := repo.nameContents(journal, written); err != nil {
			return err
		}
		if repo.at != d.at || !disk.Unchanged(repo.seen.index, d.replaces) {
			return errNoRest
		}
		return repo.seal(journal, d)
	}})
}

// sealNow completes a fold, whatever has changed since the contents were written.
func (repo *Repository) sealNow(ctx context.Context, written []blobs.Written) error {
	return repo.Commit(&Change{Ctx: ctx, Exclusive: true, work: func(journal disk.File) error {
		if err := repo.nameContents(journal, written); err != nil {
			return err
		}
		return repo.fold(journal)
	}})
}

// Fold folds the journal into the layout now.
func (repo *Repository) Fold(ctx context.Context) error {
	return repo.Commit(&Change{Ctx: ctx, Exclusive: true, work: repo.fold})
}

// fold completes a fold from any point. The journal is locked, and the state is up to
// date.
func (repo *Repository) fold(journal disk.File) error { return repo.seal(journal, nil) }

// seal makes files of the contents that only the journal has, replaces index.json by
// d, or by a new draft of the state if d is nil, and restarts the journal. The
// journal is locked, and the state is up to date.
//
// Each step is durable before the next begins, and can be repeated: after a crash at
// any point, index.json and the journal together say what they said before.
func (repo *Repository) seal(journal disk.File, d *draft) error {
	if !repo.at.HasRecords() {
		repo.set.unmark(repo)
		return nil // no changes since the last fold
	}
	if err := repo.putContents(journal); err != nil {
		return err
	}
	if d == nil {
		var err error
		if d, err = repo.draftIndex(); err != nil {
			return err
		}
		defer repo.discardDraft(d)
	}
	if err := repo.putIndex(d); err != nil {
		return err
	}
	if err := repo.removeDeleted(); err != nil {
		return err
	}
	return repo.restart(journal, d)
}

// pending returns the contents that only the journal has.
func (repo *Repository) pending() []blobs.Content {
	repo.mu.RLock()
	defer repo.mu.RUnlock()
	var contents []blobs.Content
	for c := range repo.state.Pending() {
		contents = append(contents, blobs.Content(c))
	}
	return contents
}

// nameContents names those of the written contents that the journal still has, and no
// file has. The journal is locked.
func (repo *Repository) nameContents(journal disk.File, written []blobs.Written) error {
	// Without the record in the journal, a manifest's file would be a blob.
	if err := repo.confirm(journal); err != nil {
		return err
	}
	var names []*blobs.Written
	repo.mu.RLock()
	for i := range written {
		if repo.state.IsPending(repostate.Content(written[i].Content)) {
			names = append(names, &written[i])
		}
	}
	repo.mu.RUnlock()
	err := repo.set.store.NameContents(repo.Dir, names)
	if errors.Is(err, blobs.ErrNoLayout) {
		// A process died while it removed the repository, which was empty then.
		if err = repo.Complete(); err == nil {
			err = repo.set.store.NameContents(repo.Dir, names)
		}
	}
	if err != nil {
		return err
	}
	repo.mu.Lock()
	defer repo.mu.Unlock()
	for _, w := range names {
		repo.state.SetStored(w.Digest)
	}
	return nil
}

// putContents makes files of all contents that only the journal has, and makes their
// names durable.
func (repo *Repository) putContents(journal disk.File) error {
	store := repo.set.store
	written, err := store.WriteContents(repo.pending())
	defer func() { store.DiscardContents(written) }()
	if err != nil {
		return err
	}
	if err := repo.nameContents(journal, written); err != nil {
		return err
	}
	if !repo.state.HasStored() { // only commits change it
		return nil
	}
	return store.SyncBlobDirs(repo.Dir)
}

// removeDeleted removes the files of deleted manifests, durably. Once the journal no
// longer records the deletions, these files would be taken for blobs.
func (repo *Repository) removeDeleted() error {
	store := repo.set.store
	deleted := repo.deletedFiles()
	for _, digest := range deleted {
		if err := store.RemoveFile(repo.Dir, digest); err != nil {
			return err
		}
	}
	if len(deleted) == 0 {
		return nil
	}
	return store.SyncBlobDirs(repo.Dir)
}

// deletedFiles returns the deleted manifests that may still have files.
func (repo *Repository) deletedFiles() []ociregistry.Digest {
	repo.mu.RLock()
	defer repo.mu.RUnlock()
	return slices.Collect(repo.state.Deleted())
}

// restart truncates the journal and begins a new generation. index.json is what d was.
func (repo *Repository) restart(f disk.File, d *draft) error {
	header, at := journal.NewHeader()
	if err := f.Truncate(0); err != nil {
		return err
	}
	// A journal without a header begins with the next change.
	if _, err := f.WriteAt(header, 0); err != nil {
		at = journal.Position{}
	}
	// The old records must not come back: deleting a blob that was a file by now
	// leaves no record here.
	if err := repo.sync(f); err != nil {
		return err
	}
	now, err := f.Stat()
	repo.mu.Lock()
	repo.at, repo.synced = at, at
	repo.seen.journal = now
	if err != nil {
		repo.seen = stamps{}
	}
	repo.state.ClearPending()
	repo.goOnFrom(d.snapshot)
	repo.mu.Unlock()
	repo.set.unmark(repo)
	return nil
}
