package ocifs

import (
	"os"
	"sync"
)

// maxSpares bounds how many files of sessions that have ended are kept.
const maxSpares = 64

// spares has files of upload sessions that have ended, for those to come. Small
// blobs come as fast as files can be made and removed, which takes long where the
// system avoids what was freed lately; to rename one is cheap.
//
// The files are in the staging directory of the process, and go with it. They
// have no other name.
type spares struct {
	store *store

	mu    sync.Mutex
	names []string
}

// keep takes a file away from where it is, if it is wanted, and closes f, which is
// that file, open. When it returns false, nothing has happened.
func (s *spares) keep(name string, f file) bool {
	s.mu.Lock()
	full := len(s.names) >= maxSpares
	s.mu.Unlock()
	if full {
		return false
	}
	spare, err := s.store.staging.name()
	if err != nil || s.store.fs.Rename(name, spare) != nil {
		return false
	}
	f.Close() // with it a lock ends
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names = append(s.names, spare)
	return true
}

// take returns the name of a spare file, which is the caller's now, or "".
func (s *spares) take() (name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := len(s.names) - 1; last >= 0 {
		name, s.names = s.names[last], s.names[:last]
	}
	return name
}

// place gives a spare file the name, under which there is none, after it has got
// text, if that is not nil. It reports whether there was one.
func (s *spares) place(name string, text []byte) bool {
	spare := s.take()
	if spare == "" {
		return false
	}
	var err error
	if text != nil {
		err = s.fill(spare, text)
	}
	if err == nil {
		err = s.store.fs.Rename(spare, name)
	}
	if err != nil {
		s.store.fs.Remove(spare)
	}
	return err == nil
}

// fill writes text to a file, which has no more than that.
func (s *spares) fill(name string, text []byte) error {
	f, err := s.store.fs.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(text, 0)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
