package ociunify

import (
	"io"
	"sync"
)

// keeper puts what a fetch gets into its spool, and makes it visible. What goes to
// the spool's file is written while more is read.
type keeper struct {
	fetch *fetch
	n     int64 // how many bytes were read

	buf, other *[pieceSize]byte // for the file; nil as long as there is none
	pieces     chan piece       // to the goroutine that writes
	results    chan error
	writing    bool // there is a result to come
}

// piece is bytes of a blob, and where they are.
type piece struct {
	data   []byte
	offset int64
}

// pieceSize is how many bytes of a blob are written at a time. Whoever is woken by
// fewer, and there may be many, keeps the processors from those who hash and write.
const pieceSize = 512 << 10

var pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}

// read reads once. What it returns is to be given to keep.
func (k *keeper) read(rd io.Reader) ([]byte, error) {
	room := k.fetch.spool.head[min(k.n, int64(len(k.fetch.spool.head))):]
	if len(room) == 0 {
		room = k.piece()
	}
	n, err := rd.Read(room)
	k.n += int64(n)
	return room[:n], err
}

// piece returns the buffer that is not being written.
func (k *keeper) piece() []byte {
	if k.pieces == nil {
		k.buf, k.other = pieces.Get().(*[pieceSize]byte), pieces.Get().(*[pieceSize]byte)
		k.pieces, k.results = make(chan piece), make(chan error, 1)
		go k.write()
	}
	return k.buf[:]
}

func (k *keeper) write() {
	for p := range k.pieces {
		err := k.fetch.spool.writeAt(p.data, p.offset)
		if err == nil {
			k.fetch.advance(p.offset + int64(len(p.data)))
		}
		k.results <- err
	}
}

// keep keeps p, which is what read has just returned. An error may be that of what
// was read before.
func (k *keeper) keep(p []byte) error {
	if err := k.settle(); err != nil || len(p) == 0 {
		return err
	}
	if k.pieces == nil {
		k.fetch.advance(k.n)
		return nil
	}
	k.pieces <- piece{p, k.n - int64(len(p))}
	k.writing = true
	k.buf, k.other = k.other, k.buf
	return nil
}

// settle waits until all is written.
func (k *keeper) settle() error {
	if !k.writing {
		return nil
	}
	k.writing = false
	return <-k.results
}

func (k *keeper) close() {
	k.settle() // if that failed, the fetch has ended with an error that tells more
	if k.pieces != nil {
		close(k.pieces)
		pieces.Put(k.buf)
		pieces.Put(k.other)
	}
}
