//go:build unix

package ocifs

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry"
)

var (
	cutSeeds = flag.Int("powercut.seeds", 100, "how many seeds to try; each cuts the power several times")
	cutSeed  = flag.Uint64("powercut.seed", 0, "the first seed")
)

// TestPowerCut cuts the power at a random call of the system, again and again,
// and looks at what is left (DESIGN.md, section 6: durable, crash-safe). To try
// one seed again, run it with -powercut.seed=N -powercut.seeds=1; with several
// workers, what happens depends on more than the seed.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	u := newUniverse("a", "b/c")
	shared := []ociregistry.Descriptor{u.blob(1, 400), u.blob(2, 19_000)}
	var workers []*worker
	for i := range 3 {
		workers = append(workers, newWorker(u, i, shared))
	}
	var next, failed atomic.Int64
	for range 2 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for n := next.Add(1); n <= int64(*cutSeeds) && failed.Load() < 4; n = next.Add(1) {
				seed := *cutSeed + uint64(n) - 1
				var err error
				c := newCutTest(seed, u, workers)
				synctest.Test(t, func(t *testing.T) { err = c.run(t.Context()) })
				if err != nil {
					t.Errorf("seed %d: %v\n%s", seed, err, c.report())
					failed.Add(1)
				}
			}
		})
	}
}

// cutTest is the test of one seed.
type cutTest struct {
	u       *universe
	rnd     *rand.Rand
	disk    *disktest.Disk
	opts    Options
	r       *Registry
	workers []*worker
	shared  []ociregistry.Descriptor
	ends    int
	cuts    int  // how many of the ends were cuts
	killed  bool // the last end was none

	mu     sync.Mutex
	events []string
}

func newCutTest(seed uint64, u *universe, workers []*worker) *cutTest {
	c := &cutTest{u: u, rnd: rand.New(rand.NewPCG(seed, 0))}
	c.disk = disktest.NewDisk(rand.New(rand.NewPCG(seed, 1)))
	kind := c.rnd.IntN(8)
	c.opts.NoSync = kind == 0
	if kind == 1 || kind == 2 {
		c.disk.BadSyncs = 0.05
	}
	n := []int{1, 1, 2, 3}[c.rnd.IntN(4)]
	for i := range n {
		w := *workers[i] // its content
		w.rnd = rand.New(rand.NewPCG(seed, uint64(i)+2))
		w.state, w.maybe = make(map[string]string), make(map[string][]string)
		w.off = c.off
		w.flaky = c.disk.BadSyncs > 0
		w.alone = n == 1
		c.workers = append(c.workers, &w)
		c.shared = w.shared
	}
	if n > 1 {
		var turn atomic.Uint32
		c.disk.Yield = func() {
			if turn.Add(1)%3 == 0 {
				runtime.Gosched()
			}
		}
	}
	c.opts.Logger = slog.New(slog.NewTextHandler(sayer{c}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	c.say("%d workers, NoSync is %v, %v of the syncs fail", n, c.opts.NoSync, c.disk.BadSyncs)
	return c
}

// sayer is for a log to be a part of the report.
type sayer struct{ c *cutTest }

func (s sayer) Write(p []byte) (int, error) {
	s.c.say("log: %s", p)
	return len(p), nil
}

func (c *cutTest) say(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, fmt.Sprintf(format, args...))
}

// off reports whether the power is off.
func (c *cutTest) off() bool {
	c.disk.Mu.Lock()
	defer c.disk.Mu.Unlock()
	return c.disk.Off
}

func (c *cutTest) run(ctx context.Context) error {
	for range 3 {
		if err := c.boot(ctx); err != nil {
			return err
		}
		err := c.work(ctx)
		if err != nil {
			c.r.Close()
			return err
		}
		if !c.off() && c.rnd.IntN(2) == 0 {
			c.say("Close: %v", c.r.Close())
		}
		c.cut()
	}
	if err := c.boot(ctx); err != nil {
		return err
	}
	return c.end(ctx)
}

// work makes calls and sets when the power goes off.
func (c *cutTest) work(ctx context.Context) error {
	c.disk.Mu.Lock()
	c.disk.CutAt = len(c.disk.Calls) + 1 + c.rnd.IntN([]int{50, 300, 1000}[c.rnd.IntN(3)])
	c.disk.Mu.Unlock()
	errs := make([]error, len(c.workers))
	var wg sync.WaitGroup
	for i, w := range c.workers {
		w.r = c.r
		wg.Go(func() { errs[i] = w.run(ctx, 40) })
	}
	wg.Wait()
	for _, w := range c.workers {
		c.say("%s", strings.Join(w.log, "\n"))
		w.log = nil
	}
	return errors.Join(errs...)
}

// cut cuts the power, or kills the process, and lets it end.
func (c *cutTest) cut() {
	c.ends++
	what, after := "the process is killed", c.disk.Kill
	if c.killed = c.rnd.IntN(4) == 0; !c.killed {
		what, after = "the power is cut", c.disk.Cut
		c.cuts++
	}
	next := after()
	next.BadSyncs = c.disk.BadSyncs
	c.disk.Mu.Lock()
	calls := slices.Clone(c.disk.Calls)
	c.disk.Mu.Unlock()
	c.say("%s at call %d, before:", what, len(calls))
	for _, call := range calls[max(0, len(calls)-30):] {
		c.say("\t%v", call)
	}
	if c.r != nil {
		c.r.Close()
	}
	for name := range strings.Lines(listing(next)) {
		c.say("\tleft: %s", strings.TrimSpace(name))
	}
	c.disk = next
}

// listing returns all files of a disk with their sizes.
func listing(d *disktest.Disk) string {
	var b strings.Builder
	for _, name := range listFiles(d, root) {
		if info, err := d.Lstat(filepath.Join(root, name)); err == nil && !info.IsDir() {
			fmt.Fprintf(&b, "%s %d\n", name, info.Size())
		}
	}
	return b.String()
}

// boot opens the registry on what the last cut has left, perhaps with further
// cuts, and checks it.
func (c *cutTest) boot(ctx context.Context) error {
	for {
		if err := c.checkIndexes(); err != nil {
			return err
		}
		if c.rnd.IntN(4) == 0 {
			c.disk.CutAt = len(c.disk.Calls) + 1 + c.rnd.IntN(60)
		}
		bad := c.disk.BadSyncs
		c.disk.BadSyncs = 0
		r, err := open(c.disk, root, "", &c.opts)
		if err == nil {
			c.r = r
			if err = c.repair(ctx); err == nil {
				err = c.check(ctx)
			}
			c.disk.Mu.Lock()
			c.disk.BadSyncs = bad
			c.disk.CutAt = 0
			c.disk.Mu.Unlock()
			if !c.off() {
				if err != nil {
					c.r.Close()
				}
				return err
			}
		}
		if !c.off() {
			return fmt.Errorf("open: %w", err)
		}
		c.r = r
		c.disk.BadSyncs = bad
		c.say("another cut")
		c.cut()
	}
}

// report returns what has happened.
// repair does what has to be done after a cut if nothing was waited for: what is left
// need not be whole.
func (c *cutTest) repair(ctx context.Context) error {
	if !c.opts.NoSync || c.cuts == 0 {
		return nil
	}
	for p, err := range c.r.Repair(ctx) {
		if err != nil && !c.off() {
			return fmt.Errorf("Repair: %w", err)
		}
		c.say("Repair: %v", p)
	}
	return nil
}

func (c *cutTest) report() string {
	for _, w := range c.workers {
		c.say("%s", strings.Join(w.log, "\n"))
	}
	return strings.Join(c.events, "\n")
}
