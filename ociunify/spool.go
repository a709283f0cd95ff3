package ociunify

import (
	"io"
	"os"
	"sync"
)

// spool has the bytes of a blob while it is fetched: the first of them in memory, the
// others in a file. One goroutine writes. Any number of goroutines read bytes that they
// know to be written.
type spool struct {
	dir    string
	limit  int64 // the maximum size of the file in bytes; it is overwritten from the start then
	head   []byte
	file   *os.File // has the bytes after head; nil if there are none
	remove bool     // the file could not be removed while open
}

// The size in bytes of the head, for a small blob and for any other. Where there are
// many blobs, most are small.
const (
	smallHead = 32 << 10
	largeHead = 256 << 10
)

var (
	smallHeads = sync.Pool{New: func() any { return new([smallHead]byte) }}
	largeHeads = sync.Pool{New: func() any { return new([largeHead]byte) }}
)

// init makes room for a blob. The size is what the origin says, or negative if it does
// not.
func (s *spool) init(size, limit int64) {
	s.limit = limit
	if size >= 0 && size < smallHead {
		s.head = smallHeads.Get().(*[smallHead]byte)[:]
	} else {
		s.head = largeHeads.Get().(*[largeHead]byte)[:]
	}
}

// writeAt writes bytes that come after the head.
func (s *spool) writeAt(p []byte, offset int64) error {
	if s.file == nil {
		if err := s.create(); err != nil {
			return err
		}
	}
	for len(p) > 0 {
		at, room := s.at(offset)
		n, err := s.file.WriteAt(p[:min(int64(len(p)), room)], at)
		if err != nil {
			return err
		}
		p, offset = p[n:], offset+int64(n)
	}
	return nil
}

// at returns the position of a byte in the file, and the room from there to the limit.
func (s *spool) at(offset int64) (at, room int64) {
	at = (offset - int64(len(s.head))) % s.limit
	return at, s.limit - at
}

// create creates the file, and removes its name at once where the system allows that.
func (s *spool) create() error {
	f, err := os.CreateTemp(s.dir, "ociunify-*")
	if err != nil {
		return err
	}
	s.file, s.remove = f, os.Remove(f.Name()) != nil
	return nil
}

// readAt reads bytes that were written. It may return fewer bytes than p has room for.
func (s *spool) readAt(p []byte, offset int64) (int, error) {
	if offset < int64(len(s.head)) {
		return copy(p, s.head[offset:]), nil
	}
	at, room := s.at(offset)
	p = p[:min(int64(len(p)), room)]
	n, err := s.file.ReadAt(p, at)
	if err == io.EOF && n == len(p) {
		err = nil
	}
	return n, err
}

// free releases the memory and the file. The spool must not be used afterwards.
func (s *spool) free() {
	switch len(s.head) {
	case smallHead:
		smallHeads.Put((*[smallHead]byte)(s.head))
	case largeHead:
		largeHeads.Put((*[largeHead]byte)(s.head))
	}
	s.head = nil
	if s.file != nil {
		s.file.Close()
		if s.remove {
			os.Remove(s.file.Name())
		}
	}
}
