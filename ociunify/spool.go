package ociunify

import (
	"io"
	"os"
	"sync"
)

// spool has the bytes of a blob as they come: the first of them in memory, what
// follows in a file. One goroutine writes, any number read what they know is there.
type spool struct {
	dir    string
	limit  int64 // how many bytes the file has at most; it begins anew then
	head   []byte
	file   *os.File // of what does not fit in head; nil if there is nothing
	remove bool     // the file could not be removed while it is open
}

// The size of a head, in bytes, of a blob that is small and of any other. Most blobs
// that are many are small.
const (
	smallHead = 32 << 10
	largeHead = 256 << 10
)

var (
	smallHeads = sync.Pool{New: func() any { return new([smallHead]byte) }}
	largeHeads = sync.Pool{New: func() any { return new([largeHead]byte) }}
)

// begin makes room for a blob. The size is what the origin says, or negative.
func (s *spool) begin(size, limit int64) {
	s.limit = limit
	if size >= 0 && size < smallHead {
		s.head = smallHeads.Get().(*[smallHead]byte)[:]
	} else {
		s.head = largeHeads.Get().(*[largeHead]byte)[:]
	}
}

// writeAt writes what follows the head.
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

// at returns where in the file a byte is, and how many bytes can follow it there.
func (s *spool) at(offset int64) (at, room int64) {
	at = (offset - int64(len(s.head))) % s.limit
	return at, s.limit - at
}

// create makes the file, whose name is gone at once where the system allows that.
func (s *spool) create() error {
	f, err := os.CreateTemp(s.dir, "ociunify-*")
	if err != nil {
		return err
	}
	s.file, s.remove = f, os.Remove(f.Name()) != nil
	return nil
}

// readAt reads bytes that were written, of which it may return fewer than p has
// room for.
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

// free lets go of the bytes. Nobody may read any more.
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
