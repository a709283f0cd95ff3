package ocifs

import (
	"errors"
	"sync"
)

// rounds lets many callers share the runs of one function that is slow and
// whose effect covers all that was done before it began.
type rounds struct {
	mu      sync.Mutex
	running *round
	next    *round // whose run has not begun
}

type round struct {
	done chan struct{}
	err  error // once done
}

// do returns the error of a run of f that began after the call. All callers
// pass the same f.
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
	fs  filesystem
	on  bool
	top string // a directory of the filesystem, for SyncAll

	all rounds // of SyncAll

	mu    sync.Mutex
	alone int  // files that are being synced by themselves
	noAll bool // there is no SyncAll
	dirs  map[string]*dirRounds
}

type dirRounds struct {
	rounds
	users int
}

// A file is synced together with others, by SyncAll, when it has at most
// smallFile bytes and crowd files are being synced already: many small syncs
// each wait for the disk, and one that covers them all waits once. A large file
// would make the others wait for its bytes.
const (
	smallFile = 1 << 20
	crowd     = 4
)

// file makes the content of f durable, which has size bytes.
func (s *syncs) file(f file, size int64) error {
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
		s.alone++
		s.mu.Unlock()
	}
	err := f.Sync()
	s.mu.Lock()
	s.alone--
	s.mu.Unlock()
	return err
}

// early is how many bytes come before the disk is to begin with them, so that it
// has little left to do when all have come.
const early = 8 << 20

// begin lets the system begin to write what was appended to st, if it is much.
func (s *syncs) begin(st *staged) {
	if n := st.size - st.begun; s.on && n >= early {
		s.fs.StartSync(st.file, st.begun, n)
		st.begun = st.size
	}
}

// share reports whether to sync a file of that size together with others. If
// not, it counts the file among those that are synced alone.
func (s *syncs) share(size int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if size <= smallFile && !s.noAll && (s.alone >= crowd || s.all.busy()) {
		return true
	}
	s.alone++
	return false
}

// dir makes the entries of a directory durable, together with those who ask
// for the same.
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
