package ociclient

import (
	"context"
	"io"
	"sync"
)

// segmentSize is how much memory, in bytes, a chunk grows by.
const segmentSize = 256 << 10

var segments = sync.Pool{New: func() any { return new([segmentSize]byte) }}

// chunk is a part of a blob that is kept in memory while it is sent. It is as
// large as what was put in.
type chunk struct {
	off      int64 // of its first byte in the blob
	n        int64
	segments []*[segmentSize]byte
	borrowed []byte // the content, if it is a caller's for as long as a call lasts
	lease    *lease
}

func (c *chunk) start() int64   { return c.off }
func (c *chunk) given() int64   { return c.end() }
func (c *chunk) end() int64     { return c.off + c.n }
func (c *chunk) failure() error { return nil }
func (c *chunk) done()          { c.lease.end() }

func (c *chunk) open(off int64) (io.ReadCloser, error) {
	c.done()
	c.lease = &lease{r: &chunkReader{c, off - c.off}}
	return c.lease, nil
}

type chunkReader struct {
	c   *chunk
	pos int64
}

func (r *chunkReader) Read(p []byte) (int, error) {
	if r.pos == r.c.n {
		return 0, io.EOF
	}
	var n int
	if r.c.borrowed != nil {
		n = copy(p, r.c.borrowed[r.pos:])
	} else {
		in := r.pos % segmentSize
		n = copy(p, r.c.segments[r.pos/segmentSize][in:min(segmentSize, in+r.c.n-r.pos)])
	}
	r.pos += int64(n)
	return n, nil
}

// room returns memory for the bytes that follow, at least one.
func (c *chunk) room() []byte {
	in := c.n % segmentSize
	if in == 0 && c.n/segmentSize == int64(len(c.segments)) {
		c.segments = append(c.segments, segments.Get().(*[segmentSize]byte))
	}
	return c.segments[c.n/segmentSize][in:]
}

func (c *chunk) write(p []byte) {
	for len(p) > 0 {
		n := copy(c.room(), p)
		c.n += int64(n)
		p = p[n:]
	}
}

// fill reads from r until the chunk has size bytes or r ends, and then returns
// the error of r, io.EOF included.
func (c *chunk) fill(ctx context.Context, r io.Reader, size int64) error {
	for c.n < size {
		if err := ctx.Err(); err != nil {
			return err
		}
		room := c.room()
		n, err := r.Read(room[:min(int64(len(room)), size-c.n)])
		c.n += int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}

// take makes the content of another chunk this one's, which is empty. The other
// is empty then.
func (c *chunk) take(from *chunk) {
	c.segments, c.n = from.segments, from.n
	*from = chunk{}
}

// copyTo appends the content, which is not borrowed, to another chunk.
func (c *chunk) copyTo(to *chunk) {
	for i, left := 0, c.n; left > 0; i, left = i+1, left-segmentSize {
		to.write(c.segments[i][:min(left, segmentSize)])
	}
}

// reset makes the chunk an empty one that begins at off, and frees its memory.
func (c *chunk) reset(off int64) {
	c.done()
	for _, s := range c.segments {
		segments.Put(s)
	}
	*c = chunk{off: off}
}
