package ocifs

import "os"

// Files of upload sessions that have ended are spare: they are kept in the staging
// directory for the sessions to come, and go with it. Small blobs come as fast as
// files can be made and removed, which takes long where the system avoids what was
// freed lately; to rename one is cheap.

// maxSpares bounds how many spare files are kept.
const maxSpares = 64

// keepSpare takes a file, which has no other name, away from where it is, if it is
// wanted, and closes f, which is that file, open. When it returns false, nothing
// has happened.
func (s *staging) keepSpare(name string, f file) bool {
	s.mu.Lock()
	full := len(s.spares) >= maxSpares
	s.mu.Unlock()
	if full {
		return false
	}
	spare, err := s.name()
	if err != nil || s.fs.Rename(name, spare) != nil {
		return false
	}
	f.Close() // with it a lock ends
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spares = append(s.spares, spare)
	return true
}

// takeSpare returns the name of a spare file, which is the caller's now, or "".
func (s *staging) takeSpare() (name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := len(s.spares) - 1; last >= 0 {
		name, s.spares = s.spares[last], s.spares[:last]
	}
	return name
}

// useSpare gives a spare file the name, under which there is none, after it has got
// text, if that is not nil. It reports whether there was one.
func (s *staging) useSpare(name string, text []byte) bool {
	spare := s.takeSpare()
	if spare == "" {
		return false
	}
	var err error
	if text != nil {
		err = s.fillSpare(spare, text)
	}
	if err == nil {
		err = s.fs.Rename(spare, name)
	}
	if err != nil {
		s.fs.Remove(spare)
	}
	return err == nil
}

// fillSpare writes text to a spare file, which has no more than that.
func (s *staging) fillSpare(name string, text []byte) error {
	f, err := s.fs.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return fillAndClose(f, text)
}

// fillAndClose makes f begin with text, and closes it.
func fillAndClose(f file, text []byte) error {
	_, err := f.WriteAt(text, 0)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
