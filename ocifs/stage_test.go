package ocifs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
)

// TestDeadProcess leaves a staging directory whose lock is free, as the end of a
// process does, beside one that is in use.
func TestDeadProcess(t *testing.T) {
	t.Parallel()
	private := filepath.Join(KeptDir(t), ".ocifs")
	open := func() *store { return newStore(osFS{}, private, true, nil) }
	stage := func(s *store) *staged {
		st, err := s.stage(digest.SHA256)
		qt.Assert(t, qt.IsNil(err))
		return st
	}
	qt.Assert(t, qt.IsNil(open().recover())) // there is nothing yet

	dead, live := open(), open()
	deadFile, liveFile := stage(dead), stage(live)
	qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Join(dead.staging.dir, "repo", "blobs"), 0o755)))
	qt.Assert(t, qt.IsNil(os.Symlink(filepath.Dir(private), filepath.Join(dead.staging.dir, "link"))))
	unlocked := filepath.Join(dead.staging.top, "without")
	qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Join(unlocked, "x"), 0o755)))
	qt.Assert(t, qt.IsNil(dead.staging.lock.Close()))
	qt.Assert(t, qt.IsNil(deadFile.close()))

	next := open()
	qt.Assert(t, qt.IsNil(next.recover()))
	names, err := filepath.Glob(filepath.Join(next.staging.top, "*"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(names, []string{live.staging.dir, live.staging.dir + lockSuffix}))
	_, err = os.Lstat(liveFile.name)
	qt.Check(t, qt.IsNil(err))
	liveFile.discard()
	qt.Assert(t, qt.IsNil(live.close()))
	names, err = filepath.Glob(filepath.Join(next.staging.top, "*"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(names, 0))
}

// TestStagingWasRemoved removes the private directory while it is in use.
func TestStagingWasRemoved(t *testing.T) {
	t.Parallel()
	private := filepath.Join(KeptDir(t), ".ocifs")
	s := newStore(osFS{}, private, true, nil)
	for range 2 {
		st, err := s.stage(digest.SHA256)
		qt.Assert(t, qt.IsNil(err))
		st.discard()
		qt.Assert(t, qt.IsNil(os.RemoveAll(private)))
	}
}

// TestStagingAfterClose is what a push meets that was under way when the registry
// was closed: it must leave nothing.
func TestStagingAfterClose(t *testing.T) {
	t.Parallel()
	private := filepath.Join(KeptDir(t), ".ocifs")
	s := newStore(osFS{}, private, true, nil)
	before, err := s.stage(digest.SHA256)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(s.close()))
	_, err = s.stage(digest.SHA256)
	qt.Check(t, qt.ErrorIs(err, os.ErrClosed))
	_, err = s.stageDir()
	qt.Check(t, qt.ErrorIs(err, os.ErrClosed))
	before.discard()
	names, err := filepath.Glob(filepath.Join(private, "staging", "*"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(names, 0))
}

// TestStagingBegins beside others that recover all the time.
func TestStagingBegins(t *testing.T) {
	t.Parallel()
	private := filepath.Join(KeptDir(t), ".ocifs")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				s := newStore(osFS{}, private, true, nil)
				qt.Check(t, qt.IsNil(s.recover()))
				st, err := s.stage(digest.SHA256)
				if !qt.Check(t, qt.IsNil(err)) {
					return
				}
				_, err = os.Lstat(st.name)
				qt.Check(t, qt.IsNil(err))
				st.discard()
				qt.Check(t, qt.IsNil(s.close()))
			}
		})
	}
	wg.Wait()
	names, err := filepath.Glob(filepath.Join(private, "staging", "*"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(names, 0))
}

func TestReadBuffers(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, size := range append(sizes, 3*bufferSize, 20*bufferSize) {
		synctest.Test(t, func(t *testing.T) { // which fails if a goroutine stays
			data := randomBytes(1, size)
			var got bytes.Buffer
			sink := func(p []byte) error { got.Write(p); return nil }

			n, err := readBuffers(background, iotest.HalfReader(bytes.NewReader(data)), noLimit, sink)
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(n, int64(size)))
			qt.Check(t, qt.IsTrue(bytes.Equal(got.Bytes(), data)))

			got.Reset()
			n, err = readBuffers(background, io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)), noLimit, sink)
			qt.Check(t, qt.ErrorIs(err, broken))
			qt.Check(t, qt.Equals(n, int64(size)))
			qt.Check(t, qt.IsTrue(bytes.Equal(got.Bytes(), data)))

			got.Reset()
			ctx, cancel := context.WithCancel(background)
			n, err = readBuffers(ctx, io.MultiReader(bytes.NewReader(data), readerFunc(func(p []byte) (int, error) {
				cancel()
				return copy(p, "a"), nil
			})), noLimit, sink)
			qt.Check(t, qt.ErrorIs(err, context.Canceled))
			qt.Check(t, qt.Equals(n, int64(size)+1))
			qt.Check(t, qt.IsTrue(bytes.Equal(got.Bytes(), append(data, "a"...))))

			for fails := range size/bufferSize + 1 {
				pieces, taken := 0, 0
				n, err = readBuffers(background, bytes.NewReader(data), noLimit, func(p []byte) error {
					if pieces == fails {
						return broken
					}
					pieces++
					taken += len(p)
					return nil
				})
				if fails*bufferSize < size {
					qt.Check(t, qt.ErrorIs(err, broken))
				} else {
					qt.Check(t, qt.IsNil(err))
				}
				qt.Check(t, qt.Equals(n, int64(taken)))
			}
		})
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestReadBuffers_BeginsSmall looks at what is read into: as long as little has come,
// it is little.
func TestReadBuffers_BeginsSmall(t *testing.T) {
	t.Parallel()
	came := 0
	r := readerFunc(func(p []byte) (int, error) {
		qt.Check(t, qt.IsTrue(len(p) <= max(firstSize, 4*came)), qt.Commentf("%d bytes after %d", len(p), came))
		if came >= 3*bufferSize {
			return 0, io.EOF
		}
		n := min(len(p), 10_000)
		came += n
		return n, nil
	})
	_, err := readBuffers(background, r, noLimit, func([]byte) error { return nil })
	qt.Check(t, qt.IsNil(err))
}

// TestReadBuffersPanic lets the caller's reader panic, as that of a request
// whose handler was aborted may.
func TestReadBuffersPanic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		defer func() { qt.Check(t, qt.Equals(recover(), any("gone"))) }()
		r := io.MultiReader(bytes.NewReader(make([]byte, 5*bufferSize)), readerFunc(func([]byte) (int, error) { panic("gone") }))
		readBuffers(background, r, noLimit, func([]byte) error { return nil })
		t.Error("no panic")
	})
}

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

// TestSharedSync holds up the syncs of a crowd of files, and then counts.
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
			qt.Check(t, qt.Equals(s.alone, 0))
		})
	}
}

// syncFS counts syncs, which wait at a gate.
type syncFS struct {
	osFS
	file
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
	osFS
	gate chan struct{}
	dirs atomic.Int32
}

func (f *dirFS) SyncDir(string) error { f.dirs.Add(1); <-f.gate; return nil }

const benchSize = 256 << 20

// BenchmarkLarge pushes a large blob: a new one, and one that the pool has. Bare
// is what a new one takes at least: the bytes are hashed, written and synced.
func BenchmarkLarge(b *testing.B) {
	dir := b.TempDir()
	qt.Assert(b, qt.IsNil(os.Mkdir(filepath.Join(dir, "blobs"), 0o755)))
	s := newStore(osFS{}, filepath.Join(dir, ".ocifs"), true, nil)
	defer s.close()
	data := randomBytes(1, benchSize)
	d := digest.FromBytes(data)
	push := func() {
		st, err := s.receive(background, onlyReader{bytes.NewReader(data)}, d, benchSize)
		qt.Assert(b, qt.IsNil(err))
		defer st.discard()
		qt.Assert(b, qt.IsNil(s.put(background, dir, d, st)))
	}
	remove := func() { qt.Assert(b, qt.IsNil(s.remove(dir, d))) }
	name := filepath.Join(dir, "bare")
	for _, bench := range []struct {
		name     string
		do, undo func()
	}{
		{"New", push, remove},
		{"Bare", func() {
			f, err := os.Create(name)
			qt.Assert(b, qt.IsNil(err))
			_, err = io.CopyBuffer(io.MultiWriter(f, sha256.New()), onlyReader{bytes.NewReader(data)}, make([]byte, bufferSize))
			qt.Assert(b, qt.IsNil(err))
			qt.Assert(b, qt.IsNil(f.Sync()))
			qt.Assert(b, qt.IsNil(f.Close()))
		}, func() { qt.Assert(b, qt.IsNil(os.Remove(name))) }},
		{"Known", push, func() {}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			bench.do() // the first time, the system has to find memory for the file
			bench.undo()
			b.SetBytes(benchSize)
			for b.Loop() {
				bench.do()
				b.StopTimer()
				bench.undo()
				b.StartTimer()
			}
		})
	}
}

type onlyReader struct{ io.Reader }

// BenchmarkPutSmall pushes blobs of 32 KiB, one at a time and 64 at once.
func BenchmarkPutSmall(b *testing.B) {
	for name, workers := range map[string]int{"serial": 1, "64": 64} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			qt.Assert(b, qt.IsNil(os.Mkdir(filepath.Join(dir, "blobs"), 0o755)))
			s := newStore(osFS{}, filepath.Join(dir, ".ocifs"), true, nil)
			defer s.close()
			var next atomic.Uint64
			var wg sync.WaitGroup
			for range workers {
				wg.Go(func() {
					data := randomBytes(1, 32<<10)
					for {
						i := next.Add(1)
						if i > uint64(b.N) {
							return
						}
						copy(data, []byte{byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24)})
						d := digest.FromBytes(data)
						st, err := s.receive(background, bytes.NewReader(data), d, 32<<10)
						if !qt.Check(b, qt.IsNil(err)) || !qt.Check(b, qt.IsNil(s.put(background, dir, d, st))) {
							return
						}
						st.discard()
					}
				})
			}
			wg.Wait()
		})
	}
}

// TestLargeContentIsOnItsWay has the disk begin before all of the content is there,
// unless nobody waits for the disk.
func TestLargeContentIsOnItsWay(t *testing.T) {
	t.Parallel()
	for _, durable := range []bool{true, false} {
		t := newStoreTest(t)
		t.s.syncs.on = durable
		want := 0
		if durable {
			want = 2
		}
		qt.Assert(t, qt.IsNil(t.push(t.a, randomBytes(1, 2*early+early/2))))
		qt.Check(t, qt.Equals(t.fs.count("StartSync"), want))
		qt.Assert(t, qt.IsNil(t.push(t.a, randomBytes(2, early-1))))
		qt.Check(t, qt.Equals(t.fs.count("StartSync"), want))
	}
}
