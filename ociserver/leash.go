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
	w      http.ResponseWriter
	set    func(*http.ResponseController, time.Time) error
	closer io.Closer   // to be closed where no deadline can be set; may be nil
	stop   func() bool // the context's; may be nil
	pulled sync.WaitGroup
	late   atomic.Bool // it was pulled, or is about to be

	mu      sync.Mutex
	timer   *time.Timer // may be nil
	running bool        // the timer is, or it ended
	over    bool
}

// tie begins. It must be ended by untie.
func (l *leash) tie(x *exchange, set func(*http.ResponseController, time.Time) error, closer io.Closer) {
	l.w, l.set, l.closer = x.w, set, closer
	if x.ctx().Done() != nil {
		l.pulled.Add(1)
		l.stop = context.AfterFunc(x.ctx(), l.pull)
	}
}

// await makes what blocks end in d unless hold or untie is called before.
func (l *leash) await(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.over || l.running:
		return
	case l.timer == nil:
		l.pulled.Add(1)
		l.timer = time.AfterFunc(d, l.pull)
	default:
		l.timer.Reset(d)
	}
	l.running = true
}

// hold ends the wait that await began.
func (l *leash) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running && l.timer.Stop() {
		l.running = false
	}
}

func (l *leash) pull() {
	defer l.pulled.Done()
	l.late.Store(true)
	err := l.set(http.NewResponseController(l.w), time.Unix(1, 0))
	if err != nil && l.closer != nil {
		l.closer.Close() // if that does not help either, nothing can be done
	}
}

// untie is called when nothing can block any more. The deadline does not change
// after it.
func (l *leash) untie() {
	if l.stop != nil && l.stop() {
		l.pulled.Done()
	}
	l.hold()
	l.mu.Lock()
	if !l.over && l.timer != nil && !l.running {
		l.pulled.Done()
	}
	l.over, l.stop = true, nil
	l.mu.Unlock()
	l.pulled.Wait()
}
