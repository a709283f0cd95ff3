package ociclient

import (
	"sync"
	"time"
)

// A watchdog ends the attempts of a client that wait too long for their server. One timer
// serves all of them. It rarely needs to be reset: most waits end long before their
// bound, and later waits have later bounds.
type watchdog struct {
	mu    sync.Mutex
	start time.Time     // of the clock of rings and until
	timer *time.Timer   // nil before the first wait
	rings time.Duration // when the timer fires; zero if it is not set
	first *attempt      // the list of those that wait
}

// wait begins a wait for an event, in place of the current one. A negative bound means no
// limit.
//
// A transport may continue to send after the server has answered. Nobody waits for that,
// and it does not end the wait for more of the response.
func (a *attempt) wait(bound time.Duration, what string) {
	w := &a.c.watchdog
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.answered && what != toSend {
		return
	}
	w.remove(a)
	if bound < 0 || a.ended {
		return
	}
	a.what, a.bound = what, bound
	w.add(a)
}

// stopWaiting ends the current wait.
func (a *attempt) stopWaiting() {
	w := &a.c.watchdog
	w.mu.Lock()
	w.remove(a)
	w.mu.Unlock()
}

// end ends the attempt, and anything that its transport still does.
func (a *attempt) end() {
	w := &a.c.watchdog
	w.mu.Lock()
	w.remove(a)
	a.ended = true
	w.mu.Unlock()
	a.cancel(nil)
}

// add adds an attempt that does not wait yet. The caller holds w.mu.
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

// remove removes an attempt, if it waits. The caller holds w.mu.
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

// ringAt sets the timer to fire at a time, which is after a duration from now. The caller
// holds w.mu.
func (w *watchdog) ringAt(at, after time.Duration) {
	w.rings = at
	if w.timer == nil {
		w.timer = time.AfterFunc(after, w.ring)
	} else {
		w.timer.Reset(after)
	}
}

// ring ends the attempts that have waited too long, and sets the timer for the next one.
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
