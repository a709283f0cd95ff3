package ocifs

import "os"

// State files of upload sessions that became small blobs are spare: they are kept in
// the staging directory for the sessions to come, with nothing but zeros, and go with it.
// Small blobs come as fast as files can be made and removed, which takes long where the
// system avoids what was freed lately; to give one another name is cheap.

// maxSpares bounds how many spare files are kept.
const maxSpares = 64

// keepSpare takes a state file, which has no other name, away from where it is, if it
// is wanted, and closes f, which is that file, open. When it returns false, the file has
// its name.
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

// createState makes a staged file that has text, which begins with a state.
func (s *staging) createState(text []byte) (name string, err error) {
	f, name := s.openSpare()
	if f == nil {
		if f, name, err = s.create(); err != nil {
			return "", err
		}
	}
	if err := fillAndClose(f, text); err != nil {
		s.fs.Remove(name)
		return "", err
	}
	return name, nil
}

// openSpare opens a spare file, which is the caller's now, if there is one.
func (s *staging) openSpare() (f file, name string) {
	s.mu.Lock()
	if last := len(s.spares) - 1; last >= 0 {
		name, s.spares = s.spares[last], s.spares[:last]
	}
	s.mu.Unlock()
	if name == "" {
		return nil, ""
	}
	f, err := s.fs.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		s.fs.Remove(name)
		return nil, ""
	}
	return f, name
}

// fillAndClose makes f begin with text, and closes it.
func fillAndClose(f file, text []byte) error {
	_, err := f.WriteAt(text, 0)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
