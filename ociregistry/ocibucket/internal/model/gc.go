package model

import (
	"maps"
	"slices"
	"strings"
)

// collectLink takes a link that nothing names one step further to its end.
func (t *task) collectLink(repo, digest string) {
	l := t.getLink(repo, digest)
	if l.code != ok {
		return
	}
	if !t.lives(l) {
		if l.date-l.modified > grace {
			t.write(request{op: delIfMatch, key: linkKey(repo, digest), match: l.version})
		}
		return
	}
	st := t.current(repo)
	if st == nil || st.names(digest) {
		return
	}
	if t.on(condemn) && l.status == live {
		if t.repo(repo).knowsDead(l.nonce) {
			t.bury(repo, digest, l)
			return
		}
		n := l.link
		n.status, n.t0, n.fresh = condemned, rewrite, t.freshNonce()
		t.write(request{op: putIfMatch, key: linkKey(repo, digest), match: l.version, body: n})
		return
	}
	if l.date-l.modified > delay {
		t.deleteLink(repo, digest, l, true)
	}
}

// collectManifests does the same with manifests' objects.
func (t *task) collectManifests(repo string) {
	a := t.do(request{op: list, key: manifestKey(repo, "")})
	for _, e := range a.entries {
		g := t.do(request{op: get, key: e.key})
		m, _ := g.body.(manifestObject)
		if g.code != ok {
			continue
		}
		st := t.current(repo)
		if st == nil {
			return
		}
		if _, named := st.manifests[strings.TrimPrefix(e.key, manifestKey(repo, ""))]; named {
			continue
		}
		switch {
		case !t.on(buryMs):
			t.write(request{op: del, key: e.key})
		case m.status == dead && g.date-g.modified > grace:
			t.write(request{op: delIfMatch, key: e.key, match: g.version})
		case m.status == live:
			t.write(request{op: putIfMatch, key: e.key, match: g.version, body: manifestObject{t.freshNonce(), condemned}})
		case m.status == condemned && g.date-g.modified > delay:
			t.write(request{op: putIfMatch, key: e.key, match: g.version, body: manifestObject{t.freshNonce(), dead}})
		}
	}
}

// collectMarks removes what says that somebody should look whether a repository is empty, if it is not.
func (t *task) collectMarks(repo string) {
	a := t.do(request{op: list, key: "e/" + repo + "!"})
	var old []string
	for _, e := range a.entries {
		if a.date-e.modified > grace || !t.on(eAge) {
			old = append(old, e.key)
		}
	}
	if len(old) == 0 || !t.hasContent(repo) {
		return
	}
	for _, key := range old {
		t.write(request{op: del, key: key})
	}
}

// hasContent reports whether a repository is known to have content.
func (t *task) hasContent(repo string) bool {
	st := t.current(repo)
	if st == nil || len(st.manifests) > 0 {
		return st != nil
	}
	a := t.do(request{op: list, key: linkKey(repo, "")})
	for _, e := range a.entries {
		l := t.getLink(repo, strings.TrimPrefix(e.key, linkKey(repo, "")))
		if t.lives(l) && !t.repo(repo).knowsDead(l.nonce) {
			return true
		}
	}
	return false
}

// collectOrphans deletes data that no marker and no session names.
func (t *task) collectOrphans() {
	named := map[string]bool{}
	steps := []func() bool{func() bool { return t.sessionRoots(named) }, func() bool { return t.markerRoots(named) }}
	var data answer
	if t.on(gcOrder) {
		data = t.do(request{op: list, key: "d/"})
	} else {
		slices.Reverse(steps)
	}
	for _, step := range steps {
		if !step() {
			return
		}
		if !t.on(gcOrder) && data.code == none {
			data = t.do(request{op: list, key: "d/"})
		}
	}
	for _, e := range data.entries {
		if !named[strings.TrimPrefix(e.key, "d/")] && data.date-e.modified > grace {
			t.write(request{op: del, key: e.key})
		}
	}
}

func (t *task) sessionRoots(named map[string]bool) bool {
	if !t.on(sessionRoot) {
		return true
	}
	a := t.do(request{op: list, key: "u/"})
	for _, e := range a.entries {
		g := t.do(request{op: get, key: e.key})
		if s, is := g.body.(session); is {
			named[s.data] = true
		} else if g.code == none {
			return false
		}
	}
	return a.code == ok
}

func (t *task) markerRoots(named map[string]bool) bool {
	a := t.do(request{op: list, key: "b/"})
	for _, e := range a.entries {
		if _, data, is := strings.Cut(e.key, "/d/"); is {
			named[data] = true
		}
	}
	return a.code == ok
}

// collectMarkers takes the markers of a digest one step further.
func (t *task) collectMarkers(digest string) {
	a := t.do(request{op: list, key: markerKey(digest, "")})
	for _, e := range a.entries {
		t.collectMarker(digest, strings.TrimPrefix(e.key, markerKey(digest, "")))
	}
}

func (t *task) collectMarker(digest, data string) {
	key := markerKey(digest, data)
	g := t.do(request{op: get, key: key})
	m, _ := g.body.(marker)
	if g.code != ok {
		return
	}
	become := func(s status) bool {
		n := marker{t.freshNonce(), s, rewrite}
		return t.write(request{op: putIfMatch, key: key, match: g.version, body: n}).code == ok
	}
	age := g.date - g.modified
	switch {
	case m.status == gone:
	case !t.markerLives(m, g.modified):
		if !become(gone) {
			return
		}
	case m.status == live && age > delay:
		if used, known := t.used(digest, data); known && !used {
			become(doomed)
		}
		return
	case m.status == doomed && age > grace:
		used, known := t.used(digest, data)
		if known && used {
			become(live)
		}
		if !known || used || !become(gone) {
			return
		}
	default:
		return
	}
	if t.write(request{op: del, key: dataKey(data)}).code == ok {
		t.write(request{op: del, key: key})
	}
}

// used reports whether a link uses data, and whether that is known. It deletes old references
// without their link.
func (t *task) used(digest, data string) (used, known bool) {
	a := t.do(request{op: list, key: "b/" + digest + "/r/"})
	if a.code == none {
		return false, false
	}
	for _, e := range a.entries {
		repo, nonce := cutRef(digest, e.key)
		l := t.getLink(repo, digest)
		if l.code == none {
			return false, false
		}
		mine := t.lives(l) && (l.ref == nonce || !t.on(noncedRefs))
		if mine && l.data == data {
			used = true
		}
		if !mine && a.date-e.modified > grace {
			t.write(request{op: del, key: e.key})
		}
	}
	return used, true
}

// collectSessions ends sessions that are old, and removes those that have ended.
func (t *task) collectSessions() {
	a := t.do(request{op: list, key: "u/"})
	for _, e := range a.entries {
		g := t.do(request{op: get, key: e.key})
		s, is := g.body.(session)
		if !is {
			continue
		}
		age := g.date - g.modified
		switch {
		case s.status == gone && age > grace, s.status == open && age > expires && !t.on(expiry):
			if t.write(request{op: abort, upload: s.upload}).code != none {
				t.write(request{op: del, key: e.key})
			}
		case s.status == open && age > expires, s.status == finishing && age > grace:
			s.status, s.fresh = gone, t.freshNonce()
			t.write(request{op: putIfMatch, key: e.key, match: g.version, body: s})
		}
	}
}

// trim writes a snapshot, and deletes the records that an older one covers.
func (t *task) trim(repo string) {
	r := t.repo(repo)
	t.lock(r)
	st := t.load(repo, r)
	if st != nil {
		st = st.clone()
	}
	r.busy = false
	if st == nil || st.n == 0 || !t.keepManifests(repo, st) || !t.forgetDead(repo, st) {
		return
	}
	st.recent = nil
	if t.write(request{op: putIfAbsent, key: snapshotKey(repo, st.n), body: st}).code == none {
		return
	}
	if r.state != nil {
		r.state.cover(st.n)
	}
	snaps := t.do(request{op: list, key: "r/" + repo + "!/s/"})
	covered := 0
	for _, e := range snaps.entries {
		if snaps.date-e.modified > grace {
			covered = max(covered, number(e.key))
		}
	}
	records := t.do(request{op: list, key: "r/" + repo + "!/l/"})
	if records.code == none || len(records.entries) == 0 {
		return
	}
	for _, e := range records.entries {
		if n := number(e.key); n < covered || n == covered && !t.on(keepLast) {
			t.write(request{op: del, key: e.key})
		}
	}
	g := t.do(request{op: get, key: records.entries[len(records.entries)-1].key})
	newest, _ := g.body.(*record)
	if newest == nil {
		return
	}
	for _, e := range snaps.entries {
		if n := number(e.key); n < covered && n != newest.base {
			t.write(request{op: del, key: e.key})
		}
	}
}

// keepManifests makes objects of the manifests whose bytes are in the log alone.
func (t *task) keepManifests(repo string, st *state) bool {
	for _, name := range slices.Sorted(maps.Keys(st.manifests)) {
		if st.manifests[name] > 0 && t.on(manifests) && !t.keepManifest(repo, name) {
			return false
		}
		st.manifests[name] = 0
	}
	return true
}

// forgetDead forgets deleted nonces whose link is seen to be dead, or another one.
func (t *task) forgetDead(repo string, st *state) bool {
	for _, nonce := range slices.Sorted(maps.Keys(st.dead)) {
		if t.on(heal) {
			l := t.getLink(repo, st.dead[nonce].digest)
			if l.code == none {
				return false
			}
			if l.code == ok && l.nonce == nonce && l.status != dead {
				continue
			}
		}
		delete(st.dead, nonce)
	}
	return true
}

// forget removes what an empty repository needs to stay right.
func (t *task) forget(repo string) {
	st := t.current(repo)
	if st == nil || len(st.manifests) > 0 || t.hasContent(repo) {
		return
	}
	if !t.on(keepC) {
		t.write(request{op: del, key: "c/" + repo + "!"})
		delete(t.catalog, repo)
	}
	if t.on(keepSnap) {
		return
	}
	a := t.do(request{op: list, key: "r/" + repo + "!/"})
	for _, e := range a.entries {
		if a.date-e.modified < grace {
			return
		}
	}
	if t.do(request{op: get, key: logKey(repo, st.n+1)}).code == notFound {
		for _, e := range a.entries {
			t.write(request{op: del, key: e.key})
		}
		t.repos[repo] = nil
	}
}
