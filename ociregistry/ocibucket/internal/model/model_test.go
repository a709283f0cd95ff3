package model

import (
	"flag"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

var (
	seeds = flag.Uint64("model.seeds", 300, "how many seeds of each profile TestModel runs")
	first = flag.Uint64("model.first", 1, "the first seed of TestModel")
)

var profiles = []profile{everything, links, brisk, shaky, deletes, data, uploads, tags}

func TestModel_HoldsItsInvariants(t *testing.T) {
	t.Parallel()
	for _, p := range profiles {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			if seed := search(p, *first, *seeds, nil); seed != 0 {
				s := run(p, seed, nil, true)
				t.Errorf("seed %d: %s\n%s", seed, s.violation, strings.Join(s.trace, "\n"))
			}
		})
	}
}

// Without a rule, the invariants do not hold: each rule is needed, and the model would find a
// protocol without it.
func TestModel_NeedsEachRule(t *testing.T) {
	t.Parallel()
	const most = 20000 // seeds
	needed := map[rule]profile{
		fresh: uploads, opIDs: links, settled: shaky, void: data, slack: everything, dateCheck: data, groupCheck: tags,
		snapForget: links, asOf: brisk, noncedRefs: everything, markers: everything, deadLinks: links, heal: deletes,
		ownDead: everything, condemn: links, claims: uploads, committing: uploads, expiry: uploads, sessionRoot: uploads,
		gcOrder: uploads, keepSnap: everything, keepLast: tags, carriedVoid: data, keepC: everything, eDelete: tags, eRecheck: tags, eFirst: tags, eDate: tags,
		eAge: tags, eOwn: tags, manifests: tags, buryMs: tags, urlDate: data, urlShort: data,
	}
	for _, r := range allRules {
		t.Run(string(r), func(t *testing.T) {
			t.Parallel()
			p, is := needed[r]
			if !is {
				t.Fatal("no profile needs the rule")
			}
			off := map[rule]bool{r: true}
			seed := search(p, 1, most, off)
			if seed == 0 {
				t.Fatalf("no violation in %d seeds", most)
			}
			t.Logf("seed %d of %s: %s", seed, p.name, run(p, seed, off, false).violation)
		})
	}
}

// search returns a seed from first on, of so many, that violates an invariant, or zero.
func search(p profile, first, count uint64, off map[rule]bool) uint64 {
	var next, found atomic.Uint64
	next.Store(first)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed := next.Add(1) - 1; seed < first+count && found.Load() == 0; seed = next.Add(1) - 1 {
				if run(p, seed, off, false).violation != "" {
					found.CompareAndSwap(0, seed)
				}
			}
		})
	}
	wg.Wait()
	return found.Load()
}
