package ociclient

import (
	"context"
	"io"
	"sync"
)

// slots bounds how many requests to one host are in flight.
type slots struct {
	limit int // zero means no limit

	mu    sync.Mutex
	hosts map[string]chan struct{}
}

// acquire waits for a slot, and returns the function that frees it.
func (s *slots) acquire(ctx context.Context, host string) (release func(), err error) {
	if s.limit <= 0 {
		return func() {}, nil
	}
	slot := s.of(host)
	select {
	case slot <- struct{}{}:
		return sync.OnceFunc(func() { <-slot }), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *slots) of(host string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot, ok := s.hosts[host]
	if !ok {
		if s.hosts == nil {
			s.hosts = make(map[string]chan struct{})
		}
		slot = make(chan struct{}, s.limit)
		s.hosts[host] = slot
	}
	return slot
}

// hold returns a body that calls release at its end, when it is closed, or when the
// context ends: a caller that no longer wants the body may only end the context.
func (s *slots) hold(ctx context.Context, body io.ReadCloser, release func()) io.ReadCloser {
	if s.limit <= 0 {
		return body
	}
	stop := context.AfterFunc(ctx, release)
	return &slotBody{body, func() {
		stop()
		release()
	}}
}

type slotBody struct {
	io.ReadCloser
	release func()
}

func (b *slotBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.release()
	}
	return n, err
}

func (b *slotBody) interrupt() { interrupt(b.ReadCloser) }

func (b *slotBody) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}
