package ociunify

import (
	"context"
	"io"
	"sync"
	"time"
)

// watch ends what waits for an origin that says nothing for too long. One timer does
// that for all tasks, since most of them end long before it fires.
type watch struct {
	mu     sync.Mutex
	closed bool
	first  *task       // of those that wait, and of those that are detached
	timer  *time.Timer // nil before the first wait
	fires  time.Time   // when the timer fires; zero if it does not
}

// task is something that is done for callers, and the context to do it with.
type task struct {
	context.Context
	cancel context.CancelCauseFunc
	watch  *watch

	// owner is told instead when the task has waited for too long, if it is not nil.
	owner interface{ stalled() }

	// Of these watch.mu takes care.
	detached   bool      // it ends when the watch is closed
	until      time.Time // when it has waited for too long; zero if it does not wait
	expired    bool      // it has
	reading    io.Closer // what it reads, closed when the task is stopped; or nil
	listed     bool
	prev, next *task
}

// begin begins a task that ends with a context.
func (w *watch) begin(ctx context.Context, t *task) {
	t.watch = w
	t.Context, t.cancel = context.WithCancelCause(ctx)
}

// detach begins a task with the values of a context, which ends when the watch is
// closed.
func (w *watch) detach(ctx context.Context, t *task) {
	w.begin(context.WithoutCancel(ctx), t)
	w.mu.Lock()
	defer w.mu.Unlock()
	t.detached = true
	if w.closed {
		t.cancel(nil)
	}
	w.add(t)
}

// close ends the tasks that are detached.
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

// wait notes that the origin is waited for, which it may be for so long at most: then
// the task ends with errStalled. An earlier end of a wait that goes on stays. It is
// returned, and to be given to waited.
func (t *task) wait(limit time.Duration) (before time.Time) {
	t.watch.mu.Lock()
	defer t.watch.mu.Unlock()
	before = t.until
	if until := time.Now().Add(limit); before.IsZero() || until.Before(before) {
		t.waitUntil(until)
	}
	return before
}

// waitOn gives more time to a wait that has expired, if it goes on.
func (t *task) waitOn(limit time.Duration) {
	t.watch.mu.Lock()
	defer t.watch.mu.Unlock()
	if t.expired {
		t.waitUntil(time.Now().Add(limit))
	}
}

// waitUntil begins a wait. The lock is held.
func (t *task) waitUntil(until time.Time) {
	t.until, t.expired = until, false
	t.watch.add(t)
	t.watch.arm(until)
}

// waited notes that the origin has answered. A wait that was going on before goes on.
func (t *task) waited(before time.Time) {
	t.watch.mu.Lock()
	defer t.watch.mu.Unlock()
	t.until, t.expired = before, false
	if before.IsZero() && !t.detached {
		t.watch.remove(t)
	}
}

// add lists a task. The lock is held.
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

// remove takes a task out. The lock is held.
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

// arm sees to it that the timer fires at a time, or before. The lock is held.
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

// fire ends the tasks that have waited for too long.
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

// stop ends the context of a task, and a Read that is going on, whether that sees the
// context end or not.
func (t *task) stop(cause error) {
	t.watch.mu.Lock()
	defer t.watch.mu.Unlock()
	t.stopped(cause)
}

// stopped stops a task. The lock is held.
func (t *task) stopped(cause error) {
	t.cancel(cause)
	if t.reading != nil {
		go t.reading.Close()
		t.reading = nil
	}
}

// reads notes what the task reads from now on, or nil.
func (t *task) reads(rd io.Closer) {
	t.watch.mu.Lock()
	defer t.watch.mu.Unlock()
	t.reading = rd
	if rd != nil && t.Err() != nil {
		t.stopped(nil)
	}
}
