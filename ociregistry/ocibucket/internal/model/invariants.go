package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// truths is what an observer knows who sees the bucket and all answers to clients.
type truths struct {
	violation    string
	states       map[string]*state // by repository; nil if it has to be computed anew
	applied      map[string]bool   // operations
	acknowledged map[string]string // operations, and their repositories
	turnedDown   map[string]string // operations, and their repositories
	promises     map[[2]string]int // when a blob of a repository was promised
	deletes      map[[2]string]int // how many deletes of one clients have begun
	unsettled    map[[2]string]int // how many have not ended, or not clearly
	urls         map[string]int    // until when data has to be there
	chunks       map[string]int    // of a session, that were acknowledged
	commits      map[string]int    // how many chunks are in the blob of a session
}

func newTruths() truths {
	return truths{
		states: map[string]*state{}, applied: map[string]bool{}, acknowledged: map[string]string{}, turnedDown: map[string]string{},
		promises: map[[2]string]int{}, deletes: map[[2]string]int{}, unsettled: map[[2]string]int{}, urls: map[string]int{},
		chunks: map[string]int{}, commits: map[string]int{},
	}
}

var repos = []string{"a", "b"}

func (s *sim) violate(format string, args ...any) {
	if s.violation == "" {
		s.violation = fmt.Sprintf(format, args...)
		s.logf("VIOLATION: %s", s.violation)
	}
}

// truth returns the state of a repository as one would read it who is never delayed.
func (s *sim) truth(repo string) *state {
	if st := s.states[repo]; st != nil {
		return st
	}
	st := newState()
	best := -1
	for key, o := range s.objects {
		if strings.HasPrefix(key, "r/"+repo+"!/s/") && number(key) > best {
			best = number(key)
			st = o.body.(*state)
		}
	}
	st = st.clone()
	if st.recent == nil {
		st.recent = map[string]int{}
	}
	for {
		o, there := s.objects[logKey(repo, st.n+1)]
		if !there {
			break
		}
		rec := o.body.(*record)
		ops := rec.ops
		if s.isVoid(rec.t0, o.modified) {
			ops = nil
		}
		st.apply(st.n+1, ops)
	}
	s.states[repo] = st
	return st
}

// readable returns why a blob cannot be read, or nothing.
func (s *sim) readable(repo, digest string) string {
	o, there := s.objects[linkKey(repo, digest)]
	if !there {
		return "there is no link"
	}
	l := o.body.(link)
	if !s.linkLives(l, o.modified) {
		return "the link is dead or void"
	}
	if _, deleted := s.truth(repo).dead[l.nonce]; deleted {
		return "the link's delete is recorded"
	}
	if _, there := s.objects[dataKey(l.data)]; !there && digest == large {
		return "its bytes are missing"
	}
	return ""
}

// checkEnding checks, before a request, that it does not end a session that is in use. One
// whose upload has ended is none: its creation was carried out again, or so late that it had
// ended.
func (s *sim) checkEnding(r request) {
	if r.op != abort && r.op != del {
		return
	}
	for key, o := range s.objects {
		u, is := o.body.(session)
		inUse := is && (s.uploads[u.upload] != nil || u.status == finishing)
		if inUse && (u.upload == r.upload || key == r.key) && u.status != gone && s.now-o.modified < expires {
			s.violate("a session was ended that was in use")
		}
	}
}

// checkWrite checks all that has to hold after each write.
func (s *sim) checkWrite(r request) {
	for _, repo := range repos {
		if strings.HasPrefix(r.key, "r/"+repo+"!/l/") || strings.HasPrefix(r.key, "r/"+repo+"!/s/") {
			if rec, is := r.body.(*record); is && !s.isVoid(rec.t0, s.now) && s.states[repo] != nil {
				s.checkRecord(s.states[repo].clone(), rec)
			}
			s.states[repo] = nil
		}
		s.checkManifests(repo)
		s.checkContent(repo)
	}
	for _, of := range slices.SortedFunc(maps.Keys(s.promises), func(a, b [2]string) int { return strings.Compare(a[0]+a[1], b[0]+b[1]) }) {
		if s.now-s.promises[of] > delay {
			delete(s.promises, of)
		} else if e := s.readable(of[0], of[1]); e != "" {
			s.violate("%s was promised in %s: %s", of[1], of[0], e)
		}
	}
	for data, until := range s.urls {
		if _, there := s.objects[dataKey(data)]; !there && s.now <= until {
			s.violate("a URL is valid, and its data is gone")
		}
	}
}

// checkRecord checks that the operations of a new record may be applied to the state before it.
func (s *sim) checkRecord(before *state, rec *record) {
	for _, o := range rec.ops {
		if s.applied[o.id] {
			s.violate("an operation was applied twice: %s", o.kind)
		}
		s.applied[o.id] = true
		if o.kind == pushManifest && !before.allows(o, s.options.immutable) {
			s.violate("a push was applied that is not allowed")
		}
		before.apply(before.n+1, []operation{o})
	}
}

// accepted notes that a client was told that a session has so many chunks.
func (t *task) accepted(id string, n int) {
	t.chunks[id] = max(t.chunks[id], n)
	t.checkChunks(id)
}

// committed notes that a client was told that a session's blob is there.
func (t *task) committed(id string, n int) {
	t.commits[id] = n
	t.checkChunks(id)
}

func (t *task) checkChunks(id string) {
	if n, is := t.commits[id]; is && t.chunks[id] > n {
		t.violate("a chunk was acknowledged that its session's blob does not have")
	}
}

// checkManifests checks that manifests are whole, that what they name is there, and that no tag
// dangles.
func (s *sim) checkManifests(repo string) {
	st := s.truth(repo)
	for _, name := range slices.Sorted(maps.Keys(st.manifests)) {
		if n := st.manifests[name]; n > 0 {
			if _, there := s.objects[logKey(repo, n)]; !there {
				s.violate("a manifest's record is gone")
			}
		} else if o, there := s.objects[manifestKey(repo, name)]; !there || o.body.(manifestObject).status == dead {
			s.violate("a manifest's object is gone")
		}
		for _, digest := range blobsOf[name] {
			if e := s.readable(repo, digest); e != "" && !s.options.sparse {
				s.violate("%s names %s in %s: %s", name, digest, repo, e)
			}
		}
	}
	for tag, name := range st.tags {
		if _, there := st.manifests[name]; !there {
			s.violate("tag %s dangles", tag)
		}
	}
}

// checkContent checks that links have their data, and that a repository is listed if it has
// content, and not otherwise.
func (s *sim) checkContent(repo string) {
	content := len(s.truth(repo).manifests) > 0
	for _, digest := range digests {
		switch e := s.readable(repo, digest); e {
		case "":
			content = true
		case "its bytes are missing":
			s.violate("a live link of %s: %s", repo, e)
		}
	}
	_, listed := s.objects["c/"+repo+"!"]
	if content && !listed {
		s.violate("%s has content and is not in the catalog", repo)
	}
	if !content && listed && len(s.bucket.list("e/"+repo+"!")) == 0 {
		s.violate("%s is empty, and nobody looks", repo)
	}
}

// checkEnd checks what clients were told.
func (s *sim) checkEnd() {
	for _, id := range slices.Sorted(maps.Keys(s.acknowledged)) {
		if !s.truth(s.acknowledged[id]).ids[id] {
			s.violate("an acknowledged operation is lost: %s", id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.turnedDown)) {
		if s.truth(s.turnedDown[id]).ids[id] {
			s.violate("an operation that was refused happened: %s", id)
		}
	}
}

// answered notes what a client was told of a change.
func (t *task) answered(repo string, c *change) {
	switch {
	case c.id == "" || c.result == failed:
	case c.result == done:
		t.acknowledged[c.id] = repo
	default:
		t.turnedDown[c.id] = repo
	}
}

// redirecting notes until when a client may use a URL.
func (t *task) redirecting(repo string) result {
	if data, until := t.redirect(repo, large); data != "" {
		t.urls[data] = max(t.urls[data], until)
	}
	return done
}

// promising notes that a client was told that a blob is there, unless a delete was under way.
func (t *task) promising(repo, digest string, f func() result) func() result {
	return func() result {
		of := [2]string{repo, digest}
		begun, alone := t.deletes[of], t.unsettled[of] == 0
		r := f()
		if r == done && alone && t.deletes[of] == begun {
			t.promises[of] = t.linked
		}
		return r
	}
}

// deleting notes that a client deletes a blob. What was promised before holds no longer.
func (t *task) deleting(repo, digest string, f func() result) func() result {
	return func() result {
		of := [2]string{repo, digest}
		t.deletes[of]++
		t.unsettled[of]++
		delete(t.promises, of)
		r := f()
		if r != failed {
			t.unsettled[of]--
		}
		return r
	}
}
