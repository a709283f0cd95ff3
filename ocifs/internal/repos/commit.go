package repos

import (
	"context"
	"io/fs"
	"os"

	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/journal"
	"github.com/seed-40b21970/oci/ocifs/internal/queue"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Changes of a repository go through its journal. Changes that arrive while others are
// being written wait in a queue. Then one of them locks the journal, and writes all of them
// with one append and one fsync: a batch is one record, whose length field has 32 bits, and
// it is in memory twice.

// A Change is a call that changes a repository.
type Change struct {
	Ctx context.Context

	// Check checks, with the journal locked, whether the change can be made, and adds
	// its operations to the batch. If it returns an error, it has added nothing. It
	// may be called more than once.
	Check func(b *Batch) error

	// Finish, if not nil, is called after the operations are durable, with the
	// journal still locked.
	Finish func() error

	// work is the work of a part of a fold, which has no check. It is called with the
	// journal locked and the state up to date.
	work func(journal disk.File) error

	Creates   bool // the change creates the repository if there is none
	Exclusive bool // the change has a batch of its own, because Check or work use all of the state
	Size      int  // the maximum number of bytes of contents that it writes

	queue.Call // which Commit fills
}

// maxRecord is the maximum size, in bytes, of the record buffer that a repository
// keeps.
const maxRecord = 256 << 10

// Commit makes a change and returns when it is durable. If the context ends before
// the change's batch begins, the change is not made.
func (repo *Repository) Commit(c *Change) error {
	c.Call = queue.Call{Exclusive: c.Exclusive, Size: c.Size}
	if c.work == nil { // a fold makes no difference to the bytes
		repo.changes.begin()
		defer repo.changes.end()
	}
	return repo.commits.Do(c.Ctx, c, &repo.committer)
}

// committer makes the changes of a repository. It has what its two steps share.
type committer struct {
	repo    *Repository
	journal disk.File
	info    fs.FileInfo
}

func (l *committer) Begin(c *Change) (err error) {
	l.journal, l.info, err = l.repo.lock(c)
	return err
}

func (l *committer) Make(changes []*Change) {
	journal := l.journal
	l.journal = nil
	l.repo.write(journal, l.info, changes)
	l.repo.unlock(journal, changes[0])
}

// lock opens the journal and locks it. If necessary, it creates the journal.
func (repo *Repository) lock(c *Change) (disk.File, fs.FileInfo, error) {
	for {
		journal, err := repo.openJournal()
		if disk.IsAbsent(err) {
			if c.work != nil {
				return nil, nil, ociregistry.ErrNameUnknown // there is nothing to fold
			}
			if err := repo.makeJournal(c); err != nil {
				return nil, nil, err
			}
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		info, err := disk.LockNamed(c.Ctx, repo.set.fs, journal, repo.journal)
		if info != nil {
			return journal, info, nil
		}
		journal.Close()
		if err != nil {
			return nil, nil, err
		}
	}
}

// maxJournals is the maximum number of journals that stay open between changes.
const maxJournals = 64

// openJournal returns the journal, and opens it if necessary.
func (repo *Repository) openJournal() (disk.File, error) {
	if journal := repo.open; journal != nil {
		repo.open = nil
		repo.set.journals.Add(-1)
		return journal, nil
	}
	return repo.set.fs.OpenFile(repo.journal, os.O_RDWR, 0)
}

// unlock releases the lock of the journal after the batch of c. The journal stays
// open for more changes until the next fold, which always follows and closes it.
func (repo *Repository) unlock(journal disk.File, c *Change) {
	set := repo.set
	repo.mu.RLock()
	gone := repo.seen.journal == nil
	repo.mu.RUnlock()
	stays := c.work == nil && !gone && set.unfolded.Has(repo) && !set.closed.Load() && set.journals.Load() < maxJournals
	if stays && set.fs.Unlock(journal) == nil {
		repo.open = journal
		set.journals.Add(1)
		return
	}
	journal.Close()
}

// makeJournal creates the journal for a change, with the layout, if the change can be
// made in an empty repository.
func (repo *Repository) makeJournal(c *Change) error {
	index, err := disk.Lstat(repo.set.fs, repo.index)
	if err != nil {
		return err
	}
	if index == nil {
		if err := repo.checkCreates(c); err != nil {
			return err
		}
	}
	repo.scheduleFold() // removes the repository if it stays empty
	if err := repo.makeLayout(c.Ctx); err != nil {
		return err
	}
	repo.anchored.Store(true)
	return nil
}

// checkCreates checks that a change can be made in a repository that has no
// index.json.
func (repo *Repository) checkCreates(c *Change) error {
	if !c.Creates {
		return ociregistry.ErrNameUnknown
	}
	if err := repo.checkNoBlobs(); err != nil {
		return err
	}
	if repo.isThere() { // it was removed meanwhile
		if err := repo.refresh(); err != nil {
			return err
		}
	}
	if c.Check == nil {
		return nil
	}
	return c.Check(newBatch(repo))
}

// write makes the changes. The journal is locked.
func (repo *Repository) write(journal disk.File, info fs.FileInfo, changes []*Change) {
	repo.loading.Lock()
	index, err := disk.Lstat(repo.set.fs, repo.index)
	if err == nil {
		err = repo.catchUp(stamps{index, info})
	}
	if err == nil && changes[0].work == nil {
		err = repo.anchor()
	}
	repo.writing.Store(err == nil)
	repo.loading.Unlock()
	if err != nil {
		for _, c := range changes {
			c.Err = err
		}
		return
	}
	defer repo.writing.Store(false)
	b := newBatch(repo)
	b.file, b.size = journal, info.Size()
	first := len(changes) // index of the first change that adds operations
	for i, c := range changes {
		if c.Check != nil {
			c.Err = c.Check(b)
		}
		if len(b.ops) > 0 {
			first = min(first, i)
		}
	}
	if len(b.ops) > 0 {
		if err = b.syncAdded(); err == nil {
			err = repo.append(journal, info.Size(), b.ops, repo.writeJournal)
		}
		if err == nil {
			repo.synced = repo.at
		}
	} else if changes[0].work == nil {
		first, err = 0, repo.confirm(journal)
	}
	if err != nil {
		// The results of later changes may depend on operations that were not made.
		for _, c := range changes[first:] {
			c.Err = err
		}
		repo.removeIfEmpty(journal)
		return
	}
	repo.finish(journal, changes)
}

// finish completes changes whose operations are durable.
func (repo *Repository) finish(journal disk.File, changes []*Change) {
	shrunk := false
	for _, c := range changes {
		if c.Finish != nil && c.Err == nil {
			repo.set.work.NewName() // as addFileOnce does, but to delete something needs no room
			c.Err = repo.changeFiles(c.Finish)
		}
		if c.work != nil {
			c.Err = c.work(journal)
		}
		shrunk = shrunk || c.Exclusive || c.Err != nil
	}
	if shrunk && repo.removeIfEmpty(journal) {
		return
	}
	repo.keepShort(journal)
}

// indexSize returns the size of index.json in bytes. repo.mu is held.
func (repo *Repository) indexSize() int64 {
	if repo.seen.index == nil {
		return 0
	}
	return repo.seen.index.Size()
}

// append writes operations, if there are any, to the journal, which has size bytes, and
// applies them to the state. If it fails, it undoes the write.
func (repo *Repository) append(f disk.File, size int64, ops []repostate.Op, write func(f disk.File, text []byte, offset int64) error) error {
	if len(ops) == 0 {
		return nil // a record without operations would be the end of the journal for who reads it
	}
	at := repo.at
	if !repo.HasLayout() { // the process that made the journal died
		if err := repo.Complete(); err != nil {
			return err
		}
	}
	text := repo.record[:0]
	start := at.Offset()
	if at == (journal.Position{}) { // a new journal, or an invalid one
		var header []byte
		header, at = journal.NewHeader()
		text = append(text, header...)
	}
	if size > start {
		if err := f.Truncate(start); err != nil {
			return err
		}
	}
	if !at.HasRecords() {
		repo.set.markAgain(repo)
	}
	defer repo.scheduleFold() // also of nothing, if this fails: it removes the mark
	text, end := journal.AppendRecord(text, at, func(dst []byte) []byte { return repostate.AppendOps(dst, ops) })
	if cap(text) <= maxRecord {
		repo.record = text
	}
	repo.mu.Lock()
	repo.written = written{ops, end}
	repo.mu.Unlock()
	if err := write(f, text, start); err != nil {
		repo.undo(f, start)
		return err
	}
	now, err := f.Stat()
	repo.mu.Lock()
	repo.applyWritten()
	repo.at = end
	if err == nil {
		repo.seen.journal = now
	}
	repo.mu.Unlock()
	repo.set.keepTexts(ops)
	return nil
}

// keepTexts keeps the texts of manifests that were pushed, and drops those of deleted ones.
func (set *Set) keepTexts(ops []repostate.Op) {
	for i := range ops {
		switch o := &ops[i]; {
		case o.Kind == repostate.PutManifest && o.Text != "":
			set.texts.Add(o.Digest, o.Text)
		case o.Kind == repostate.DeleteManifest:
			set.texts.Remove(o.Digest)
		}
	}
}

// written has the operations that are being written. Other processes see them as soon
// as they are in the journal, before they are durable. A caller that saw them there
// must not miss them here, so the state gets them early if it is needed in the
// meantime.
type written struct {
	ops []repostate.Op   // nil if there are none, or the state has them
	end journal.Position // of the journal with them
}

// showWritten brings the state up to date while a commit is under way.
func (repo *Repository) showWritten() error {
	repo.mu.RLock()
	ops, end := repo.written.ops, repo.written.end
	repo.mu.RUnlock()
	if ops == nil {
		return nil
	}
	now, err := disk.Lstat(repo.set.fs, repo.journal)
	if err != nil || now == nil || now.Size() < end.Offset() {
		return err
	}
	repo.mu.Lock()
	defer repo.mu.Unlock()
	if repo.written.end == end {
		repo.applyWritten()
	}
	return nil
}

// applyWritten applies the operations that are being written to the state, unless it
// has them. repo.mu is held.
func (repo *Repository) applyWritten() {
	repo.apply(repo.written.ops)
	repo.written.ops = nil
}

// undo truncates the journal to start after a failed write of operations.
func (repo *Repository) undo(journal disk.File, start int64) {
	failed := journal.Truncate(start)
	repo.mu.Lock()
	applied := repo.written.ops == nil
	repo.written.ops = nil
	if applied || failed != nil {
		repo.seen.journal = nil // the next call finds out whether the operations are there
	}
	repo.mu.Unlock()
	if applied {
		repo.Doubt()
		repo.loading.Lock()
		repo.load() // if it fails, the next call tries again
		repo.loading.Unlock()
	}
}

func (repo *Repository) writeJournal(journal disk.File, text []byte, offset int64) error {
	if _, err := journal.WriteAt(text, offset); err != nil {
		return err
	}
	return repo.sync(journal)
}

// confirm makes durable the records that others have appended: they may have died, or
// failed, before they did. A call may succeed because of these records, with nothing
// of its own to write.
func (repo *Repository) confirm(journal disk.File) error {
	if repo.at == repo.synced || !repo.at.HasRecords() {
		return nil
	}
	if err := repo.sync(journal); err != nil {
		return err
	}
	repo.synced = repo.at
	return nil
}

// sync makes the journal durable. After a failure, the disk may have any version that
// the file has had since the last sync, and the next change must not build on it: see
// anchor.
func (repo *Repository) sync(journal disk.File) error {
	if !repo.set.work.IsDurable() {
		return nil
	}
	err := journal.Sync()
	if err != nil {
		repo.anchored.Store(false)
	}
	return err
}
