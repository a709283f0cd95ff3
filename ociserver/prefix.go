package ociserver

import "sync"

// prefix is the first bytes of a blob. They are read before the backend is called, since
// a backend may allocate much more memory, and files or connections, as soon as it is
// called. A body that never arrives costs none of that; what it costs here grows with
// the bytes that have arrived.
type prefix struct {
	unread []byte
	buf    *[]byte
	pool   *sync.Pool // that buf is from
}

// pieces are pools of buffers of 4, 8, 16, 32 and 64 KiB.
var pieces = [...]*sync.Pool{newPool(4 << 10), newPool(8 << 10), newPool(16 << 10), newPool(32 << 10), newPool(64 << 10)}

func newPool(size int) *sync.Pool {
	return &sync.Pool{New: func() any {
		buf := make([]byte, size)
		return &buf
	}}
}

// piecePool returns the pool of the i-th piece of something that is read in pieces. Each
// piece is twice as large as the one before, up to the largest.
func piecePool(i int) *sync.Pool { return pieces[min(i, len(pieces)-1)] }

// fill reads the first bytes of b, until b ends or fails, or until 32 KiB have been read.
// It leaves an error to b.
func (f *prefix) fill(b *body) {
	var err error
	for _, pool := range [...]*sync.Pool{pieces[0], pieces[3]} {
		old := *f
		buf := pool.Get().(*[]byte)
		n := copy(*buf, old.unread)
		old.drop()
		f.buf, f.pool = buf, pool
		for n < len(*buf) && int64(n) != b.want && err == nil {
			var m int
			m, err = b.receive((*buf)[n:])
			n += m
		}
		f.unread = (*buf)[:n]
		if n < len(*buf) {
			break
		}
	}
}

// read reads bytes that were not read before.
func (f *prefix) read(p []byte) int {
	if f.buf == nil {
		return 0
	}
	n := copy(p, f.unread)
	if f.unread = f.unread[n:]; len(f.unread) == 0 {
		f.drop()
	}
	return n
}

// drop returns the buffer to its pool.
func (f *prefix) drop() {
	if f.buf != nil {
		f.pool.Put(f.buf)
		*f = prefix{}
	}
}
