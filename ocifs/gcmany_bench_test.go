package ocifs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

// heldFS measures for how long journals are locked, and counts manifests that are opened.
type heldFS struct {
	disktest.Hooks
	mu    sync.Mutex
	holds []time.Duration
	opens atomic.Int64
}

type heldFile struct {
	disk.File
	fs     *heldFS
	name   string
	locked time.Time // zero if it is not locked, or no journal
}

func (h *heldFS) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	if isBlobPath(name) {
		h.opens.Add(1)
	}
	f, err := h.Hooks.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &heldFile{File: f, fs: h, name: name}, nil
}

func (h *heldFS) StartSync(f disk.File, off, n int64) { h.Hooks.StartSync(f.(*heldFile).File, off, n) }

func (h *heldFS) TryLock(f disk.File) (bool, error) {
	file := f.(*heldFile)
	ok, err := h.Hooks.TryLock(file.File)
	if ok && filepath.Base(file.name) == "journal" {
		file.locked = time.Now()
	}
	return ok, err
}

func (h *heldFS) Unlock(f disk.File) error {
	f.(*heldFile).end()
	return h.Hooks.Unlock(f.(*heldFile).File)
}

func (f *heldFile) Close() error {
	f.end()
	return f.File.Close()
}

func (f *heldFile) end() {
	if f.locked.IsZero() {
		return
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.fs.holds = append(f.fs.holds, time.Since(f.locked))
	f.locked = time.Time{}
}

// take returns what was measured since the last call: how long journals were locked, the
// shortest time first, and how many manifests were opened.
func (h *heldFS) take() (holds []time.Duration, opens int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	holds, h.holds = h.holds, nil
	slices.Sort(holds)
	return holds, h.opens.Swap(0)
}

// peakHeap returns a function that returns the most bytes of objects on the heap since.
func peakHeap(b *testing.B) (stop func() float64) {
	ctx, cancel := context.WithCancel(b.Context())
	peak := make(chan uint64)
	go func() {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		most := uint64(0)
		for ctx.Err() == nil {
			metrics.Read(sample)
			most = max(most, sample[0].Value.Uint64())
			time.Sleep(time.Millisecond)
		}
		peak <- most
	}()
	return func() float64 {
		cancel()
		return float64(<-peak) / (1 << 20)
	}
}

// pullMedian returns the median of the times of pulls of an image, until stop ends, but of one
// at least.
func pullMedian(b *testing.B, r *Registry, repos int, stop <-chan struct{}) float64 {
	rnd := rand.New(rand.NewPCG(1, 2))
	var times []time.Duration
	for {
		n := rnd.IntN(repos)
		repo, tag := fmt.Sprintf("r%d/s%d", n/100, n%100), fmt.Sprintf("v%d", 1+rnd.IntN(9))
		start := time.Now()
		rd, err := r.GetTag(b.Context(), repo, tag)
		qt.Assert(b, qt.IsNil(err))
		_, err = io.Copy(io.Discard, rd)
		qt.Assert(b, qt.IsNil(errors.Join(err, rd.Close())))
		times = append(times, time.Since(start))
		select {
		case <-stop:
			slices.Sort(times)
			return float64(times[len(times)/2].Microseconds())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// fillPool gives the blobs of all repositories names in the pool.
func fillPool(b *testing.B, dir string) {
	pool := filepath.Join(dir, ".ocifs", "blobs", "sha256")
	qt.Assert(b, qt.IsNil(os.MkdirAll(pool, 0o777)))
	layouts, err := filepath.Glob(filepath.Join(dir, "r*", "s*", "blobs", "sha256"))
	qt.Assert(b, qt.IsNil(err))
	for _, layout := range layouts {
		entries, err := os.ReadDir(layout)
		qt.Assert(b, qt.IsNil(err))
		for _, e := range entries {
			qt.Assert(b, qt.IsNil(os.Link(filepath.Join(layout, e.Name()), filepath.Join(pool, e.Name()))))
		}
	}
}

// BenchmarkGCOfMany collects the garbage of repositories with 100 images of ten blobs each,
// of which one in ten has no tag: 10 repositories, or 1,000 with OCIFS_FULL. The first
// collection reads the manifests, since another program wrote them. Those after it have nothing
// to do, one of them in a new process. Some of them have images pulled meanwhile, for which
// manifests are opened, too.
func BenchmarkGCOfMany(b *testing.B) {
	n := 10
	if os.Getenv("OCIFS_FULL") != "" {
		n = 1000
	}
	dir := scratch.Kept(b)
	fillGarbage(b, dir, n, 100)
	fillPool(b, dir)
	disk.OS{}.SyncAll(dir) // else the system does it meanwhile
	for b.Loop() {
		h := new(heldFS)
		r, err := open(h, dir, "", &Options{NoSync: true})
		qt.Assert(b, qt.IsNil(err))
		collect := func(name string) {
			h.take()
			peak := peakHeap(b)
			start := time.Now()
			report, err := r.GC(b.Context(), &ocigc.Options{Untagged: true, Finding: func(ocigc.Finding) {}})
			took := time.Since(start)
			b.ReportMetric(peak(), "MiB-"+name)
			qt.Assert(b, qt.IsNil(err))
			qt.Assert(b, qt.HasLen(report.Problems, 0))
			holds, opens := h.take()
			b.ReportMetric(took.Seconds(), "s-"+name)
			b.ReportMetric(float64(opens), "opens-"+name)
			if n := len(holds); n > 0 {
				b.ReportMetric(float64(holds[n-1].Microseconds()), "us-lock-"+name)
				b.Logf("%s: of %d locks, the median was held for %v, 99%% for less than %v, 99.9%% for less than %v; the longest for %v",
					name, n, holds[n/2], holds[n*99/100], holds[n*999/1000], holds[max(n-5, 0):])
			}
			b.Logf("%s: %d manifests and %d blobs removed", name, report.Manifests, report.Blobs)
		}
		pulling := func(collect func()) (median float64) {
			stop, during := make(chan struct{}), make(chan float64)
			go func() { during <- pullMedian(b, r, n, stop) }()
			collect()
			close(stop)
			return <-during
		}
		rest := func() { time.Sleep(min(time.Duration(n)*20*time.Millisecond, 10*time.Second)) }
		b.ReportMetric(pulling(func() { collect("first") }), "us-pull-first")
		rest() // for the folds
		collect("second")
		qt.Assert(b, qt.IsNil(r.Close()))
		r, err = open(h, dir, "", &Options{NoSync: true})
		qt.Assert(b, qt.IsNil(err))
		collect("restart")
		b.ReportMetric(pulling(rest), "us-pull-without")
		b.ReportMetric(pulling(func() { collect("fourth") }), "us-pull-fourth")
		qt.Assert(b, qt.IsNil(r.Close()))
	}
}
