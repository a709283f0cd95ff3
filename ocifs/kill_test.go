package ocifs_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
)

// TestKill kills processes that write to a root, and compares the content afterwards
// with what was acknowledged to them. All rounds have one root. OCIFS_KILL_ROUNDS is
// the number of rounds, and OCIFS_KILL_SEED selects their course.
func TestKill(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a file that a dying process has open cannot be removed at once")
	}
	t.Parallel()
	k := &killRun{
		T:        t,
		root:     filepath.Join(scratch.Kept(t), "root"),
		seed:     uint64(envInt(t, "OCIFS_KILL_SEED", 1)),
		known:    make(map[killKey]string),
		sessions: make(map[string]killSession),
	}
	rounds := envInt(t, "OCIFS_KILL_ROUNDS", len(killRounds))
	for i := range rounds {
		round := killRounds[i%len(killRounds)]
		k.Rand = rand.New(rand.NewPCG(k.seed, uint64(i)))
		k.round = fmt.Sprintf("round %d (%s) of seed %d", i, round.name, k.seed)
		r := k.newRound()
		round.run(k, r)
		r.finish()
		k.check(r)
		if t.Failed() {
			t.Fatalf("%s failed, after %d operations", k.round, len(r.events)/2)
		}
	}
	t.Logf("%d rounds, %d operations, of which %d were acknowledged", rounds, k.operations, k.acknowledged)
}

// killRounds are the ways in which a round can go.
var killRounds = []struct {
	name string
	run  func(k *killRun, r *killRound)
}{
	{"killed", func(k *killRun, r *killRound) {
		r.killLater(r.startOpen(false), 150*time.Millisecond)
	}},
	{"killed, then killed when it opens", func(k *killRun, r *killRound) {
		r.killLater(r.startOpen(false), 100*time.Millisecond)
		for i := range 2 + k.IntN(3) {
			if i%2 == 0 {
				k.leaveStaging()
			}
			c := r.start(false)
			r.await(c, killEvent{Op: "open"})
			r.killLater(c, 4*time.Millisecond)
		}
	}},
	{"killed when it closes", func(k *killRun, r *killRound) {
		for range 2 {
			c := r.startOpen(k.IntN(2) == 0)
			r.pause(c, 50*time.Millisecond)
			c.stdin.Close()
			r.await(c, killEvent{Op: "close"})
			r.killLater(c, 8*time.Millisecond)
		}
	}},
	{"stopped", func(k *killRun, r *killRound) {
		c := r.startOpen(false)
		r.pause(c, 150*time.Millisecond)
		r.stopped = true
		qt.Check(k, qt.IsNil(c.stop()))
	}},
	{"two killed", func(k *killRun, r *killRound) {
		c1, c2 := r.startOpen(false), r.startOpen(true)
		r.killLater(c1, 100*time.Millisecond)
		r.killLater(c2, 50*time.Millisecond)
	}},
	{"one of two killed", func(k *killRun, r *killRound) {
		c1, c2 := r.startOpen(false), r.startOpen(false)
		r.killLater(c1, 100*time.Millisecond)
		r.pause(c2, 50*time.Millisecond)
		qt.Check(k, qt.IsNil(c2.stop()))
	}},
	{"killed when it begins", func(k *killRun, r *killRound) {
		r.killLater(r.start(true), 25*time.Millisecond)
	}},
	{"killed without fsync", func(k *killRun, r *killRound) {
		r.killLater(r.startOpen(true), 300*time.Millisecond)
	}},
	{"killed beside an open registry", func(k *killRun, r *killRound) {
		r.survivor = k.open()
		r.killLater(r.startOpen(false), 150*time.Millisecond)
	}},
}

// killRun is the state of all rounds.
type killRun struct {
	*testing.T
	*rand.Rand // of the round

	root  string
	seed  uint64
	round string

	known                    map[killKey]string // the state after the rounds so far
	sessions                 map[string]killSession
	ended                    []killSession // by the last round
	nameless                 int           // sessions that may have begun, but nobody got their ids
	operations, acknowledged int
}

func (k *killRun) open() *ocifs.Registry {
	k.Helper()
	reg, err := ocifs.New(k.root, nil)
	qt.Assert(k, qt.IsNil(err), qt.Commentf("%s", k.round))
	return reg
}

// leaveStaging makes opening take longer: a process that died has left many files.
func (k *killRun) leaveStaging() {
	dir := filepath.Join(k.root, ".ocifs", "staging", "LEFT")
	qt.Assert(k, qt.IsNil(os.MkdirAll(dir, 0o777)))
	for i := range 300 {
		qt.Assert(k, qt.IsNil(os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o666)))
	}
}

// killRound has the children of a round, and what they told.
type killRound struct {
	k        *killRun
	children int
	w        *os.File
	done     chan struct{} // closed when all has been read
	stopped  bool          // the last child was not killed
	survivor *ocifs.Registry

	mu     sync.Mutex
	cond   sync.Cond
	events []killEvent
}

func (k *killRun) newRound() *killRound {
	out, w, err := os.Pipe()
	qt.Assert(k, qt.IsNil(err))
	r := &killRound{k: k, w: w, done: make(chan struct{})}
	r.cond.L = &r.mu
	go func() {
		defer close(r.done)
		defer out.Close()
		in := bufio.NewReader(out)
		for {
			line, err := in.ReadBytes('\n')
			if err != nil {
				return // the end of all children
			}
			var ev killEvent
			if err := json.Unmarshal(line, &ev); err != nil {
				k.Errorf("%s: a child wrote %q", k.round, line)
				continue
			}
			r.mu.Lock()
			r.events = append(r.events, ev)
			r.cond.Broadcast()
			r.mu.Unlock()
		}
	}()
	return r
}

func (r *killRound) start(noSync bool) *child {
	config := killConfig{Root: r.k.root, NoSync: noSync, Child: r.children, Seed: r.k.Uint64()}
	r.children++
	for _, s := range r.k.sessions {
		config.Sessions = append(config.Sessions, s)
	}
	c := startChild(r.k, "kill", config, r.w)
	go func() {
		<-c.ended
		r.mu.Lock()
		defer r.mu.Unlock()
		r.cond.Broadcast()
	}()
	return c
}

// startOpen starts a child and waits until it has opened the root.
func (r *killRound) startOpen(noSync bool) *child {
	c := r.start(noSync)
	r.await(c, killEvent{Op: "open", Done: true})
	return c
}

// await waits until the last child that was started has told of something.
func (r *killRound) await(c *child, want killEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		for _, ev := range r.events {
			if ev.Child == r.children-1 && ev.Op == want.Op && ev.Done == want.Done {
				return
			}
		}
		select {
		case <-c.ended:
			if c.err != nil {
				r.k.Fatalf("%s: the child failed: %v", r.k.round, c.err)
			}
		default:
		}
		r.cond.Wait()
	}
}

// pause lets a child go on for a while, of at most so long.
func (r *killRound) pause(c *child, most time.Duration) {
	select {
	case <-c.ended:
		if c.err != nil {
			r.k.Errorf("%s: the child failed: %v", r.k.round, c.err)
		}
	case <-time.After(time.Duration(r.k.Int64N(int64(most)))):
	}
}

func (r *killRound) killLater(c *child, most time.Duration) {
	r.pause(c, most)
	c.kill()
}

// finish waits until all was read that the children have told.
func (r *killRound) finish() {
	r.w.Close()
	<-r.done
}
