package ociserver

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// interrupter ends the reads or the writes that block on a request's connection, when
// the request's context ends or when they take too long. It does that by setting a
// deadline, which the HTTP server resets before the next request.
type interrupter struct {
	ctx    context.Context
	w      http.ResponseWriter
	set    func(*http.ResponseController, time.Time) error
	closer io.Closer // closed if no deadline can be set; may be nil

	interrupted  atomic.Bool // the deadline is set, or about to be
	interrupting sync.WaitGroup

	mu      sync.Mutex
	timer   *time.Timer
	pending bool        // the timer will fire
	until   time.Time   // when the armed time ends; zero if it is not armed
	unwatch func() bool // stops watching ctx; nil before that begins
	stopped bool
}

// watchDelay is the time after which the context is watched. Most requests are over
// before that, and save the cost.
const watchDelay = 10 * time.Millisecond

// start begins to watch the context of x. The caller must call stop in the end.
func (i *interrupter) start(x *exchange, set func(*http.ResponseController, time.Time) error, closer io.Closer) {
	i.ctx, i.w, i.set, i.closer = x.ctx(), x.w, set, closer
	i.mu.Lock()
	defer i.mu.Unlock()
	i.timer, i.pending = time.AfterFunc(watchDelay, i.fire), true
}

// arm interrupts reads or writes after d, unless disarm or stop is called before. It
// does nothing before start.
func (i *interrupter) arm(d time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.stopped || i.timer == nil {
		return
	}
	i.until = time.Now().Add(d)
	if !i.pending {
		i.timer.Reset(d)
		i.pending = true
	}
}

// disarm cancels arm.
func (i *interrupter) disarm() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.until = time.Time{}
}

// fire is called by the timer, and sets it again for the time that is left. So arm and
// disarm, which are called for each read, rarely touch the timer.
func (i *interrupter) fire() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.pending = false
	if i.stopped {
		return
	}
	if i.unwatch == nil {
		i.interrupting.Add(1)
		i.unwatch = context.AfterFunc(i.ctx, i.interrupt)
	}
	if i.until.IsZero() {
		return
	}
	if left := time.Until(i.until); left > 0 {
		i.timer.Reset(left)
		i.pending = true
		return
	}
	i.interrupting.Add(1)
	go i.interrupt()
}

// interrupt interrupts what blocks, and what will block later.
func (i *interrupter) interrupt() {
	defer i.interrupting.Done()
	i.interrupted.Store(true)
	i.expire()
}

// expire sets a deadline that has passed.
func (i *interrupter) expire() {
	err := i.set(http.NewResponseController(i.w), time.Unix(1, 0))
	if err != nil && i.closer != nil {
		i.closer.Close() // if this fails, there is no other way
	}
}

// stop must be called when nothing can block any more. The deadline does not change
// after it has returned.
func (i *interrupter) stop() {
	i.mu.Lock()
	if i.timer != nil && !i.stopped {
		i.timer.Stop()
	}
	if i.unwatch != nil && !i.stopped && i.unwatch() {
		i.interrupting.Done()
	}
	i.stopped = true
	i.mu.Unlock()
	i.interrupting.Wait()
}
