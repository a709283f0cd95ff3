package ociunify

import (
	"context"
	"io"
	"sync"
	"time"
)

// watch ends tasks that wait for an origin for too long. It has one timer for all of
// them, because most tasks end long before it fires.
type watch struct {
	mu     sync.Mutex
	closed bool
	first  *task       // of the list of tasks that wait or are detached
	timer  *time.Timer // nil before the first wait
	fires  time.Time   // when the timer fires; zero if it does not
}

// task is work that is done for callers, and its context.
type task struct {
	context.Context
	cancel context.CancelCauseFunc
	watch  *watch

	// owner, if not nil, is called when the task has waited for too long, and decides
	// whether the task ends.
	owner interface{ stalled() }

	// Guarded by watch.mu.
	detached   bool      // it ends when the watch is closed
	until      time.Time // the end of the wait; zero if it does not wait
	expired    bool      // it has waited for too long
	reading    io.Closer // what it reads, closed when the task is stopped; or nil
	listed     bool
	prev, next *task
}

// start starts a task that ends with ctx.
func (w *watch) start(ctx context.Context, t *task) {
	t.watch = w
	t.Context, t.cancel = context.WithCancelCause(ctx)
}

// detach starts a task with the values of ctx that ends when the watch is closed.
func (w *watch) detach(ctx context.Context, t *task) {
	w.start(context.WithoutCancel(ctx), t)
	w.mu.Lock()
	defer w.mu.Unlock()
	t.detached = true
	if w.closed {
		t.cancel(nil)
	}
	w.add(t)
}

// close ends the detached tasks.
func (w *watch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for t := w.first; t != nil; t = t.next {
		if t.detached {
			t.stopped(nil)
		}
	}
}

// end ends a task.
func (t *task) end() {
	t.watch.mu.Lock()
	t.detached = false
	t.watch.remove(t)
	t.watch.mu.Unlock()
	t.cancel(nil)
}

// wait starts to wait for the origin. After limit, the task ends with errStalled. Waits
// can be nested: an earlier end of the outer one stays in effect. The caller passes the
// returned value to waited.
func (t *task) wait(limit time.Duration) (before time.Time) {
	t.watch.mu.Lock()
	defer t.watch.mu.Unlock()
	before = t.until
	if until := time.Now().Add(limit); before.IsZero() || until.Before(before) {
		t.waitUntil(until)
	}
	return before
}

// waitOn extends a wait that has expired, if it has not ended.
func (t *task) waitOn(limit time.Duration) {
	t.watch.mu.Lock()
	defer t.watch.mu.Unlock()
	if t.expired {
		t.waitUntil(time.Now().Add(limit))
	}
}

// waitUntil sets the end of a wait. The lock is held.
func (t *task) waitUntil(until time.Time) {
	t.until, t.expired = until, false
	t.watch.add(t)
	t.watch.arm(until)
}

// waited ends a wait: the origin has answered. The outer wait, if there is one, continues.
func (t *task) waited(before time.Time) {
	t.watch.mu.Lock()
	defer t.watch.mu.Unlock()
	t.until, t.expired = before, false
	if before.IsZero() && !t.detached {
		t.watch.remove(t)
	}
}

// add adds a task to the list. The lock is held.
func (w *watch) add(t *task) {
	if t.listed {
		return
	}
	t.listed, t.prev, t.next = true, nil, w.first
	if w.first != nil {
		w.first.prev = t
	}
	w.first = t
}

// remove removes a task from the list. The lock is held.
func (w *watch) remove(t *task) {
	if !t.listed {
		return
	}
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		w.first = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
	t.listed, t.prev, t.next = false, nil, nil
}

// arm makes the timer fire at the given time or earlier. The lock is held.
func (w *watch) arm(at time.Time) {
	if !w.fires.IsZero() && !at.Before(w.fires) {
		return
	}
	w.fires = at
	if w.timer == nil {
		w.timer = time.AfterFunc(time.Until(at), w.fire)
		return
	}
	w.timer.Reset(time.Until(at))
}

// fire expires the tasks that have waited for too long.
func (w *watch) fire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fires = time.Time{}
	now := time.Now()
	for t := w.first; t != nil; t = t.next {
		switch {
		case t.until.IsZero() || t.expired:
		case now.Before(t.until):
			w.arm(t.until)
		default:
			t.expire()
		}
	}
}

// expire is called when a task has waited for too long. The lock is held.
func (t *task) expire() {
	t.expired = true
	if t.owner != nil {
		go t.owner.stalled()
		return
	}
	t.stopped(errStalled)
}

// stop ends the context of a task, and closes what the task reads: a Read in progress
// need not notice the end of the context.
func (t *task) stop(cause error) {
	t.watch.mu.Lock()
	defer t.watch.mu.Unlock()
	t.stopped(cause)
}

// stopped is stop with the lock held.
func (t *task) stopped(cause error) {
	t.cancel(cause)
	if t.reading != nil {
		go t.reading.Close()
		t.reading = nil
	}
}

// reads sets what the task reads from now on, or nil.
func (t *task) reads(rd io.Closer) {
	t.watch.mu.Lock()
	defer t.watch.mu.Unlock()
	t.reading = rd
	if rd != nil && t.Err() != nil {
		t.stopped(nil)
	}
}
