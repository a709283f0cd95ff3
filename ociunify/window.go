package ociunify

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"
)

// window bounds the spool of a blob that does not fit in it. The spool has the bytes
// that were fetched last. The slowest of the callers' readers holds the fetch back, but
// not when another one waits for more: then those that are as far behind as the spool
// is large leave, and go on elsewhere. The push to the cache registry holds the fetch
// back as well, as long as it takes anything.
type window struct {
	size int64 // bytes; 0 if the blob fits

	mu        sync.Mutex
	start     int64 // what comes before has gone
	followers map[*follower]bool
	moved     chan struct{} // closed when a follower has moved, come or gone; nil if nobody waits
}

const (
	// defaultSpool is what CacheOptions.MaxSpool stands for by default.
	defaultSpool = 256 << 20

	// leastSpool is the least that works: what is read, what is written, and as much
	// for those who follow.
	leastSpool = 4 * pieceSize

	// storeWait is how long the cache registry may take nothing of a blob until the
	// fetch goes on without it.
	storeWait = 30 * time.Second
)

var (
	// errBehind is for a follower that was too far behind.
	errBehind = errors.New("the blob comes faster than it is read")

	// errUnwanted ends a fetch of what nobody reads and what is not kept.
	errUnwanted = errors.New("nobody wants the blob")
)

// spoolSize returns how many bytes of a blob are spooled. The size of the blob is what
// the origin says, or negative.
func (c *Cache) spoolSize(size int64) int64 {
	limit := c.opts.MaxSpool
	switch {
	case limit == 0:
		limit = defaultSpool
	case limit < 0:
		limit = math.MaxInt64
	}
	if c.opts.MaxBytes > 0 && (size < 0 || size > c.opts.MaxBytes) {
		limit = min(limit, c.opts.MaxBytes) // it will not be kept
	}
	return max(limit, leastSpool)
}

// begin is called before there are followers.
func (w *window) begin(size, spool int64) {
	if size < 0 || size > spool {
		w.size = spool
	}
}

// enter adds a follower, which has left at once if it is too far behind.
func (w *window) enter(r *follower) {
	if w.size == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.at = r.offset; r.at < w.start {
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

// pass notes that a follower has all bytes before an offset. It reports whether they
// were still there.
func (w *window) pass(r *follower, offset int64) bool {
	if w.size == 0 {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	r.at = offset
	w.wake()
	return !r.left
}

// look makes the fetch look again whether it has to wait.
func (w *window) look() {
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

// advance lets go of the bytes before start, of those before visible that can be read.
// If it cannot yet, it returns a channel to wait for, and the push to the cache registry
// if that alone is the reason.
func (w *window) advance(start, visible int64) (moved chan struct{}, byStore *follower) {
	w.mu.Lock()
	defer w.mu.Unlock()
	waits := false // somebody waits for more
	for r := range w.followers {
		waits = waits || r.cancel != nil && r.at >= visible
	}
	holds := len(w.followers) == 0
	for r := range w.followers {
		switch {
		case r.at >= start:
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

// await waits until a follower has moved, or for the cache registry no longer.
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

// unwanted reports whether nobody reads the blob. It is then not kept either, if this
// is asked because there are no followers.
func (f *fetch) unwanted() bool {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	return f.readers == 0
}
