// Package tally adds up the bytes of repositories, below each prefix of their names.
package tally

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// A Tally has the bytes of repositories, as far as somebody has counted them. What this
// process changes is added as it happens. What others may have changed is in doubt: it is to
// be looked at. The zero Tally is off. It is safe for concurrent use.
type Tally struct {
	on atomic.Bool

	mu    sync.Mutex
	repos map[string]*repo
	below map[string]int64 // by prefix, if there are any
	doubt map[string]struct{}
}

type repo struct {
	bytes   int64
	changed bool // by Add, since the last Set
}

// Start turns the tally on. Before, changes need not be told, and are forgotten.
func (t *Tally) Start() { t.on.Store(true) }

// IsOn reports whether the tally is on.
func (t *Tally) IsOn() bool { return t.on.Load() }

// Add notes that a repository has n bytes more, or less if n is negative.
func (t *Tally) Add(name string, n int64) {
	if !t.IsOn() || n == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of(name).changed = true
	t.add(name, n)
}

// Doubt notes that others may have changed a repository.
func (t *Tally) Doubt(name string) {
	if !t.IsOn() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.doubt == nil {
		t.doubt = make(map[string]struct{})
	}
	t.doubt[name] = struct{}{}
}

// Trust notes that a repository is not in doubt any more.
func (t *Tally) Trust(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.doubt, name)
}

// Doubtful returns the repositories that are in doubt, which are not any more.
func (t *Tally) Doubtful() (names []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range t.doubt {
		names = append(names, name)
	}
	clear(t.doubt)
	return names
}

// Set notes that a repository was counted, and has n bytes.
func (t *Tally) Set(name string, n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.of(name)
	t.add(name, n-r.bytes)
	if r.changed = false; n == 0 {
		delete(t.repos, name)
	}
}

// Of returns how many bytes a repository has, and whether that has changed since it was
// counted.
func (t *Tally) Of(name string) (n int64, changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.repos[name]; r != nil {
		return r.bytes, r.changed
	}
	return 0, false
}

// Names returns the repositories that have bytes, or had some when they were counted.
func (t *Tally) Names() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Keys(t.repos))
}

// Below returns how many bytes a repository and those below it have. The empty name is above
// all.
func (t *Tally) Below(prefix string) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.below[prefix]
}

func (t *Tally) of(name string) *repo {
	if t.repos == nil {
		t.repos, t.below = make(map[string]*repo), make(map[string]int64)
	}
	r := t.repos[name]
	if r == nil {
		r = new(repo)
		t.repos[strings.Clone(name)] = r
	}
	return r
}

// add adds n bytes to a repository and all above it.
func (t *Tally) add(name string, n int64) {
	t.of(name).bytes += n
	for end := len(name); ; end = max(strings.LastIndexByte(name[:end], '/'), 0) {
		prefix := name[:end]
		if t.below[prefix] += n; t.below[prefix] == 0 {
			delete(t.below, prefix)
		}
		if end == 0 {
			return
		}
	}
}
