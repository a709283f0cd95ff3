package disk

// Spare files are kept open in the staging directory, to be filled again. They
// contain only zeros, and are removed with the directory. Creating and removing one
// small file after another is slow on systems that avoid recently freed space;
// renaming is cheap.

// spare is an unused file.
type spare struct {
	file File
	name string
}

// maxSpares is the maximum number of spare files.
const maxSpares = 64

// keepSpare makes a file, which has no other name, a spare file, unless there are
// enough. f is that file, open; keepSpare takes it over and releases its lock. If
// keepSpare returns false, the file keeps its name and belongs to the caller.
func (s *staging) keepSpare(name string, f File) bool {
	s.mu.Lock()
	full := len(s.spares) >= maxSpares
	s.mu.Unlock()
	if full {
		return false
	}
	moved, err := s.name()
	if err != nil || s.fs.Rename(name, moved) != nil {
		return false
	}
	err = s.fs.Unlock(f)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || s.closed {
		f.Close()
		s.fs.Remove(moved)
		return true
	}
	s.spares = append(s.spares, spare{f, moved})
	return true
}

// fillSpare returns an open staged file that begins with text.
func (s *staging) fillSpare(text []byte) (File, string, error) {
	made, err := s.getSpare()
	if err != nil {
		return nil, "", err
	}
	if _, err := made.file.WriteAt(text, 0); err != nil {
		made.file.Close()
		s.fs.Remove(made.name)
		return nil, "", err
	}
	return made.file, made.name, nil
}

// getSpare returns a spare file, or a new one. It belongs to the caller.
func (s *staging) getSpare() (made spare, err error) {
	s.mu.Lock()
	if last := len(s.spares) - 1; last >= 0 {
		made, s.spares = s.spares[last], s.spares[:last]
	}
	s.mu.Unlock()
	if made.file == nil {
		made.file, made.name, err = s.create(FilePerm)
	}
	return made, err
}

// closeSpares closes the spare files, which are about to be removed. s.mu is held.
func (s *staging) closeSpares() {
	for _, spare := range s.spares {
		spare.file.Close()
	}
	s.spares = nil
}
