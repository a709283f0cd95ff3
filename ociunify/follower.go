package ociunify

import (
	"context"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"sync"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// follower reads a blob while it is fetched.
type follower struct {
	fetch  *fetch
	ctx    context.Context
	cancel context.CancelFunc // nil if this is not a caller's reader
	stop   context.CancelFunc // of the push to the cache registry
	desc   ociregistry.Descriptor
	whole  bool // it began at the beginning, and goes to the end
	offset int64
	end    int64     // -1 is the end of the blob
	behind int64     // how many visible bytes it leaves as long as there will be more
	ended  bool      // it came to where it ends
	hash   hash.Hash // of what was read, if it may have to go on elsewhere; or nil

	// Of these the window takes care.
	at   int64 // what comes before was read
	left bool  // it goes on elsewhere

	away   sync.Once     // from the fetch
	mu     sync.Mutex    // for Close from another goroutine
	rest   io.ReadCloser // from the origin, when the spool failed
	closed bool
}

// follow returns a reader of the bytes from offset0 to offset1, with the meaning
// of [ociregistry.Reader.GetBlobRange], for a caller that has joined the fetch.
// It waits until the origin has answered.
func (f *fetch) follow(ctx context.Context, at target, offset0, offset1 int64) (_ ociregistry.BlobReader, err error) {
	defer func() {
		if err != nil {
			f.cache.leave(f)
		}
	}()
	p := f.await(ctx, offset0, func(p progress) bool {
		// Where the blob ends may be seen only when it does.
		return p.done || p.open && (p.desc.Size >= 0 || p.visible >= offset0)
	})
	size := p.desc.Size
	switch {
	case p.err != nil && (!p.open || p.err == ctx.Err()):
		return nil, p.err
	case offset0 < 0 || size >= 0 && offset0 > size || offset1 >= 0 && offset1 < offset0:
		return nil, at.fail(fmt.Errorf("%w: there are %d bytes", ociregistry.ErrRangeInvalid, size))
	case size >= 0 && offset1 >= size:
		offset1 = -1
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &follower{fetch: f, ctx: ctx, cancel: cancel, desc: p.desc, whole: offset0 == 0 && offset1 < 0, offset: offset0, end: offset1}
	if r.whole && f.window.size > 0 {
		r.hash = r.desc.Digest.Algorithm().Hash()
	}
	f.window.enter(r)
	return r, nil
}

func (r *follower) Descriptor() ociregistry.Descriptor { return r.desc }

// Verified implements [verified.Reader]: a fetch verifies what it gets.
func (r *follower) Verified() verified.State {
	if !r.whole {
		return verified.State{}
	}
	return verified.State{Digest: r.desc.Digest, Read: r.offset, Ended: r.ended}
}

func (r *follower) Read(buf []byte) (int, error) {
	n, err := r.read(buf)
	r.offset += int64(n)
	r.ended = err == io.EOF
	return n, err
}

func (r *follower) read(buf []byte) (int, error) {
	if rest, err := r.usable(); rest != nil || err != nil || len(buf) == 0 {
		if err != nil || len(buf) == 0 {
			return 0, err
		}
		return rest.Read(buf)
	}
	if !r.fetch.window.pass(r, r.offset) {
		return r.readOn(buf, errBehind)
	}
	p := r.wait()
	limit := p.visible
	if r.end >= 0 {
		limit = min(limit, r.end)
	}
	switch {
	case r.offset < limit && r.ctx.Err() == nil:
		n, err := r.readSpool(buf[:min(int64(len(buf)), limit-r.offset)])
		if !r.fetch.window.pass(r, r.offset+int64(n)) {
			return r.readOn(buf, errBehind) // what was read may have been written over
		}
		if r.hash != nil {
			r.hash.Write(buf[:n])
		}
		return n, err
	case r.end >= 0 && r.offset >= r.end, p.done && p.err == nil:
		return 0, io.EOF
	case p.err == errSpool:
		return r.readOn(buf, errSpool)
	}
	_, err := r.usable() // the context's error, or that it is closed
	if err == nil {
		err = p.err
	}
	return 0, err
}

// followSize is how many bytes of a blob a caller gets at a time. It is less than
// fetchSize, for there may be hundreds of callers.
const followSize = 32 << 10

var followBuffers = sync.Pool{New: func() any { return new([followSize]byte) }}

// WriteTo implements [io.WriterTo]. It has no buffer while it waits.
func (r *follower) WriteTo(w io.Writer) (n int64, err error) {
	for err == nil {
		if r.rest == nil { // or else the fetch is no longer its own
			r.wait()
		}
		var m int
		m, err = r.copyNext(w)
		n += int64(m)
	}
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// copyBuffered copies by way of a buffer, whatever else the two can do.
func copyBuffered(w io.Writer, r io.Reader) (written int64, err error) {
	buf := followBuffers.Get().(*[followSize]byte)
	defer followBuffers.Put(buf)
	for err == nil {
		var n int
		n, err = r.Read(buf[:])
		if n == 0 {
			continue
		}
		m, writeErr := w.Write(buf[:n])
		written += int64(m)
		if writeErr == nil && m < n {
			writeErr = io.ErrShortWrite
		}
		if writeErr != nil {
			return written, writeErr
		}
	}
	if err == io.EOF {
		err = nil
	}
	return written, err
}

// copyNext copies what one Read returns.
func (r *follower) copyNext(w io.Writer) (n int, err error) {
	buf := followBuffers.Get().(*[followSize]byte)
	defer followBuffers.Put(buf)
	m, err := r.Read(buf[:])
	if m > 0 {
		var writeErr error
		if n, writeErr = w.Write(buf[:m]); writeErr != nil {
			return n, writeErr
		}
	}
	return n, err
}

// wait waits until there is something to read.
func (r *follower) wait() progress {
	if p := r.fetch.progress(); r.readable(p) {
		return p
	}
	return r.fetch.await(r.ctx, r.offset+r.behind+1, r.readable)
}

// readable reports whether Read need not wait.
func (r *follower) readable(p progress) bool {
	return p.done || r.offset+r.behind < p.visible || r.end >= 0 && r.offset >= r.end
}

// usable returns the reader of the rest, if there is one.
func (r *follower) usable() (rest io.Reader, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, fs.ErrClosed
	}
	if r.rest != nil {
		return r.rest, nil
	}
	return nil, r.ctx.Err()
}

func (r *follower) readSpool(buf []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0, fs.ErrClosed
	}
	return r.fetch.spool.readAt(buf, r.offset)
}

// readOn reads on elsewhere, if this is a caller's reader.
func (r *follower) readOn(buf []byte, why error) (int, error) {
	if r.cancel == nil {
		return 0, why
	}
	rd, err := r.open()
	if err != nil {
		return 0, err
	}
	r.mu.Lock()
	if r.closed {
		rd.Close()
	} else {
		r.rest = rd
	}
	r.mu.Unlock()
	r.goAway()
	return r.read(buf)
}

// open opens the rest of the content. Of a whole blob it must be known what was
// read, so that it can be verified, or else all is read once more.
func (r *follower) open() (io.ReadCloser, error) {
	c, at := r.fetch.cache, target{"GetBlob", r.fetch.key.repo, r.fetch.key.ref}
	if !r.whole {
		return c.readRange(r.ctx, at, r.offset, r.end)
	}
	d := ociregistry.Digest(at.ref)
	if r.hash != nil && r.offset > 0 {
		return c.openRest(r.ctx, at, r.offset, &lastChecked{hash: r.hash, digest: d})
	}
	quiet := c.quiet(r.ctx, at)
	rd, err := quiet.opened(c.origin.GetBlob(&quiet.task, at.repo, d))
	if err != nil {
		return nil, err
	}
	v := newLastChecked(rd, d)
	if _, err := io.CopyN(io.Discard, v, r.offset); err != nil {
		rd.Close()
		return nil, err
	}
	return &restReader{v, rd, nil}, nil
}

// openRest opens what a check has not read of a blob, in the cache registry or else at
// the origin.
func (c *Cache) openRest(ctx context.Context, at target, offset int64, check *lastChecked) (io.ReadCloser, error) {
	rd, err := c.kept.GetBlobRange(ctx, at.repo, check.digest, offset, -1)
	if err == nil {
		check.r = rd
		return &restReader{check, rd, func(err error) {
			c.damaged(context.WithoutCancel(ctx), holding{kindBlob, at.repo, check.digest}, err)
		}}, nil
	}
	if rd, err = c.originRange(ctx, at, offset, -1); err != nil {
		return nil, err
	}
	check.r = rd
	return &restReader{check, rd, nil}, nil
}

// readRange returns a range of a blob from the cache registry, or else from the
// origin.
func (c *Cache) readRange(ctx context.Context, at target, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	if rd, err := c.kept.GetBlobRange(ctx, at.repo, ociregistry.Digest(at.ref), offset0, offset1); err == nil {
		return rd, nil
	}
	return c.originRange(ctx, at, offset0, offset1)
}

// restReader reads what follows of a blob.
type restReader struct {
	io.Reader
	io.Closer
	damaged func(error) // of what is kept, or nil
}

func (r *restReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if r.damaged != nil && isDamage(err) {
		r.damaged(err)
	}
	return n, err
}

// goAway leaves the fetch.
func (r *follower) goAway() {
	r.away.Do(func() {
		r.fetch.cache.leave(r.fetch)
		r.fetch.window.leave(r)
	})
}

func (r *follower) Close() error {
	r.mu.Lock()
	closed, rest := r.closed, r.rest
	r.closed = true
	r.mu.Unlock()
	if closed {
		return nil
	}
	r.cancel()
	r.goAway()
	if rest != nil {
		return rest.Close()
	}
	return nil
}
