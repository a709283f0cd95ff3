package ociunify

import (
	"bufio"
	"context"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// follower reads a blob while it is fetched.
type follower struct {
	fetch  *fetch
	ctx    context.Context
	cancel context.CancelFunc // nil if this is not a caller's reader
	desc   ociregistry.Descriptor
	whole  bool // it began at the beginning, and goes to the end
	offset int64
	end    int64 // -1 is the end of the blob
	behind int64 // how many visible bytes it leaves as long as there will be more
	ended  bool  // it came to where it ends

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
	return &follower{fetch: f, ctx: ctx, cancel: cancel, desc: p.desc, whole: offset0 == 0 && offset1 < 0, offset: offset0, end: offset1}, nil
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
	p := r.wait()
	limit := p.visible
	if r.end >= 0 {
		limit = min(limit, r.end)
	}
	switch {
	case r.offset < limit && r.ctx.Err() == nil:
		return r.readSpool(buf[:min(int64(len(buf)), limit-r.offset)])
	case r.end >= 0 && r.offset >= r.end, p.done && p.err == nil:
		return 0, io.EOF
	case p.err == errSpool && r.cancel != nil:
		if err := r.detour(); err != nil {
			return 0, err
		}
		return r.read(buf)
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
		r.wait()
		var m int
		m, err = r.copyNext(w)
		n += int64(m)
	}
	if err == io.EOF {
		err = nil
	}
	return n, err
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

// detour goes on at the origin.
func (r *follower) detour() error {
	origin, k := r.fetch.cache.origin, r.fetch.key
	rd, err := r.open(origin, k)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		rd.Close()
		return fs.ErrClosed
	}
	r.rest = rd
	return nil
}

// open opens the rest of the content. The whole is read once more, so that it can
// be verified.
func (r *follower) open(origin ociregistry.Interface, k key) (io.ReadCloser, error) {
	if r.end >= 0 {
		return origin.GetBlobRange(r.ctx, k.repo, ociregistry.Digest(k.ref), r.offset, r.end)
	}
	rd, err := origin.GetBlob(r.ctx, k.repo, ociregistry.Digest(k.ref))
	if err != nil {
		return nil, err
	}
	v := newLastChecked(rd, ociregistry.Digest(k.ref))
	if _, err := io.CopyN(io.Discard, v, r.offset); err != nil {
		rd.Close()
		return nil, err
	}
	return v, nil
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
	r.fetch.cache.leave(r.fetch)
	if rest != nil {
		return rest.Close()
	}
	return nil
}

// lastChecked reads content whose last byte it gives only when the digest is right.
type lastChecked struct {
	io.Closer
	r      *bufio.Reader
	hash   hash.Hash
	digest ociregistry.Digest
}

func newLastChecked(rd io.ReadCloser, d ociregistry.Digest) *lastChecked {
	return &lastChecked{rd, bufio.NewReaderSize(rd, 64<<10), verified.Hash(rd, d), d}
}

func (l *lastChecked) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if _, err := l.r.Peek(2); err != nil && err != io.EOF {
		return 0, err
	} else if err == io.EOF {
		return l.readLast(p)
	}
	n, err := l.r.Read(p[:min(len(p), l.r.Buffered()-1)])
	l.hash.Write(p[:n])
	return n, err
}

// readLast reads the last byte, if there is one.
func (l *lastChecked) readLast(p []byte) (int, error) {
	last, _ := l.r.Peek(1)
	l.hash.Write(last)
	if !isSum(l.hash, l.digest) {
		return 0, fmt.Errorf("%w: the origin sent something else", ociregistry.ErrDigestInvalid)
	}
	if len(last) == 0 {
		return 0, io.EOF
	}
	return l.r.Read(p[:1])
}

func isSum(h hash.Hash, d ociregistry.Digest) bool {
	return digest.NewDigest(d.Algorithm(), h) == d
}
