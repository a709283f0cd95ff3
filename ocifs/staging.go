package ocifs

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

// The permissions of what is made, before the umask.
const (
	filePerm = 0o644
	dirPerm  = 0o755
)

// lockSuffix is what the name of a staging directory's lock file has more than
// that of the directory.
const lockSuffix = ".lock"

// staging is where files are written before they get their names. Each open
// store of each process has a directory of its own, TOP/RANDOM, which lives as
// long as the file TOP/RANDOM.lock is locked. The file is there and locked
// before the directory is made and until it is gone: a directory whose lock is
// free, or missing, is left over from a process that died.
type staging struct {
	fs  filesystem
	top string // made when it is needed, as is the directory that it is in

	mu     sync.Mutex
	dir    string // empty if there is none yet
	lock   file   // open while there is a dir
	last   uint64 // the number of the last name
	closed bool   // there is to be no dir any more

	spares []string // the names of files in dir that are free to be used
}

// name returns a name in the directory that was not used before.
func (s *staging) name() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return "", errClosed
	}
	if s.dir == "" {
		if err := s.begin(); err != nil {
			return "", err
		}
	}
	s.last++
	return filepath.Join(s.dir, strconv.FormatUint(s.last, 36)), nil
}

// create makes an empty file with a new name.
func (s *staging) create() (f file, name string, err error) { return s.createWith(filePerm) }

// createWith is create with other permissions.
func (s *staging) createWith(perm fs.FileMode) (f file, name string, err error) {
	for range 2 {
		name, err = s.name()
		if err != nil {
			return nil, "", err
		}
		f, err = s.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			break
		}
		s.forget(filepath.Dir(name)) // somebody removed it
	}
	return f, name, err
}

// begin makes the directory. The lock is taken before anybody can see that
// there is something to remove; but in the moment before, the lock file alone
// may look like a leftover, and be removed: then the next attempt takes another
// name.
func (s *staging) begin() error {
	const attempts = 10
	for range attempts {
		dir := filepath.Join(s.top, rand.Text())
		lock, err := s.fs.OpenFile(dir+lockSuffix, os.O_RDWR|os.O_CREATE|os.O_EXCL, filePerm)
		if errors.Is(err, fs.ErrNotExist) {
			if err := makeDirs(s.fs, filepath.Dir(s.top), s.top); err != nil {
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
			if err = s.fs.Mkdir(dir, dirPerm); err == nil {
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

// alone reports whether no other process, and no other store of this one, has a
// directory here, or is known to be dead and has. Each makes one before it places
// its first file anywhere.
func (s *staging) alone() bool {
	s.mu.Lock()
	own := 0
	if s.dir != "" {
		own = 2 // the directory and its lock
	}
	s.mu.Unlock()
	entries, err := s.fs.ReadDir(s.top, -1)
	return len(entries) <= own && (err == nil || errors.Is(err, fs.ErrNotExist))
}

// forget makes the next name be in another directory than dir.
func (s *staging) forget(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir == dir {
		s.lock.Close()
		s.fs.Remove(dir + lockSuffix)
		s.dir, s.spares = "", nil
	}
}

// close removes the directory with all that is in it. What is still under way
// gets no name any more.
func (s *staging) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.dir == "" {
		return nil
	}
	err := s.end(s.dir, s.lock)
	s.dir, s.spares = "", nil
	return err
}

// recover removes the directories of processes that died.
func (s *staging) recover() error {
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
			errs = append(errs, s.bury(filepath.Join(s.top, name)))
		}
	}
	return errors.Join(errs...)
}

// bury removes a directory and its lock file, if the lock is free.
func (s *staging) bury(dir string) error {
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
	return s.end(dir, lock)
}

// end removes a directory and its lock file, whose lock is held, and gives back
// the lock.
func (s *staging) end(dir string, lock file) error {
	err := removeAll(s.fs, dir)
	if err != nil {
		lock.Close()
		return err
	}
	// While the lock is held nobody can take the file for his own. Where an open
	// file cannot be removed, nobody can remove it while he has it open, either.
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

// makeDirs makes those of the directories that do not exist, in order.
func makeDirs(fsys filesystem, dirs ...string) error {
	for _, dir := range dirs {
		if err := fsys.Mkdir(dir, dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// removeAll removes a file, or a directory and what is in it. It does not
// follow symbolic links.
func removeAll(fsys filesystem, name string) error {
	err := fsys.Remove(name)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	info, statErr := fsys.Lstat(name)
	if statErr != nil || !info.IsDir() {
		return err
	}
	entries, err := fsys.ReadDir(name, -1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := removeAll(fsys, filepath.Join(name, e.Name())); err != nil {
			return err
		}
	}
	err = fsys.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
