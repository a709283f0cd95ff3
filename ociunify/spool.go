package ociunify

import (
	"io"
	"os"
	"sync"
)

// maxSpoolMemory is how many bytes of a blob are kept in memory while it is
// fetched. When there are more, all go into a file.
const maxSpoolMemory = 256 << 10

// spool has the bytes of a blob as they come. One goroutine writes, any number
// read what is there.
type spool struct {
	dir string

	mu     sync.Mutex
	memory []byte // all, as long as there is no file
	file   *os.File
	size   int64
	remove bool // the file could not be removed while it is open
}

func (s *spool) write(p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil && len(s.memory)+len(p) <= maxSpoolMemory {
		s.memory = append(s.memory, p...)
		s.size += int64(len(p))
		return nil
	}
	if s.file == nil {
		if err := s.spill(); err != nil {
			return err
		}
	}
	n, err := s.file.WriteAt(p, s.size)
	s.size += int64(n)
	return err
}

// spill moves the bytes from memory to a file, whose name is gone at once where
// the system allows that.
func (s *spool) spill() error {
	f, err := os.CreateTemp(s.dir, "ociunify-*")
	if err != nil {
		return err
	}
	s.remove = os.Remove(f.Name()) != nil
	if _, err := f.WriteAt(s.memory, 0); err != nil {
		f.Close()
		if s.remove {
			os.Remove(f.Name())
		}
		return err
	}
	s.file, s.memory = f, nil
	return nil
}

// readAt reads bytes that were written.
func (s *spool) readAt(p []byte, offset int64) (int, error) {
	s.mu.Lock()
	if s.file == nil {
		defer s.mu.Unlock()
		return copy(p, s.memory[offset:]), nil
	}
	f := s.file
	s.mu.Unlock()
	n, err := f.ReadAt(p, offset)
	if err == io.EOF && n == len(p) {
		err = nil
	}
	return n, err
}

// free lets go of the bytes. Nobody may read any more.
func (s *spool) free() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.memory = nil
	if s.file != nil {
		s.file.Close()
		if s.remove {
			os.Remove(s.file.Name())
		}
	}
}
