package disk

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/go-quicktest/qt"
)

func TestRounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r rounds
		runs, results := 0, make(chan error, 10)
		gate := make(chan error)
		run := func() error { runs++; return <-gate }
		call := func() { results <- r.do(run) }
		qt.Check(t, qt.IsFalse(r.busy()))
		go call()
		synctest.Wait()
		qt.Check(t, qt.IsTrue(r.busy()))
		for range 5 { // they come too late for the first run
			go call()
		}
		synctest.Wait()
		qt.Check(t, qt.Equals(runs, 1))
		gate <- syscall.EIO
		qt.Check(t, qt.ErrorIs(<-results, syscall.EIO))
		synctest.Wait()
		qt.Check(t, qt.Equals(runs, 2))
		gate <- syscall.ENOSPC
		for range 5 {
			qt.Check(t, qt.ErrorIs(<-results, syscall.ENOSPC))
		}
		qt.Check(t, qt.Equals(runs, 2))
		qt.Check(t, qt.IsFalse(r.busy()))
	})
}

// TestSharedSync blocks the syncs of a crowd of files, and then counts the calls.
func TestSharedSync(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name       string
		size       int64
		err        error // of SyncAll
		all, files int
		want       error
	}{
		{"small files", smallFile, nil, 1, crowd, nil},
		{"large files", smallFile + 1, nil, 0, 20, nil},
		{"no SyncAll", 1, errors.ErrUnsupported, 1, 20, nil},
		{"error", 1, syscall.EIO, 1, crowd, syscall.EIO},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &syncFS{gate: make(chan struct{}), err: test.err}
			s := syncs{fs: f, on: true}
			var failed atomic.Int32
			var wg sync.WaitGroup
			sync1 := func() {
				if err := s.file(f, test.size); err != nil {
					qt.Check(t, qt.ErrorIs(err, test.want))
					failed.Add(1)
				}
			}
			for range crowd {
				wg.Go(sync1)
			}
			synctest.Wait()
			wg.Go(sync1) // leads the first round, which goes on at once
			synctest.Wait()
			for range 15 {
				wg.Go(sync1)
			}
			synctest.Wait()
			close(f.gate)
			wg.Wait()
			// The second round is for those who came during the first.
			if test.all > 0 && test.err != errors.ErrUnsupported {
				test.all++
			}
			qt.Check(t, qt.Equals(int(f.files.Load()), test.files), qt.Commentf("%s", test.name))
			if test.want != nil {
				qt.Check(t, qt.Equals(failed.Load(), 16))
			}
			if test.err != errors.ErrUnsupported {
				qt.Check(t, qt.Equals(int(f.all.Load()), test.all), qt.Commentf("%s", test.name))
			}
			qt.Check(t, qt.Equals(s.single, 0))
		})
	}
}

// syncFS counts syncs, which wait at a gate.
type syncFS struct {
	OS
	File
	gate       chan struct{}
	err        error
	all, files atomic.Int32
}

func (f *syncFS) SyncAll(string) error { f.all.Add(1); <-f.gate; return f.err }
func (f *syncFS) Sync() error          { f.files.Add(1); <-f.gate; return nil }

func TestSharedSyncDir(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &dirFS{gate: make(chan struct{})}
		s := syncs{fs: f, on: true}
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() { qt.Check(t, qt.IsNil(s.dir("a"))) })
			if i == 0 {
				synctest.Wait()
			}
		}
		wg.Go(func() { qt.Check(t, qt.IsNil(s.dir("b"))) })
		synctest.Wait()
		close(f.gate)
		wg.Wait()
		qt.Check(t, qt.Equals(f.dirs.Load(), 3))
		qt.Check(t, qt.HasLen(s.dirs, 0))
	})
}

type dirFS struct {
	OS
	gate chan struct{}
	dirs atomic.Int32
}

func (f *dirFS) SyncDir(string) error { f.dirs.Add(1); <-f.gate; return nil }
