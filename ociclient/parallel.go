package ociclient

import (
	"context"
	"io"
	"sync"

	"github.com/seed-40b21970/oci/ociregistry"
)

// A parallelReader reads the parts of a blob with concurrent requests. It returns them in
// order, and has no more of them in memory than there may be requests.
type parallelReader struct {
	first  *stream // the first part, which is not buffered; nil after its end
	ctx    context.Context
	cancel context.CancelFunc
	parts  <-chan *part  // in order
	part   *part         // the one that Read returns
	window chan struct{} // has an element for each part in memory
	pool   *sync.Pool
	wg     sync.WaitGroup
}

// A part is a part of a blob.
type part struct {
	ready chan struct{} // closed when the other fields are set
	data  []byte
	buf   *[]byte
	err   error
}

// newParallelReader asks for the first part of the blob. The response says whether there
// are others, and whether the registry supports ranges at all.
func (b blob) newParallelReader(ctx context.Context, about target) (ociregistry.BlobReader, error) {
	opts := b.c.opts.Parallel
	r := new(seekReader)
	r.life.ctx = ctx
	s, err := b.openIn(&r.life, &r.first, 0, opts.PartSize)
	if refusesRange(err) { // the blob is empty
		s, err = b.openIn(&r.life, &r.first, 0, -1)
	}
	if err != nil {
		return nil, err
	}
	if s.partial && s.size < 0 {
		s.Close()
		if s, err = b.openIn(&r.life, &r.first, 0, -1); err != nil {
			r.life.end()
			return nil, err
		}
	}
	if !s.partial || s.size <= opts.PartSize {
		s.end = s.size
		return r.read(s, about), nil
	}
	ctx, stop := context.WithCancel(r.life.context())
	p := &parallelReader{first: s, ctx: ctx, cancel: stop, window: make(chan struct{}, opts.Concurrency), pool: &b.c.parts}
	p.window <- struct{}{} // for the first part
	parts := make(chan *part, opts.Concurrency)
	p.parts = parts
	p.wg.Go(func() { p.fetch(ctx, b, s.size, parts) })
	r.read(s, about)
	r.src = p
	return &r.blobReader, nil
}

// fetch fetches all parts but the first.
func (r *parallelReader) fetch(ctx context.Context, b blob, size int64, parts chan<- *part) {
	defer close(parts)
	partSize := b.c.opts.Parallel.PartSize
	for offset := partSize; offset < size; offset += partSize {
		select {
		case r.window <- struct{}{}:
		case <-ctx.Done():
			return
		}
		p := &part{ready: make(chan struct{})}
		parts <- p // does not block: window bounds the number of parts
		r.wg.Go(func() {
			defer close(p.ready)
			p.err = r.fetchPart(ctx, b, p, offset, min(offset+partSize, size))
		})
	}
}

func (r *parallelReader) fetchPart(ctx context.Context, b blob, p *part, offset, end int64) error {
	s, err := b.open(&life{ctx: ctx}, offset, end)
	if err != nil {
		return err
	}
	defer s.Close()
	var ok bool
	if p.buf, ok = r.pool.Get().(*[]byte); !ok {
		buf := make([]byte, b.c.opts.Parallel.PartSize)
		p.buf = &buf
	}
	p.data = (*p.buf)[:end-offset]
	if _, err = io.ReadFull(s, p.data); err == io.EOF {
		err = io.ErrUnexpectedEOF // the blob has become shorter
	}
	return err
}

func (r *parallelReader) Read(p []byte) (int, error) {
	if r.first != nil {
		n, err := r.first.Read(p)
		if err != io.EOF {
			return n, err
		}
		r.first.Close()
		r.first = nil
		<-r.window
		if n > 0 {
			return n, nil
		}
	}
	for r.part == nil || len(r.part.data) == 0 {
		r.release()
		next, ok := <-r.parts
		switch {
		case !ok && r.ctx.Err() != nil: // fetch has stopped early
			return 0, r.ctx.Err()
		case !ok:
			return 0, io.EOF
		}
		<-next.ready
		if r.part = next; next.err != nil {
			return 0, next.err
		}
	}
	n := copy(p, r.part.data)
	r.part.data = r.part.data[n:]
	return n, nil
}

// release releases the current part.
func (r *parallelReader) release() {
	if r.part == nil {
		return
	}
	if r.part.buf != nil {
		r.pool.Put(r.part.buf)
	}
	r.part = nil
	<-r.window
}

// Close cancels the requests, and waits until they have ended.
func (r *parallelReader) Close() error {
	r.cancel()
	if r.first != nil {
		r.first.Close()
	}
	r.wg.Wait()
	return nil
}
