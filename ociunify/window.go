package ociunify

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"
)

// window bounds the spool of a blob that does not fit in it. The spool has the most
// recent bytes. The slowest reader of a caller makes the fetch pause, unless another
// reader waits for more bytes: then readers that are too far behind leave, and continue
// elsewhere. The push to the cache registry makes the fetch pause as well, as long as
// the registry accepts anything.
type window struct {
	size int64 // bytes; 0 if the blob fits

	mu        sync.Mutex
	start     int64 // the bytes before it are no longer in the spool
	followers map[*follower]bool
	expected  int           // callers that are about to enter, and need all bytes
	moved     chan struct{} // closed when a follower moves, enters or leaves; nil if nobody waits
}

const (
	// defaultSpool is the default of CacheOptions.MaxSpool.
	defaultSpool = 256 << 20

	// leastSpool is the minimum: one piece that is read, one that is written, and as
	// much for the followers.
	leastSpool = 4 * pieceSize

	// storeWait is how long the fetch pauses for a cache registry that accepts nothing.
	storeWait = 30 * time.Second
)

var (
	// errBehind is the error of a follower that is too far behind.
	errBehind = errors.New("the blob is read too slowly")

	// errUnwanted ends a fetch of a blob that nobody reads and that is not kept.
	errUnwanted = errors.New("nobody reads the blob")
)

// spoolSize returns the maximum number of bytes of a blob to spool. The size of the blob
// is what the origin says, or negative if it does not.
func (c *Cache) spoolSize(size int64) int64 {
	limit := c.opts.MaxSpool
	switch {
	case limit == 0:
		limit = defaultSpool
	case limit < 0:
		limit = math.MaxInt64
	}
	if c.opts.MaxBytes > 0 && (size < 0 || size > c.opts.MaxBytes) {
		limit = min(limit, c.opts.MaxBytes) // the blob will not be kept
	}
	return max(limit, leastSpool)
}

// init is called before there are followers.
func (w *window) init(size, spool int64) {
	if size < 0 || size > spool {
		w.size = spool
	}
}

// expect makes the fetch wait, before it discards anything, for a caller that is about to enter
// and needs all bytes, until arrived is called.
func (w *window) expect() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expected++
}

// arrived is called when a caller that was expected has entered, or does not come.
func (w *window) arrived() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expected--
	w.wake()
}

// enter adds a follower. One that is too far behind must leave at once.
func (w *window) enter(r *follower) {
	if w.size == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.passed = r.offset; r.passed < w.start {
		r.left = true
		return
	}
	if w.followers == nil {
		w.followers = make(map[*follower]bool)
	}
	w.followers[r] = true
	w.wake()
}

// leave removes a follower.
func (w *window) leave(r *follower) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.followers, r)
	w.wake()
}

// pass notes that a follower has read all bytes before an offset. It returns false if
// the follower must leave, because the spool may no longer have those bytes.
func (w *window) pass(r *follower, offset int64) bool {
	if w.size == 0 {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	r.passed = offset
	w.wake()
	return !r.left
}

// recheck makes the fetch check again whether it must wait.
func (w *window) recheck() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wake()
}

// wake wakes the fetch. The lock is held.
func (w *window) wake() {
	if w.moved != nil {
		close(w.moved)
		w.moved = nil
	}
}

// makeRoom waits until there is room for the bytes before end.
func (f *fetch) makeRoom(ctx context.Context, end int64) error {
	w := &f.window
	for w.size > 0 && end-w.size > w.start {
		moved, byStore := w.advance(end-w.size, f.progress().visible)
		if moved == nil {
			return nil
		}
		if byStore == nil && f.unwanted() {
			return errUnwanted
		}
		if err := w.await(ctx, moved, byStore); err != nil {
			return err
		}
	}
	return nil
}

// advance discards the bytes before start. Those before visible can be read. If it must
// wait, it returns a channel to wait for, and the follower of the push to the cache
// registry if that is the only reason.
func (w *window) advance(start, visible int64) (moved chan struct{}, byStore *follower) {
	w.mu.Lock()
	defer w.mu.Unlock()
	waits := false // a reader waits for more bytes
	for r := range w.followers {
		waits = waits || r.cancel != nil && r.passed >= visible
	}
	holds := len(w.followers) == 0 || w.expected > 0
	for r := range w.followers {
		switch {
		case r.passed >= start:
		case r.cancel == nil:
			byStore = r
		case waits:
			w.expel(r)
		default:
			holds = true
		}
	}
	if holds {
		byStore = nil
	} else if byStore == nil {
		w.start = start
		return nil, nil
	}
	if w.moved == nil {
		w.moved = make(chan struct{})
	}
	return w.moved, byStore
}

// expel makes a follower leave. The lock is held.
func (w *window) expel(r *follower) {
	r.left = true
	delete(w.followers, r)
}

// await waits until a follower moves. If it waits for the cache registry, it expels that
// after storeWait.
func (w *window) await(ctx context.Context, moved chan struct{}, byStore *follower) error {
	var late <-chan time.Time
	if byStore != nil {
		timer := time.NewTimer(storeWait)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-moved:
	case <-ctx.Done():
		return ctx.Err()
	case <-late:
		w.mu.Lock()
		defer w.mu.Unlock()
		w.expel(byStore)
		byStore.stop()
	}
	return nil
}

// unwanted reports whether no caller reads the blob. If there are no followers at all,
// the blob is not kept either.
func (f *fetch) unwanted() bool {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	return f.readers == 0
}
