package ociserver

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// leash makes the end of a request's context, or too long a wait, end what blocks
// on its connection, by setting a deadline. The HTTP server resets that before the
// next request.
type leash struct {
	ctx    context.Context
	w      http.ResponseWriter
	set    func(*http.ResponseController, time.Time) error
	closer io.Closer // to be closed where no deadline can be set; may be nil

	late   atomic.Bool // the deadline is set, or about to be
	pulled sync.WaitGroup

	mu      sync.Mutex
	timer   *time.Timer
	pending bool        // the timer is to fire
	until   time.Time   // when the wait ends; zero for never
	stop    func() bool // of the function that waits for ctx; nil if there is none yet
	over    bool
}

// slack is how long it may take until the end of the context is noticed. Most
// requests are over by then, and need not watch for it.
const slack = 10 * time.Millisecond

// tie begins. It must be ended by untie.
func (l *leash) tie(x *exchange, set func(*http.ResponseController, time.Time) error, closer io.Closer) {
	l.ctx, l.w, l.set, l.closer = x.ctx(), x.w, set, closer
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer, l.pending = time.AfterFunc(slack, l.fire), true
}

// await makes what blocks end in d unless hold or untie is called before. Without
// tie it does nothing.
func (l *leash) await(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over || l.timer == nil {
		return
	}
	l.until = time.Now().Add(d)
	if !l.pending {
		l.timer.Reset(d)
		l.pending = true
	}
}

// hold ends the wait that await began.
func (l *leash) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = time.Time{}
}

// fire looks at what has changed since the timer was set. Waits that begin and end
// meanwhile do not touch that.
func (l *leash) fire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = false
	if l.over {
		return
	}
	if l.stop == nil {
		l.pulled.Add(1)
		l.stop = context.AfterFunc(l.ctx, l.pull)
	}
	if l.until.IsZero() {
		return
	}
	if left := time.Until(l.until); left > 0 {
		l.timer.Reset(left)
		l.pending = true
		return
	}
	l.pulled.Add(1)
	go l.pull()
}

func (l *leash) pull() {
	defer l.pulled.Done()
	l.late.Store(true)
	l.cut()
}

// cut ends what blocks.
func (l *leash) cut() {
	err := l.set(http.NewResponseController(l.w), time.Unix(1, 0))
	if err != nil && l.closer != nil {
		l.closer.Close() // if that does not help either, nothing can be done
	}
}

// untie is called when nothing can block any more. The deadline does not change
// after it.
func (l *leash) untie() {
	l.mu.Lock()
	if l.timer != nil && !l.over {
		l.timer.Stop()
	}
	if l.stop != nil && !l.over && l.stop() {
		l.pulled.Done()
	}
	l.over = true
	l.mu.Unlock()
	l.pulled.Wait()
}
