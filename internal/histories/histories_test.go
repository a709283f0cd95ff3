package histories

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/go-quicktest/qt"
)

// backends has what the test drives.
var backends = []Backend{
	{Name: "dir", Command: func(dir string, _ int) []string { return ociserve(dir) }},
	{Name: "dir without sync", Command: func(dir string, _ int) []string { return ociserve(dir, "-no-sync") }},
}

// program is the path of the ociserve that TestMain built.
var program string

func ociserve(dir string, flags ...string) []string {
	return append([]string{program, "-addr", "127.0.0.1:0", "-quiet", "-dir", dir}, flags...)
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "histories")
	if err == nil {
		defer os.RemoveAll(dir)
		program, err = build(context.Background(), filepath.Join("..", ".."), dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	return m.Run()
}

// TestProcessesAreLinearizable lasts for OCI_HISTORIES, a duration such as 20m; without
// that, for some seconds.
func TestProcessesAreLinearizable(t *testing.T) {
	d := duration(t, "OCI_HISTORIES", 20*time.Second)
	for _, b := range backends {
		for n := 2; n <= 3; n++ {
			t.Run(fmt.Sprintf("%s, %d processes", b.Name, n), func(t *testing.T) {
				drive(t, b, n, d/time.Duration(2*len(backends)))
			})
		}
	}
}

// duration returns the value of an environment variable, or d if there is none.
func duration(t *testing.T, variable string, d time.Duration) time.Duration {
	if s := os.Getenv(variable); s != "" {
		var err error
		d, err = time.ParseDuration(s)
		qt.Assert(t, qt.IsNil(err))
	}
	return d
}

// seed returns the seed of all rounds.
func seed(t *testing.T) uint64 {
	s := os.Getenv("OCI_HISTORIES_SEED")
	if s == "" {
		return 1
	}
	n, err := strconv.ParseUint(s, 10, 64)
	qt.Assert(t, qt.IsNil(err))
	return n
}

// drive makes histories by n processes for some time.
func drive(t *testing.T, b Backend, n int, d time.Duration) {
	seed := seed(t)
	p, err := startProcesses(b, t.TempDir(), n)
	qt.Assert(t, qt.IsNil(err))
	defer func() {
		if t.Failed() {
			t.Logf("the seed is %d\n%s", seed, p.logs())
		}
		qt.Check(t, qt.IsNil(p.stopAll()))
	}()
	rounds, decided, count := 0, 0, make(map[string]int)
	for end := time.Now().Add(d); (decided == 0 || time.Now().Before(end)) && !t.Failed(); rounds++ {
		events, err := newPlan(seed, rounds, n).run(t.Context(), p.cluster, p)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(p.check()))
		for _, f := range failures(events) {
			t.Errorf("a server failed: %s", f)
		}
		if report(t, check(events)) {
			decided++
		}
		for _, ev := range events {
			count[strings.TrimSpace(fmt.Sprintf("%s: %d %s", ev.Do, ev.Status, ev.Code))]++
		}
	}
	var table strings.Builder
	for _, what := range slices.Sorted(maps.Keys(count)) {
		fmt.Fprintf(&table, "\n%6d %s", count[what], strings.Replace(what, ": 0", ": unknown", 1))
	}
	t.Logf("seed %d: %d rounds, %d of them decided%s", seed, rounds, decided, table.String())
}

// newPlan returns the plan of a round: few clients or many, and faults or none.
func newPlan(seed uint64, number, servers int) plan {
	g := rand.New(rand.NewPCG(seed, uint64(number)))
	p := plan{seed: seed, number: number, clients: 6, ops: 40, repos: []string{"x", "y", "z"}, idle: -1, breaks: 4}
	switch g.IntN(4) {
	case 0:
		p.clients, p.ops, p.repos = 5, 16, []string{"x"}
	case 1:
		p.clients, p.ops, p.repos = 3, 40, []string{"x", "y"}
	}
	if servers > 2 {
		p.idle = g.IntN(servers)
	}
	if g.IntN(4) == 0 {
		p.pause = 400 * time.Millisecond // journals are folded meanwhile
	}
	for range g.IntN(4) {
		f := fault{after: g.IntN(p.clients * p.ops), wait: time.Duration(g.IntN(3000)) * time.Microsecond, how: kill}
		f.servers = g.Perm(servers)[:1+g.IntN(servers)]
		if g.IntN(3) == 0 {
			f.how = interrupt
		}
		p.faults = append(p.faults, f)
	}
	slices.SortFunc(p.faults, func(a, b fault) int { return cmp.Compare(a.after, b.after) })
	return p
}

// report fails the test for each history that is not linearizable, and saves it. It reports false if it could not be
// found out of one whether it is, which is nobody's fault.
func report(t *testing.T, violations []*violation) (decided bool) {
	if len(violations) == 0 {
		return true
	}
	dir, err := os.MkdirTemp("", "histories-failed-")
	qt.Assert(t, qt.IsNil(err))
	decided = true
	for _, v := range violations {
		text, err := v.save(dir)
		qt.Check(t, qt.IsNil(err))
		if v.result == porcupine.Unknown {
			t.Log(text)
			decided = false
			continue
		}
		t.Error(text)
	}
	return decided
}

// TestReplay checks a history again that was saved: OCI_HISTORIES_REPLAY is its file.
func TestReplay(t *testing.T) {
	name := os.Getenv("OCI_HISTORIES_REPLAY")
	if name == "" {
		t.Skip("OCI_HISTORIES_REPLAY names no file")
	}
	f, err := os.Open(name)
	qt.Assert(t, qt.IsNil(err))
	defer f.Close()
	events, err := readHistory(f)
	qt.Assert(t, qt.IsNil(err))
	repo := strings.TrimSuffix(filepath.Base(name), filepath.Ext(name))
	if v := checkRepo(repo, events, maxSteps); v != nil {
		qt.Check(t, qt.IsTrue(report(t, []*violation{v})))
	}
}
