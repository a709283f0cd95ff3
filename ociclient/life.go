package ociclient

import (
	"context"
	"io"
	"sync"
)

// life is the lifetime of a reader. Close ends it, possibly while another goroutine
// reads, and with it the requests in flight.
type life struct {
	ctx context.Context // the caller's

	mu     sync.Mutex
	first  io.ReadCloser      // the body of the first response; nil before that
	more   context.Context    // for all other requests; nil if there was none
	cancel context.CancelFunc // of more
	ended  bool
}

// context returns the context for a request. Most readers make one request, before
// their caller has them, and its response can be interrupted without a context. Only
// other requests need a context that ends with the reader.
func (l *life) context() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		return l.ctx
	}
	if l.more == nil {
		l.more, l.cancel = context.WithCancel(l.ctx)
		if l.ended {
			l.cancel()
		}
	}
	return l.more
}

// answered notes the body of a response.
func (l *life) answered(body io.ReadCloser) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = body
	}
}

// end ends the requests in flight, and those that begin later.
func (l *life) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if l.first != nil {
		interrupt(l.first)
	}
	if l.cancel != nil {
		l.cancel()
	}
}

// closedOr returns err, or errClosed if the reader was closed and the caller's context
// has not ended.
func (l *life) closedOr(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended && l.ctx.Err() == nil {
		return errClosed
	}
	return err
}

// interrupt ends the attempt that a body belongs to, even if another goroutine reads from
// it.
func interrupt(body io.ReadCloser) {
	if b, ok := body.(interface{ interrupt() }); ok {
		b.interrupt()
	}
}
