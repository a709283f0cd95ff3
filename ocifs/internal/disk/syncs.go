package disk

import (
	"errors"
	"sync"
)

// rounds lets many callers share the runs of one slow function, whose effect covers
// everything that was done before it began.
type rounds struct {
	mu      sync.Mutex
	running *round
	next    *round // its run has not begun
}

type round struct {
	done chan struct{}
	err  error // valid once done is closed
}

// do returns the error of a run of f that began after the call. All callers must pass
// the same f.
func (r *rounds) do(f func() error) error {
	r.mu.Lock()
	if joined := r.next; joined != nil {
		r.mu.Unlock()
		<-joined.done
		return joined.err
	}
	own := &round{done: make(chan struct{})}
	r.next = own
	running := r.running
	r.mu.Unlock()
	if running != nil {
		<-running.done
	}
	r.mu.Lock()
	r.running, r.next = own, nil
	r.mu.Unlock()
	own.err = f()
	r.mu.Lock()
	r.running = nil
	r.mu.Unlock()
	close(own.done)
	return own.err
}

// busy reports whether a run is under way or about to begin.
func (r *rounds) busy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running != nil || r.next != nil
}

// syncs makes files and directories durable, or does nothing if it is off.
type syncs struct {
	fs  FS
	on  bool
	top string // a directory of the filesystem, for SyncAll

	all rounds // calls of SyncAll

	mu     sync.Mutex
	single int  // number of files that are being synced individually
	noAll  bool // SyncAll is unsupported
	dirs   map[string]*dirRounds
}

type dirRounds struct {
	rounds
	users int
}

// A file of at most smallFile bytes is synced together with others, by SyncAll, if
// crowd files are already being synced: many small syncs would each wait for the
// disk, while one that covers them all waits once. A large file would make the others
// wait for its bytes.
const (
	smallFile = 1 << 20
	crowd     = 4
)

// file makes the content of f, which has size bytes, durable.
func (s *syncs) file(f File, size int64) error {
	if !s.on {
		return nil
	}
	if s.share(size) {
		err := s.all.do(func() error { return s.fs.SyncAll(s.top) })
		if !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
		s.mu.Lock()
		s.noAll = true
		s.single++
		s.mu.Unlock()
	}
	err := f.Sync()
	s.mu.Lock()
	s.single--
	s.mu.Unlock()
	return err
}

// early is how many bytes must be pending before the disk starts to write them. With
// an early start, little is left to do when all bytes have arrived.
const early = 8 << 20

// start hints that the system should begin to write the bytes appended to f, which
// has size bytes, if there are many. The bytes before begun are being written
// already. It returns the new value of begun.
func (s *syncs) start(f File, begun, size int64) int64 {
	if n := size - begun; s.on && n >= early {
		s.fs.StartSync(f, begun, n)
		return size
	}
	return begun
}

// together makes everything that was written durable with one system call, if that is
// cheaper than syncing each of n files. It reports whether it did.
func (s *syncs) together(n int) (done bool, err error) {
	if n <= crowd {
		return false, nil
	}
	err = s.fs.SyncAll(s.top)
	if errors.Is(err, errors.ErrUnsupported) {
		return false, nil
	}
	return true, err
}

// share reports whether to sync a file of that size together with others. If not, it
// counts the file among those that are synced individually.
func (s *syncs) share(size int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if size <= smallFile && !s.noAll && (s.single >= crowd || s.all.busy()) {
		return true
	}
	s.single++
	return false
}

// dir makes the entries of a directory durable. Concurrent calls for one directory
// share the work.
func (s *syncs) dir(name string) error {
	if !s.on {
		return nil
	}
	s.mu.Lock()
	d := s.dirs[name]
	if d == nil {
		if s.dirs == nil {
			s.dirs = make(map[string]*dirRounds)
		}
		d = new(dirRounds)
		s.dirs[name] = d
	}
	d.users++
	s.mu.Unlock()
	err := d.do(func() error { return s.fs.SyncDir(name) })
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.users--; d.users == 0 {
		delete(s.dirs, name)
	}
	return err
}
