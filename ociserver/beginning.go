package ociserver

import "sync"

// beginning is the first bytes of a blob. A backend takes memory for much more,
// and perhaps files and connections, as soon as it is called: for a body that does
// not come, it is not. What a body costs here grows with what has come.
type beginning struct {
	unread []byte
	buf    *[]byte
	pool   *sync.Pool // where buf is from
}

// pieces has buffers of 4, 8, 16, 32 and 64 KiB.
var pieces = [...]*sync.Pool{newPool(4 << 10), newPool(8 << 10), newPool(16 << 10), newPool(32 << 10), newPool(64 << 10)}

func newPool(size int) *sync.Pool {
	return &sync.Pool{New: func() any {
		buf := make([]byte, size)
		return &buf
	}}
}

// piecePool returns the pool of the i-th piece of something that is read in pieces,
// of which each is as large as those before it together, but for the largest.
func piecePool(i int) *sync.Pool { return pieces[min(i, len(pieces)-1)] }

// fill reads the first bytes of b: up to its end, to an error, which b keeps, or
// until the largest buffer is full.
func (f *beginning) fill(b *body) {
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

// read takes bytes that were not read.
func (f *beginning) read(p []byte) int {
	if f.buf == nil {
		return 0
	}
	n := copy(p, f.unread)
	if f.unread = f.unread[n:]; len(f.unread) == 0 {
		f.drop()
	}
	return n
}

// drop gives the buffer back.
func (f *beginning) drop() {
	if f.buf != nil {
		f.pool.Put(f.buf)
		*f = beginning{}
	}
}
