package ociclient

import (
	"context"
	"io"
	"sync"
)

// life is the time from when a reader is made to when it is closed, which may happen
// while another goroutine reads. Close ends what is under way.
type life struct {
	ctx context.Context // the caller's

	mu     sync.Mutex
	first  io.ReadCloser      // the body of the first answer; nil as long as there is none
	more   context.Context    // for all other requests; nil if there was none
	cancel context.CancelFunc // of more
	ended  bool
}

// context returns the context for a request. Most readers make one, before anybody
// has them, and its answer can be interrupted by itself; only for others there has to
// be a context that ends with the reader.
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

// answered notes the body of an answer.
func (l *life) answered(body io.ReadCloser) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = body
	}
}

// end ends what is under way, and all that begins later.
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

// closedOr returns err, or errClosed if the reader was closed while the caller's
// context had not ended.
func (l *life) closedOr(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended && l.ctx.Err() == nil {
		return errClosed
	}
	return err
}

// interrupt ends the attempt that has a body, whoever reads from it.
func interrupt(body io.ReadCloser) {
	if b, ok := body.(interface{ interrupt() }); ok {
		b.interrupt()
	}
}
