package ociunify

import (
	"io"
	"sync"
)

// spooler puts the bytes of a fetch into its spool, and makes them visible. It writes
// to the file of the spool while it reads more.
type spooler struct {
	fetch *fetch
	n     int64 // the number of bytes that were read

	buf, other *[pieceSize]byte // for the file; nil while there is none
	pieces     chan piece       // to the goroutine that writes
	results    chan error
	writing    bool // a result is to come
}

// piece is a piece of a blob.
type piece struct {
	data   []byte
	offset int64
}

// pieceSize is the number of bytes of a blob that are written at a time. Followers,
// of which there may be many, are woken after each piece: waking them more often would
// take processor time from hashing and writing.
const pieceSize = 512 << 10

var pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}

// read reads once. The caller must pass the bytes to store.
func (s *spooler) read(rd io.Reader) ([]byte, error) {
	room := s.fetch.spool.head[min(s.n, int64(len(s.fetch.spool.head))):]
	if len(room) == 0 {
		room = s.piece()
	}
	n, err := rd.Read(room)
	s.n += int64(n)
	return room[:n], err
}

// piece returns the buffer that is not being written to the file.
func (s *spooler) piece() []byte {
	if s.pieces == nil {
		s.buf, s.other = pieces.Get().(*[pieceSize]byte), pieces.Get().(*[pieceSize]byte)
		s.pieces, s.results = make(chan piece), make(chan error, 1)
		go s.write()
	}
	return s.buf[:]
}

func (s *spooler) write() {
	for p := range s.pieces {
		err := s.fetch.spool.writeAt(p.data, p.offset)
		if err == nil {
			s.fetch.advance(p.offset + int64(len(p.data)))
		}
		s.results <- err
	}
}

// store stores p, which read has just returned. The error may be that of an earlier
// piece.
func (s *spooler) store(p []byte) error {
	if err := s.flush(); err != nil || len(p) == 0 {
		return err
	}
	if s.pieces == nil {
		s.fetch.advance(s.n)
		return nil
	}
	s.pieces <- piece{p, s.n - int64(len(p))}
	s.writing = true
	s.buf, s.other = s.other, s.buf
	return nil
}

// flush waits until all pieces are written.
func (s *spooler) flush() error {
	if !s.writing {
		return nil
	}
	s.writing = false
	return <-s.results
}

func (s *spooler) close() {
	s.flush() // if it fails, the fetch has ended with a more specific error
	if s.pieces != nil {
		close(s.pieces)
		pieces.Put(s.buf)
		pieces.Put(s.other)
	}
}
