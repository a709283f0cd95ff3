package blobs

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
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
)

func TestReadPieces(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, size := range append(sizes, 3*bufferSize, 20*bufferSize) {
		synctest.Test(t, func(t *testing.T) { // which fails if a goroutine stays
			data := disktest.RandomBytes(1, size)
			var got bytes.Buffer
			sink := func(p []byte) error { got.Write(p); return nil }

			n, err := ReadPieces(background, iotest.HalfReader(bytes.NewReader(data)), NoLimit, sink)
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(n, int64(size)))
			qt.Check(t, qt.IsTrue(bytes.Equal(got.Bytes(), data)))

			got.Reset()
			n, err = ReadPieces(background, io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)), NoLimit, sink)
			qt.Check(t, qt.ErrorIs(err, broken))
			qt.Check(t, qt.Equals(n, int64(size)))
			qt.Check(t, qt.IsTrue(bytes.Equal(got.Bytes(), data)))

			got.Reset()
			ctx, cancel := context.WithCancel(background)
			n, err = ReadPieces(ctx, io.MultiReader(bytes.NewReader(data), readerFunc(func(p []byte) (int, error) {
				cancel()
				return copy(p, "a"), nil
			})), NoLimit, sink)
			qt.Check(t, qt.ErrorIs(err, context.Canceled))
			qt.Check(t, qt.Equals(n, int64(size)+1))
			qt.Check(t, qt.IsTrue(bytes.Equal(got.Bytes(), append(data, "a"...))))

			for fails := range size/bufferSize + 1 {
				pieces, taken := 0, 0
				n, err = ReadPieces(background, bytes.NewReader(data), NoLimit, func(p []byte) error {
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

// TestReadPieces_BeginsSmall checks the size of the buffer that is read into: it is
// small as long as little has arrived.
func TestReadPieces_BeginsSmall(t *testing.T) {
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
	_, err := ReadPieces(background, r, NoLimit, func([]byte) error { return nil })
	qt.Check(t, qt.IsNil(err))
}

// TestReadPieces_SurvivesPanicOfReader lets the caller's reader panic, as that of a
// request whose handler was aborted may.
func TestReadPieces_SurvivesPanicOfReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		defer func() { qt.Check(t, qt.Equals(recover(), any("gone"))) }()
		r := io.MultiReader(bytes.NewReader(make([]byte, 5*bufferSize)), readerFunc(func([]byte) (int, error) { panic("gone") }))
		ReadPieces(background, r, NoLimit, func([]byte) error { return nil })
		t.Error("no panic")
	})
}

const benchSize = 256 << 20

// BenchmarkLarge pushes a large blob: a new one, and one that the pool has. Bare is
// the minimum for a new one: the bytes are hashed, written and synced.
func BenchmarkLarge(b *testing.B) {
	dir := b.TempDir()
	qt.Assert(b, qt.IsNil(os.Mkdir(filepath.Join(dir, "blobs"), 0o755)))
	s := New(disk.NewWorkspace(disk.OS{}, filepath.Join(dir, ".ocifs"), true), nil, nil)
	defer s.work.Close()
	data := disktest.RandomBytes(1, benchSize)
	d := digest.FromBytes(data)
	push := func() {
		st, err := s.Receive(background, onlyReader{bytes.NewReader(data)}, d, benchSize)
		qt.Assert(b, qt.IsNil(err))
		defer st.Discard()
		qt.Assert(b, qt.IsNil(s.Put(background, dir, d, st)))
	}
	remove := func() { qt.Assert(b, qt.IsNil(s.Remove(dir, d))) }
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
			s := New(disk.NewWorkspace(disk.OS{}, filepath.Join(dir, ".ocifs"), true), nil, nil)
			defer s.work.Close()
			var next atomic.Uint64
			var wg sync.WaitGroup
			for range workers {
				wg.Go(func() {
					data := disktest.RandomBytes(1, 32<<10)
					for {
						i := next.Add(1)
						if i > uint64(b.N) {
							return
						}
						copy(data, []byte{byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24)})
						d := digest.FromBytes(data)
						st, err := s.Receive(background, bytes.NewReader(data), d, 32<<10)
						if !qt.Check(b, qt.IsNil(err)) || !qt.Check(b, qt.IsNil(s.Put(background, dir, d, st))) {
							return
						}
						st.Discard()
					}
				})
			}
			wg.Wait()
		})
	}
}

// TestLargeContentIsOnItsWay checks that the disk begins to write before all of the
// content has arrived, unless the store is not durable.
func TestLargeContentIsOnItsWay(t *testing.T) {
	t.Parallel()
	for _, durable := range []bool{true, false} {
		t := newStoreTest(t)
		work := disk.NewWorkspace(t.FS, t.Work.Dir, durable)
		defer work.Close()
		t.s.work = work
		const early = 8 << 20 // see disk.Workspace.StartSync
		want := 0
		if durable {
			want = 2
		}
		qt.Assert(t, qt.IsNil(t.push(t.a, disktest.RandomBytes(1, 2*early+early/2))))
		qt.Check(t, qt.Equals(t.FS.Count("StartSync"), want))
		qt.Assert(t, qt.IsNil(t.push(t.a, disktest.RandomBytes(2, early-1))))
		qt.Check(t, qt.Equals(t.FS.Count("StartSync"), want))
	}
}
