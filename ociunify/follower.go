package ociunify

import (
	"context"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"sync"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// follower reads a blob while it is fetched.
type follower struct {
	fetch  *fetch
	ctx    context.Context
	cancel context.CancelFunc // nil if this is not the reader of a caller
	stop   context.CancelFunc // ends the push to the cache registry
	desc   ociregistry.Descriptor
	whole  bool // it reads the blob from beginning to end
	offset int64
	end    int64     // -1 means the end of the blob
	lag    int64     // the number of visible bytes to leave while more are to come
	ended  bool      // it has reached the end
	hash   hash.Hash // of the bytes that were read; nil if it never continues elsewhere

	// Guarded by window.mu.
	passed int64 // the bytes before this offset were read
	left   bool  // it must continue elsewhere

	leaveOnce sync.Once
	mu        sync.Mutex    // for Close from another goroutine
	rest      io.ReadCloser // what it continues with elsewhere, or nil
	closed    bool
}

// follow returns a reader of the bytes from offset0 to offset1, which are as in
// [ociregistry.Reader.GetBlobRange], for a caller that has joined the fetch. It waits
// until the origin has answered.
func (f *fetch) follow(ctx context.Context, at call.Call, offset0, offset1 int64) (_ ociregistry.BlobReader, err error) {
	defer func() {
		if err != nil {
			f.cache.leave(f)
		}
	}()
	p := f.await(ctx, offset0, func(p progress) bool {
		// The size may be known only at the end.
		return p.done || p.open && (p.desc.Size >= 0 || p.visible >= offset0)
	})
	size := p.desc.Size
	switch {
	case p.err != nil && (!p.open || p.err == ctx.Err()):
		return nil, p.err
	case offset0 < 0 || size >= 0 && offset0 > size || offset1 >= 0 && offset1 < offset0:
		return nil, at.Wrap(fmt.Errorf("%w: there are %d bytes", ociregistry.ErrRangeInvalid, size))
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

// Verified implements [verified.Reader]: the fetch verifies the blob.
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
		return r.readElsewhere(buf, errBehind)
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
			return r.readElsewhere(buf, errBehind) // buf may have bytes that were overwritten
		}
		if r.hash != nil {
			r.hash.Write(buf[:n])
		}
		return n, err
	case r.end >= 0 && r.offset >= r.end, p.done && p.err == nil:
		return 0, io.EOF
	case p.err == errSpool:
		return r.readElsewhere(buf, errSpool)
	}
	_, err := r.usable() // the error of the context, or fs.ErrClosed
	if err == nil {
		err = p.err
	}
	return 0, err
}

// followSize is the number of bytes that a caller gets at a time. It is less than
// pieceSize, because there may be hundreds of callers.
const followSize = 32 << 10

var followBuffers = sync.Pool{New: func() any { return new([followSize]byte) }}

// WriteTo implements [io.WriterTo]. It holds no buffer while it waits.
func (r *follower) WriteTo(w io.Writer) (n int64, err error) {
	for err == nil {
		if r.rest == nil { // otherwise it has left the fetch
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

// copyBuffered is [io.Copy] without the use of [io.WriterTo] and [io.ReaderFrom].
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

// copyNext copies the bytes that one Read returns.
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
	return r.fetch.await(r.ctx, r.offset+r.lag+1, r.readable)
}

// readable reports whether Read would not wait.
func (r *follower) readable(p progress) bool {
	return p.done || r.offset+r.lag < p.visible || r.end >= 0 && r.offset >= r.end
}

// usable returns the reader of the rest if there is one, and an error if the follower
// is closed or its context has ended.
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

// readElsewhere leaves the fetch and continues with the cache registry or the origin.
// Only the readers of callers do that; for others it returns why.
func (r *follower) readElsewhere(buf []byte, why error) (int, error) {
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
	r.leave()
	return r.read(buf)
}

// open opens the rest of the content. To verify a whole blob it needs the hash of what
// was read; without that, it reads the blob again from the beginning.
func (r *follower) open() (io.ReadCloser, error) {
	c, at := r.fetch.cache, call.New("GetBlob", r.fetch.key.repo, r.fetch.key.ref)
	if !r.whole {
		return c.readRange(r.ctx, at, r.offset, r.end)
	}
	d := ociregistry.Digest(at.Ref)
	if r.hash != nil && r.offset > 0 {
		return c.openRest(r.ctx, at, r.offset, &verifyingReader{hash: r.hash, digest: d})
	}
	reader := c.newOriginReader(r.ctx, at)
	rd, err := reader.opened(c.origin.GetBlob(&reader.task, at.Repository, d))
	if err != nil {
		return nil, err
	}
	v := newVerifyingReader(rd, d)
	if _, err := io.CopyN(io.Discard, v, r.offset); err != nil {
		rd.Close()
		return nil, err
	}
	return &restReader{v, rd, nil}, nil
}

// openRest opens the rest of a blob, from offset, in the cache registry or else at the
// origin. The reader verifies it with check, which has the hash of what comes before.
func (c *Cache) openRest(ctx context.Context, at call.Call, offset int64, check *verifyingReader) (io.ReadCloser, error) {
	rd, err := c.kept.GetBlobRange(ctx, at.Repository, check.digest, offset, -1)
	if err == nil {
		check.r = rd
		return &restReader{check, rd, func(err error) {
			c.damaged(context.WithoutCancel(ctx), holding{kindBlob, at.Repository, check.digest}, err)
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
func (c *Cache) readRange(ctx context.Context, at call.Call, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	if rd, err := c.kept.GetBlobRange(ctx, at.Repository, ociregistry.Digest(at.Ref), offset0, offset1); err == nil {
		return rd, nil
	}
	return c.originRange(ctx, at, offset0, offset1)
}

// restReader reads the rest of a blob.
type restReader struct {
	io.Reader
	io.Closer
	damaged func(error) // called if what is kept is damaged; or nil
}

func (r *restReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if r.damaged != nil && isDamage(err) {
		r.damaged(err)
	}
	return n, err
}

// leave leaves the fetch and its window.
func (r *follower) leave() {
	r.leaveOnce.Do(func() {
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
	r.leave()
	if rest != nil {
		return rest.Close()
	}
	return nil
}
