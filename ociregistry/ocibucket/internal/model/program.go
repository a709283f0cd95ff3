package model

import (
	"fmt"
	"math/rand/v2"
)

// A profile says what a program does, and how often. Each rule has one in which it is needed often.
type profile struct {
	name      string
	calls     map[string]int // weights of clients' calls
	steps     map[string]int // weights of the steps of collections
	oneRepo   bool
	oneDigest bool
	sparse    bool // always; else now and then
	pauses    int  // one in so many requests comes after a pause, in two of three programs
	shaky     bool // reads fail often
}

var everything = profile{
	name: "everything",
	calls: map[string]int{
		"push": 4, "upload": 4, "manifest": 5, "mount": 2, "head": 2, "redirect": 1, "delete": 3, "delete manifest": 2, "delete tag": 1,
	},
	steps:  map[string]int{"links": 3, "manifests": 1, "marks": 1, "forget": 1, "markers": 2, "orphans": 1, "sessions": 1, "trim": 2},
	pauses: 25,
}

var (
	// links: one blob that is pushed, named, promised, deleted and collected.
	links = profile{
		name:    "links",
		calls:   map[string]int{"push": 3, "manifest": 4, "head": 3, "delete": 3, "delete manifest": 3},
		steps:   map[string]int{"links": 6, "trim": 2},
		oneRepo: true, oneDigest: true, pauses: 15,
	}
	// brisk: the same, without long pauses, so that processes know much.
	brisk = profile{
		name:    "brisk",
		calls:   map[string]int{"push": 2, "manifest": 5, "head": 4, "delete": 3, "delete manifest": 4},
		steps:   map[string]int{"links": 1},
		oneRepo: true, oneDigest: true, pauses: 1000,
	}
	// shaky: one blob and one manifest, and reads that fail often.
	shaky = profile{
		name:    "shaky",
		calls:   map[string]int{"push": 2, "manifest": 8, "delete manifest": 1},
		steps:   map[string]int{"links": 1},
		oneRepo: true, oneDigest: true, pauses: 1000, shaky: true,
	}
	// deletes: one blob that is deleted slowly.
	deletes = profile{
		name:    "deletes",
		calls:   map[string]int{"push": 3, "manifest": 4, "delete": 4, "delete manifest": 1},
		steps:   map[string]int{"trim": 1},
		oneRepo: true, oneDigest: true, pauses: 6,
	}
	// data: bytes that several repositories share, and that are collected.
	data = profile{
		name:      "data",
		calls:     map[string]int{"push": 4, "mount": 3, "delete": 4, "redirect": 1},
		steps:     map[string]int{"links": 2, "markers": 6, "orphans": 1},
		oneDigest: true, pauses: 15,
	}
	// uploads: sessions that are slow, and expire.
	uploads = profile{
		name:    "uploads",
		calls:   map[string]int{"upload": 8},
		steps:   map[string]int{"sessions": 3, "orphans": 3, "markers": 1},
		oneRepo: true, oneDigest: true, pauses: 5,
	}
	// tags: manifests and their tags alone.
	tags = profile{
		name:    "tags",
		calls:   map[string]int{"manifest": 6, "delete manifest": 4, "delete tag": 1},
		steps:   map[string]int{"manifests": 3, "marks": 4, "trim": 3},
		oneRepo: true, sparse: true, pauses: 10,
	}
)

// run runs the program of a seed without the rules that are off.
func run(p profile, seed uint64, off map[rule]bool, trace bool) *sim {
	s := &sim{bucket: newBucket(), off: off, rnd: rand.New(rand.NewPCG(seed, 1)), keepTrace: trace, now: 1000, profile: p}
	s.truths = newTruths()
	s.faults, s.pauses = s.rnd.IntN(3) > 0, s.rnd.IntN(3) > 0
	s.options = options{immutable: s.rnd.IntN(2) == 0, sparse: s.rnd.IntN(6) == 0 || p.sparse, deletes: s.rnd.IntN(6) > 0}
	for i := range 2 + s.rnd.IntN(2) {
		proc := &process{sim: s, name: fmt.Sprintf("P%d", i)}
		proc.crash()
		for j := range 1 + s.rnd.IntN(2) {
			s.addTask(proc, fmt.Sprintf("%s.%d", proc.name, j), seed*31+uint64(i*7+j), func(t *task) {
				for range 6 {
					t.client()
				}
			})
		}
	}
	for i := range 2 {
		proc := &process{sim: s, name: fmt.Sprintf("GC%d", i)}
		proc.crash()
		s.addTask(proc, proc.name, seed*77+uint64(i), func(t *task) {
			for range 14 {
				t.collect()
			}
		})
	}
	s.run(1500)
	return s
}

// choose returns one of names, by the weights.
func (t *task) choose(names []string, weights map[string]int) string {
	sum := 0
	for _, name := range names {
		sum += weights[name]
	}
	n := t.rnd.IntN(sum)
	for _, name := range names {
		if n -= weights[name]; n < 0 {
			return name
		}
	}
	panic("unreachable")
}

// repoAndOther returns a repository and the other one.
func (t *task) repoAndOther() (repo, other string) {
	if t.profile.oneRepo || t.rnd.IntN(4) > 0 {
		return "a", "b"
	}
	return "b", "a"
}

var callNames = []string{"push", "upload", "manifest", "mount", "head", "redirect", "delete", "delete manifest", "delete tag"}

// client makes a random call.
func (t *task) client() {
	repo, other := t.repoAndOther()
	digest, manifest := large, fmt.Sprintf("m%d", t.rnd.IntN(len(blobsOf)))
	if t.profile.oneDigest {
		manifest = "m0"
	} else if t.rnd.IntN(3) == 0 {
		digest = small
	}
	tags := []string{fmt.Sprintf("t%d", t.rnd.IntN(3))}
	if t.rnd.IntN(3) == 0 {
		tags = append(tags, "t3")
	}
	expected := ""
	if t.rnd.IntN(4) == 0 {
		expected = fmt.Sprintf("m%d", t.rnd.IntN(len(blobsOf)))
	}
	name := t.choose(callNames, t.profile.calls)
	var f func() result
	switch name {
	case "push":
		f = t.promising(repo, digest, func() result { return t.pushBlob(repo, digest) })
	case "upload":
		slot := t.rnd.IntN(2)
		f = t.promising(repo, large, func() result { return t.upload(repo, slot) })
	case "manifest":
		f = func() result { return t.pushManifest(repo, manifest, tags, expected) }
	case "mount":
		f = t.promising(repo, digest, func() result { return t.mount(other, repo, digest) })
	case "head":
		f = t.promising(repo, digest, func() result { return t.head(repo, digest) })
	case "redirect":
		f = func() result { return t.redirecting(repo) }
	case "delete":
		f = t.deleting(repo, digest, func() result { return t.deleteBlob(repo, digest) })
	case "delete manifest":
		f = func() result { return t.deleteManifest(repo, manifest) }
	case "delete tag":
		f = func() result { return t.deleteTag(repo, tags[0]) }
	}
	if name == "delete" && !t.options.deletes {
		return
	}
	t.call(fmt.Sprintf("%s of %s, %s or %s", name, repo, digest, manifest), f)
}

// upload goes on with a session, wherever it is, until it is committed.
func (t *task) upload(repo string, slot int) result {
	if t.sessions[slot] == "" {
		id := t.nonce("s")
		t.sessions[slot] = id
		if t.openSession(id) != done {
			return failed
		}
	}
	id := t.sessions[slot]
	for range 6 {
		s, a := t.getSession(id)
		r := failed
		switch {
		case a.code == notFound, s.status == gone:
			if t.sessions[slot] == id {
				t.sessions[slot] = ""
			}
			return unknown
		case a.code == ok && s.status == open && (len(s.parts) == 0 || len(s.parts) < chunks && t.rnd.IntN(2) == 0):
			r = t.patch(id, len(s.parts), fmt.Sprintf("%d from %s,", len(s.parts), t.name))
		case a.code == ok:
			return t.commit(repo, id, large)
		}
		if r == failed {
			return failed
		}
	}
	return failed
}

var stepNames = []string{"links", "manifests", "marks", "forget", "markers", "orphans", "sessions", "trim"}

// collect makes a random step of a collection.
func (t *task) collect() {
	repo, _ := t.repoAndOther()
	name := t.choose(stepNames, t.profile.steps)
	t.call("collect "+name, func() result {
		t.nap(t.rnd.IntN(grace / 2))
		switch name {
		case "links":
			t.collectLink(repo, large)
			if !t.profile.oneDigest {
				t.collectLink(repo, small)
			}
		case "manifests":
			t.collectManifests(repo)
		case "marks":
			t.collectMarks(repo)
		case "forget":
			t.forget(repo)
		case "markers":
			t.collectMarkers(large)
		case "orphans":
			t.collectOrphans()
		case "sessions":
			t.collectSessions()
		case "trim":
			t.trim(repo)
		}
		return done
	})
}
