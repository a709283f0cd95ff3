package ociclient

import (
	"context"
	"io"
	"sync"
)

// segmentSize is the number of bytes by which the memory of a chunk grows.
const segmentSize = 256 << 10

var segments = sync.Pool{New: func() any { return new([segmentSize]byte) }}

// A chunk is a part of a blob that is kept in memory while it is sent.
type chunk struct {
	off      int64 // of its first byte in the blob
	n        int64
	segments []*[segmentSize]byte
	borrowed []byte // the content, if it belongs to the caller of Write
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

// room returns memory for at least one more byte.
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

// fill reads from r until the chunk has size bytes or r returns an error, and returns that
// error, including [io.EOF].
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

// moveFrom moves the content of another chunk to c, which must be empty.
func (c *chunk) moveFrom(from *chunk) {
	c.segments, c.n = from.segments, from.n
	*from = chunk{}
}

// copyTo appends the content to another chunk. The content must not be borrowed.
func (c *chunk) copyTo(to *chunk) {
	for i, left := 0, c.n; left > 0; i, left = i+1, left-segmentSize {
		to.write(c.segments[i][:min(left, segmentSize)])
	}
}

// reset empties the chunk, makes it begin at off, and frees its memory.
func (c *chunk) reset(off int64) {
	c.done()
	for _, s := range c.segments {
		segments.Put(s)
	}
	*c = chunk{off: off}
}
