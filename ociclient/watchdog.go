package ociclient

import (
	"sync"
	"time"
)

// watchdog ends the attempts of a client whose server is waited for too long. It has
// one timer for all of them, which is mostly left alone: a wait ends long before its
// bound, and the next one has a later bound.
type watchdog struct {
	mu    sync.Mutex
	start time.Time     // from which its clock counts
	timer *time.Timer   // nil if nobody has waited yet
	rings time.Duration // when the timer does; zero if it does not
	first *attempt      // of those that wait
}

// wait begins a wait for the server to do something, in place of the one before. With
// a negative bound there is none.
// A transport may go on to send when there is an answer: nobody waits for that, and
// it does not end the wait for more of the answer.
func (a *attempt) wait(bound time.Duration, what string) {
	w := &a.c.watchdog
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.answered && what != toSend {
		return
	}
	w.remove(a)
	if bound < 0 || a.over {
		return
	}
	a.what, a.bound = what, bound
	w.add(a)
}

// rest ends a wait.
func (a *attempt) rest() {
	w := &a.c.watchdog
	w.mu.Lock()
	w.remove(a)
	w.mu.Unlock()
}

// end ends the attempt, and what its transport may still do.
func (a *attempt) end() {
	w := &a.c.watchdog
	w.mu.Lock()
	w.remove(a)
	a.over = true
	w.mu.Unlock()
	a.cancel(nil)
}

// add adds an attempt that does not wait yet. The lock is held.
func (w *watchdog) add(a *attempt) {
	if w.start.IsZero() {
		w.start = time.Now()
	}
	a.waiting, a.until = true, time.Since(w.start)+a.bound
	if a.next = w.first; a.next != nil {
		a.next.prev = a
	}
	w.first = a
	if w.rings == 0 || a.until < w.rings {
		w.ringAt(a.until, a.bound)
	}
}

// remove removes an attempt, if it waits. The lock is held.
func (w *watchdog) remove(a *attempt) {
	if !a.waiting {
		return
	}
	if a.prev != nil {
		a.prev.next = a.next
	} else {
		w.first = a.next
	}
	if a.next != nil {
		a.next.prev = a.prev
	}
	a.waiting, a.prev, a.next = false, nil, nil
}

// ringAt sets the timer, which is after some time. The lock is held.
func (w *watchdog) ringAt(at, after time.Duration) {
	w.rings = at
	if w.timer == nil {
		w.timer = time.AfterFunc(after, w.ring)
	} else {
		w.timer.Reset(after)
	}
}

// ring ends the attempts that have waited too long, and sets the timer for the next.
func (w *watchdog) ring() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rings = 0
	now := time.Since(w.start)
	next := time.Duration(0)
	for a := w.first; a != nil; {
		following := a.next
		switch {
		case a.until <= now:
			w.remove(a)
			a.cancel(&timeoutError{a.req.URL.Host, a.what, a.bound})
		case next == 0 || a.until < next:
			next = a.until
		}
		a = following
	}
	if next > 0 {
		w.ringAt(next, next-now)
	}
}
