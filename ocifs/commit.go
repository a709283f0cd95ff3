package ocifs

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Changes of a repository go through its journal. Those that come while another
// is being written wait in a queue; then one of them leads: it takes the lock of
// the journal, writes them all with one append and one fsync, and wakes the
// others. So concurrent writers share what is slow.

// change is a call that changes a repository.
type change struct {
	ctx context.Context

	// check checks, with the journal locked, whether the change can be made,
	// and adds the operations that make it to the batch. When it returns an
	// error it has added nothing. It may be called more than once.
	check func(b *batch) error

	// finish does what is to be done after the operations are durable, still
	// with the journal locked. It may be nil.
	finish func() error

	// work is what a change does that is a part of a fold, and has no check. It
	// is called with the journal locked, and the state up to date.
	work func(journal file) error

	creates bool // makes the repository if there is none
	alone   bool // has a batch of its own: check or work look at all of the state
	size    int  // how many bytes of contents it writes, at most

	turn chan struct{} // tells the waiting call that it is done, or that it leads
	done bool
	err  error
}

// maxRecord bounds, in bytes, the buffer for records that a repository keeps.
const maxRecord = 256 << 10

// maxBatch and maxBatchBytes bound how many changes are written at once, and with
// how many bytes of contents, unless one change has more: they are one record, whose
// length has 32 bits, and are in memory twice.
const (
	maxBatch      = 1024
	maxBatchBytes = 16 << 20
)

// queue has the changes of a repository that wait.
type queue struct {
	mu      sync.Mutex
	waiting []*change // if somebody leads, the first of them is the leader's
	leading bool
}

// commit makes a change and returns when it is durable. When the context ends
// before the change's batch began, it is not made.
func (repo *repository) commit(c *change) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if !repo.commits.join(c) {
		select {
		case <-c.turn:
		case <-c.ctx.Done():
			if repo.commits.leave(c) {
				return c.ctx.Err()
			}
			<-c.turn
		}
		if c.done {
			return c.err
		}
	}
	repo.lead(c)
	return c.err
}

// join adds c to the queue, and reports whether it leads.
func (q *queue) join(c *change) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, c)
	if !q.leading {
		q.leading = true
		return true
	}
	c.turn = make(chan struct{}, 1)
	return false
}

// leave takes c out of the queue if its batch has not begun.
func (q *queue) leave(c *change) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, c)
	if i < 0 {
		return false
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	select {
	case <-c.turn: // it was just made the leader
		q.pass()
	default:
	}
	return true
}

// take takes the next batch out of the queue.
func (q *queue) take() []*change {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, size := 1, q.waiting[0].size
	for n < len(q.waiting) && n < maxBatch && !q.waiting[0].alone && !q.waiting[n].alone {
		if size += q.waiting[n].size; size > maxBatchBytes {
			break
		}
		n++
	}
	changes := slices.Clone(q.waiting[:n])
	q.waiting = slices.Delete(q.waiting, 0, n)
	return changes
}

// resign makes the next in the queue the leader.
func (q *queue) resign() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pass()
}

func (q *queue) pass() {
	q.leading = len(q.waiting) > 0
	if q.leading {
		q.waiting[0].turn <- struct{}{}
	}
}

// busy reports whether a change is being made.
func (q *queue) busy() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.leading
}

// lead writes the batch that begins with c.
func (repo *repository) lead(c *change) {
	journal, info, err := repo.lock(c)
	if err != nil {
		c.err = err
		repo.commits.leave(c)
		repo.commits.resign()
		return
	}
	changes := repo.commits.take()
	repo.write(journal, info, changes)
	journal.Close()
	for _, other := range changes {
		if other != c {
			other.done = true
			other.turn <- struct{}{}
		}
	}
	repo.commits.resign()
}

// lock opens the journal, which it makes if need be, and takes its lock.
func (repo *repository) lock(c *change) (file, fs.FileInfo, error) {
	for {
		journal, err := repo.registry.fs.OpenFile(repo.journal, os.O_RDWR, 0)
		if isAbsent(err) {
			if c.work != nil {
				return nil, nil, ociregistry.ErrNameUnknown // there is nothing to fold
			}
			if err := repo.lay(c); err != nil {
				return nil, nil, err
			}
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		info, err := repo.registry.lockFile(c.ctx, journal, repo.journal)
		if info != nil {
			return journal, info, nil
		}
		journal.Close()
		if err != nil {
			return nil, nil, err
		}
	}
}

// lockFile takes the lock of a journal and returns what the system says of it. It
// returns nil if it is not the one of that name any more: the repository may have
// been removed meanwhile.
func (r *Registry) lockFile(ctx context.Context, journal file, name string) (fs.FileInfo, error) {
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 5*time.Millisecond) {
		locked, err := r.fs.TryLock(journal)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if locked {
			break
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	mine, err := journal.Stat()
	if err != nil {
		return nil, err
	}
	there, err := r.lstat(name)
	if err != nil || there == nil || !os.SameFile(mine, there) {
		return nil, err
	}
	return there, nil
}

// lay makes what a change needs for a journal to be there, if the change can be
// made in a repository that holds nothing.
func (repo *repository) lay(c *change) error {
	index, err := repo.registry.lstat(repo.index)
	if err != nil {
		return err
	}
	if index == nil {
		if !c.creates {
			return ociregistry.ErrNameUnknown
		}
		if err := repo.checkNoBlobs(); err != nil {
			return err
		}
		if err := repo.refresh(); err != nil {
			return err
		}
		if c.check != nil {
			if err := c.check(newBatch(repo)); err != nil {
				return err
			}
		}
	}
	repo.scheduleFold() // which removes what may be left empty
	if err := repo.makeLayout(c.ctx); err != nil {
		return err
	}
	repo.anchored.Store(true)
	return nil
}

// write makes the changes. The journal is locked.
func (repo *repository) write(journal file, info fs.FileInfo, changes []*change) {
	repo.loading.lock()
	index, err := repo.registry.lstat(repo.index)
	if err == nil {
		err = repo.catchUp(stamps{index, info})
	}
	if err == nil && changes[0].work == nil {
		err = repo.anchor()
	}
	repo.writing.Store(err == nil)
	repo.loading.unlock()
	if err != nil {
		for _, c := range changes {
			c.err = err
		}
		return
	}
	defer repo.writing.Store(false)
	b := newBatch(repo)
	first := len(changes) // the first that adds operations
	for i, c := range changes {
		if c.check != nil {
			c.err = c.check(b)
		}
		if len(b.ops) > 0 {
			first = min(first, i)
		}
	}
	if len(b.ops) > 0 {
		if err = b.syncPlaced(); err == nil {
			err = repo.append(journal, info.Size(), b.ops)
		}
	} else if changes[0].work == nil {
		first, err = 0, repo.confirm(journal)
	}
	if err != nil {
		// What those after the first found may be due to operations that were not made.
		for _, c := range changes[first:] {
			c.err = err
		}
		repo.removeIfEmpty(journal)
		return
	}
	repo.finish(journal, changes)
}

// finish does what follows when the operations of changes are durable.
func (repo *repository) finish(journal file, changes []*change) {
	shrunk := false
	for _, c := range changes {
		if c.finish != nil && c.err == nil {
			c.err = c.finish()
		}
		if c.work != nil {
			c.err = c.work(journal)
		}
		shrunk = shrunk || c.alone || c.err != nil
	}
	if shrunk && repo.removeIfEmpty(journal) {
		return
	}
	repo.keepShort(journal)
}

// indexSize returns the size of index.json in bytes. repo.mu is held.
func (repo *repository) indexSize() int64 {
	if repo.seen.index == nil {
		return 0
	}
	return repo.seen.index.Size()
}

// append writes operations to the journal, which has size bytes, makes them
// durable, and applies them.
// If it fails it takes back what it wrote.
func (repo *repository) append(journal file, size int64, ops []op) error {
	at := repo.at
	if !repo.isLaid() { // whoever made the journal died
		if err := repo.complete(); err != nil {
			return err
		}
	}
	text := repo.record[:0]
	start := at.offset
	if at.offset == 0 { // a new journal, or none that can be read
		var header []byte
		header, at = newHeader()
		text = append(text, header...)
	}
	if size > start {
		if err := journal.Truncate(start); err != nil {
			return err
		}
	}
	text, end := appendRecord(text, at, ops)
	if cap(text) <= maxRecord {
		repo.record = text
	}
	repo.mu.Lock()
	repo.written = written{ops, end}
	repo.mu.Unlock()
	if err := repo.writeJournal(journal, text, start); err != nil {
		repo.takeBack(journal, start)
		return err
	}
	now, err := journal.Stat()
	repo.registry.keep(repo)
	repo.mu.Lock()
	repo.applyWritten()
	repo.at, repo.synced = end, end
	if err == nil {
		repo.seen.journal = now
	}
	repo.mu.Unlock()
	repo.scheduleFold()
	return nil
}

// written is operations that are being written. Other processes see them as soon as
// the journal has them, before they are durable. Nobody is to see them there and then
// miss them here: so the state gets them, if it is asked for meanwhile.
type written struct {
	ops []op  // nil if there are none, or the state has them
	end place // of the journal with them
}

// showWritten brings the state up to date while a commit is under way.
func (repo *repository) showWritten() error {
	repo.mu.RLock()
	ops, end := repo.written.ops, repo.written.end
	repo.mu.RUnlock()
	if ops == nil {
		return nil
	}
	now, err := repo.registry.lstat(repo.journal)
	if err != nil || now == nil || now.Size() < end.offset {
		return err
	}
	repo.mu.Lock()
	defer repo.mu.Unlock()
	if repo.written.end == end {
		repo.applyWritten()
	}
	return nil
}

// applyWritten adds to the state what is being written, unless it has it. repo.mu is
// held.
func (repo *repository) applyWritten() {
	for i := range repo.written.ops {
		repo.state.apply(&repo.written.ops[i])
	}
	repo.written.ops = nil
}

// takeBack takes back operations that could not be written: the journal ends at start
// again.
func (repo *repository) takeBack(journal file, start int64) {
	undo := journal.Truncate(start)
	repo.mu.Lock()
	applied := repo.written.ops == nil
	repo.written.ops = nil
	if applied || undo != nil {
		repo.seen.journal = nil // whether the operations are there, the next call finds out
	}
	repo.mu.Unlock()
	if applied {
		repo.loading.lock()
		repo.load() // if that fails, the next call tries it again
		repo.loading.unlock()
	}
}

func (repo *repository) writeJournal(journal file, text []byte, offset int64) error {
	if _, err := journal.WriteAt(text, offset); err != nil {
		return err
	}
	return repo.sync(journal)
}

// confirm makes durable what others have appended: they may have died, or failed,
// before they did it. Calls may succeed because all is there already.
func (repo *repository) confirm(journal file) error {
	if repo.at == repo.synced || repo.at.offset <= int64(headerLen) {
		return nil
	}
	if err := repo.sync(journal); err != nil {
		return err
	}
	repo.synced = repo.at
	return nil
}

// sync makes the journal durable. After a failure it may be any of those that it was
// meanwhile, which the next change must not build on: see anchor.
func (repo *repository) sync(journal file) error {
	if repo.registry.opts.NoSync {
		return nil
	}
	err := journal.Sync()
	if err != nil {
		repo.anchored.Store(false)
	}
	return err
}
