package parts

import (
	"context"
	"slices"
	"sync"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// A Sender sends parts of an upload, several at a time. It is for one goroutine.
type Sender struct {
	store  objstore.Store
	upload objstore.Multipart
	ctx    context.Context // of all parts
	cancel context.CancelCauseFunc
	slots  chan struct{}
	work   sync.WaitGroup

	mu    sync.Mutex
	parts []objstore.Part
	err   error
}

// NewSender returns a Sender that sends up to concurrency parts at a time. They end with ctx.
func NewSender(ctx context.Context, store objstore.Store, upload objstore.Multipart, concurrency int) *Sender {
	s := &Sender{store: store, upload: upload, slots: make(chan struct{}, concurrency)}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	return s
}

// Send sends a part, and frees its buffer when that is done. It waits while as many as there may be
// are on their way. An error is that of any part.
func (s *Sender) Send(number int, b *Buffer) error {
	select {
	case s.slots <- struct{}{}:
	case <-s.ctx.Done():
		b.Free()
		return context.Cause(s.ctx)
	}
	s.work.Go(func() {
		part, err := s.store.PutPart(s.ctx, s.upload, number, b.Bytes())
		b.Free()
		s.mu.Lock()
		switch {
		case err == nil:
			s.parts = append(s.parts, part)
		case s.err == nil:
			s.err = err
			s.cancel(err)
		}
		s.mu.Unlock()
		<-s.slots
	})
	return context.Cause(s.ctx)
}

// Done returns the parts that were sent, in no order.
func (s *Sender) Done() []objstore.Part {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.parts)
}

// Wait waits until all parts are sent, and returns them in order. The Sender cannot be used
// afterwards.
func (s *Sender) Wait() ([]objstore.Part, error) {
	s.work.Wait()
	defer s.cancel(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortFunc(s.parts, func(a, b objstore.Part) int { return a.Number - b.Number })
	return s.parts, s.err
}

// Stop ends the parts that are on their way.
func (s *Sender) Stop() {
	s.cancel(context.Canceled)
	s.work.Wait()
}
