// Package parts moves the bytes of large content into a store: it collects them in buffers of a
// part's size and sends several parts at a time.
package parts

import (
	"io"
	"sync"
)

// Buffers gives out buffers for the parts of content. It is safe for concurrent use.
type Buffers struct {
	sizes []int // in bytes
	pools []sync.Pool
}

// NewBuffers returns Buffers for parts of a size, in bytes.
func NewBuffers(partSize int) *Buffers {
	b := &Buffers{}
	for _, size := range []int{16 << 10, 128 << 10, 1 << 20} {
		if size < partSize {
			b.sizes = append(b.sizes, size)
		}
	}
	b.sizes = append(b.sizes, partSize)
	b.pools = make([]sync.Pool, len(b.sizes))
	return b
}

// A Buffer has up to the bytes of a part. It is as large as what it has needs, so that a
// stream which sends nothing takes no memory. The zero Buffer is not ready for use.
type Buffer struct {
	from  *Buffers
	level int // in from.sizes; -1 without memory
	mem   *[]byte
	n     int
}

// New returns an empty Buffer.
func (b *Buffers) New() *Buffer { return &Buffer{from: b, level: -1} }

// Len returns the number of bytes.
func (b *Buffer) Len() int { return b.n }

// Bytes returns the bytes. They are valid until the buffer changes.
func (b *Buffer) Bytes() []byte {
	if b.mem == nil {
		return nil
	}
	return (*b.mem)[:b.n]
}

// Room returns how many bytes the buffer can take.
func (b *Buffer) Room() int { return b.from.sizes[len(b.from.sizes)-1] - b.n }

// Write appends as much of p as there is room for, and returns how much that is.
func (b *Buffer) Write(p []byte) int {
	written := 0
	for written < len(p) && b.Room() > 0 {
		n := copy(b.free(), p[written:])
		b.n += n
		written += n
	}
	return written
}

// ReadOnce appends what one Read of r returns. There must be room.
func (b *Buffer) ReadOnce(r io.Reader) (int, error) {
	n, err := r.Read(b.free())
	b.n += n
	return n, err
}

// free returns the free part of the memory, and takes more memory if there is none.
func (b *Buffer) free() []byte {
	if b.mem == nil || b.n == len(*b.mem) {
		b.grow()
	}
	return (*b.mem)[b.n:]
}

func (b *Buffer) grow() {
	next := b.level + 1
	mem, _ := b.from.pools[next].Get().(*[]byte)
	if mem == nil {
		m := make([]byte, b.from.sizes[next])
		mem = &m
	}
	copy(*mem, b.Bytes())
	b.giveBack()
	b.mem, b.level = mem, next
}

func (b *Buffer) giveBack() {
	if b.mem != nil {
		b.from.pools[b.level].Put(b.mem)
		b.mem, b.level = nil, -1
	}
}

// Free empties the buffer and gives its memory back.
func (b *Buffer) Free() {
	b.giveBack()
	b.n = 0
}

// Empty empties the buffer and keeps its memory.
func (b *Buffer) Empty() { b.n = 0 }
