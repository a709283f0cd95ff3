package disk

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// lockSuffix is appended to the name of a staging directory to form the name of its
// lock file.
const lockSuffix = ".lock"

// staging is where files are written before they are named. Each workspace of each
// process has a directory of its own, TOP/RANDOM, which lives as long as the file
// TOP/RANDOM.lock is locked. The lock file exists and is locked from before the
// directory is created until after it is removed. A directory whose lock is free or
// missing was left over by a process that died.
type staging struct {
	fs  FS
	top string // created when needed, as is its parent

	mu     sync.Mutex
	dir    string // empty until it is created
	lock   File   // open while dir exists
	last   uint64 // number of the last name
	closed bool   // no dir may be created any more

	spares []spare // files in dir
}

// name returns an unused name in the directory.
func (s *staging) name() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return "", ErrClosed
	}
	if s.dir == "" {
		if err := s.makeDir(); err != nil {
			return "", err
		}
	}
	s.last++
	return filepath.Join(s.dir, strconv.FormatUint(s.last, 36)), nil
}

// create creates an empty file with a new name.
func (s *staging) create(perm fs.FileMode) (f File, name string, err error) {
	for range 2 {
		name, err = s.name()
		if err != nil {
			return nil, "", err
		}
		f, err = s.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			break
		}
		s.replaceDir(filepath.Dir(name)) // somebody removed it
	}
	return f, name, err
}

// createDir creates an empty directory with a new name.
func (s *staging) createDir() (string, error) {
	for range 2 {
		name, err := s.name()
		if err != nil {
			return "", err
		}
		err = s.fs.Mkdir(name, DirPerm)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return name, err
		}
		s.replaceDir(filepath.Dir(name)) // somebody removed it
	}
	return "", fs.ErrNotExist
}

// makeDir creates the directory. It takes the lock before others can see anything to
// remove. Just before that, the lock file alone may look like a leftover and be
// removed; the next attempt then uses another name.
func (s *staging) makeDir() error {
	const attempts = 10
	for range attempts {
		dir := filepath.Join(s.top, rand.Text())
		lock, err := s.fs.OpenFile(dir+lockSuffix, os.O_RDWR|os.O_CREATE|os.O_EXCL, FilePerm)
		if errors.Is(err, fs.ErrNotExist) {
			if err := MakeDirs(s.fs, filepath.Dir(s.top), s.top); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		ok, err := s.fs.TryLock(lock)
		if ok && err == nil {
			_, err = s.fs.Lstat(dir + lockSuffix)
		}
		if ok && err == nil {
			if err = s.fs.Mkdir(dir, DirPerm); err == nil {
				s.dir, s.lock = dir, lock
				return nil
			}
		}
		s.fs.Remove(dir + lockSuffix)
		lock.Close()
		s.fs.Remove(dir + lockSuffix) // where an open file cannot be removed
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return fmt.Errorf("%s: cannot make a directory that stays", s.top)
}

// hasOthers reports whether another process, or another workspace of this one, has a
// directory here, or has left one when it died. Each creates its directory before it
// names its first file anywhere.
func (s *staging) hasOthers() bool {
	s.mu.Lock()
	own := 0
	if s.dir != "" {
		own = 2 // the directory and its lock
	}
	s.mu.Unlock()
	entries, err := s.fs.ReadDir(s.top, -1)
	return len(entries) > own || err != nil && !errors.Is(err, fs.ErrNotExist)
}

// replaceDir makes the next name use another directory than dir.
func (s *staging) replaceDir(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir == dir {
		s.lock.Close()
		s.fs.Remove(dir + lockSuffix)
		s.closeSpares()
		s.dir = ""
	}
}

// close removes the directory with everything in it. Files that are still being
// written can no longer be named.
func (s *staging) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.dir == "" {
		return nil
	}
	s.closeSpares()
	err := s.remove(s.dir, s.lock)
	s.dir = ""
	return err
}

// removeDead removes the directories of processes that died.
func (s *staging) removeDead() error {
	entries, err := s.fs.ReadDir(s.top, -1)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var errs []error
	if err != nil {
		errs = append(errs, err)
	}
	seen := make(map[string]bool, len(entries))
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), lockSuffix)
		if !seen[name] {
			seen[name] = true
			errs = append(errs, s.removeIfDead(filepath.Join(s.top, name)))
		}
	}
	return errors.Join(errs...)
}

// removeIfDead removes a directory and its lock file if the lock is free.
func (s *staging) removeIfDead(dir string) error {
	lock, err := s.fs.OpenFile(dir+lockSuffix, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return removeAll(s.fs, dir)
	}
	if err != nil {
		return err
	}
	if ok, err := s.fs.TryLock(lock); err != nil || !ok {
		lock.Close()
		return err
	}
	return s.remove(dir, lock)
}

// remove removes a directory and its lock file, whose lock is held, and releases the
// lock.
func (s *staging) remove(dir string, lock File) error {
	err := removeAll(s.fs, dir)
	if err != nil {
		lock.Close()
		return err
	}
	// While the lock is held, nobody else can use the file. Where an open
	// file cannot be removed, nobody can remove it while it is open here, either.
	removeErr := s.fs.Remove(dir + lockSuffix)
	lock.Close()
	if removeErr != nil {
		removeErr = s.fs.Remove(dir + lockSuffix)
	}
	if errors.Is(removeErr, fs.ErrNotExist) {
		return nil
	}
	return removeErr
}
