package model

import "strings"

// Digests. The content of small is so small that links have it.
const (
	large = "X"
	small = "Y"
)

var digests = []string{large, small}

// catalogRepo makes sure that a repository is in the catalog before it has content. A new name is
// marked to be looked at, because the content may never come.
func (t *task) catalogRepo(repo string) bool {
	if t.catalog[repo] {
		return true
	}
	if t.on(eFirst) {
		g := t.do(request{op: get, key: "c/" + repo + "!"})
		if g.code == none || g.code == notFound && !t.markNew(repo) {
			return false
		}
		if g.code == ok {
			t.catalog[repo] = true
			return true
		}
	}
	if t.write(request{op: put, key: "c/" + repo + "!", body: text("")}).code != ok {
		return false
	}
	t.catalog[repo] = true
	if !t.on(eOwn) {
		t.unmark(repo)
	}
	return true
}

// mark says that somebody should look whether a repository is empty. It returns the key of what says that.
func (t *task) mark(repo string) (key string, ok2 bool) {
	key = "e/" + repo + "!" + t.nonce("e")
	return key, t.write(request{op: put, key: key, body: text("")}).code == ok
}

func (t *task) markNew(repo string) bool {
	key, marked := t.mark(repo)
	if marked {
		t.marked[repo] = append(t.marked[repo], key)
	}
	return marked
}

// unmark removes the marks of a name that was new. What does not arrive stays until a collection.
func (t *task) unmark(repo string) {
	marks := t.marked[repo]
	delete(t.marked, repo)
	for _, key := range marks {
		t.write(request{op: del, key: key})
	}
}

// reference writes a reference. The Date seen before is the link's T0.
func (t *task) reference(repo, digest, nonce string) (t0 int, ok2 bool) {
	t0 = t.seen
	if !t.on(noncedRefs) {
		nonce = ""
	}
	return t0, t.write(request{op: put, key: refKey(digest, repo, nonce), body: text("")}).code == ok
}

// protect reports whether data can be used, once there is a reference to its digest.
func (t *task) protect(digest, data string) bool {
	for range 4 {
		g := t.do(request{op: get, key: markerKey(digest, data)})
		m, _ := g.body.(marker)
		if g.code != ok || !t.markerLives(m, g.modified) {
			return false
		}
		if m.status == live {
			return true
		}
		n := marker{t.freshNonce(), live, rewrite}
		if t.write(request{op: putIfMatch, key: markerKey(digest, data), match: g.version, body: n}).code == ok {
			return true
		}
	}
	return false
}

// pushBlob pushes a blob in one request.
func (t *task) pushBlob(repo, digest string) result {
	for range 4 {
		if !t.catalogRepo(repo) {
			return failed
		}
		nonce := t.nonce("v")
		l := link{nonce: nonce, ref: nonce, status: live}
		var r result
		if digest == small {
			g := t.getLink(repo, digest) // whose Date is T0
			if g.code == none {
				return failed
			}
			l.t0 = t.seen
			r = t.putLink(repo, digest, l)
		} else {
			r = t.pushLarge(repo, digest, l)
		}
		if r != tooLate {
			return r
		}
	}
	return failed
}

// pushLarge uses data that is there, or uploads it.
func (t *task) pushLarge(repo, digest string, l link) result {
	a := t.do(request{op: list, key: "b/" + digest + "/d/"})
	if a.code == none {
		return failed
	}
	if len(a.entries) > 0 {
		data := strings.TrimPrefix(a.entries[0].key, "b/"+digest+"/d/")
		t0, wrote := t.reference(repo, digest, l.ref)
		if !wrote {
			return failed
		}
		if !t.on(markers) || t.protect(digest, data) {
			l.data, l.t0 = data, t0
			return t.putLink(repo, digest, l)
		}
	}
	l.nonce = t.nonce("v")
	l.ref, l.data, l.t0 = l.nonce, t.nonce("R"), t.seen
	if t.write(request{op: put, key: dataKey(l.data), body: text("bytes")}).code != ok {
		return failed
	}
	w := t.write(request{op: putIfAbsent, key: markerKey(digest, l.data), body: marker{t.freshNonce(), live, l.t0}})
	if w.code != ok {
		return failed
	}
	if t.mayBeVoid(l.t0, w.date) {
		return tooLate
	}
	if _, wrote := t.reference(repo, digest, l.ref); !wrote {
		return failed
	}
	return t.putLink(repo, digest, l)
}

// mount makes a link to what another repository has.
func (t *task) mount(from, to, digest string) result {
	for range 3 {
		l := t.getLink(from, digest)
		if l.code == none {
			return failed
		}
		if !t.lives(l) {
			return unknown
		}
		if !t.catalogRepo(to) {
			return failed
		}
		nonce := t.nonce("v")
		n := link{nonce: nonce, ref: nonce, data: l.data, status: live, t0: t.seen}
		if digest == large {
			t0, wrote := t.reference(to, digest, n.ref)
			if !wrote {
				return failed
			}
			n.t0 = t0
			if t.on(markers) && !t.protect(digest, l.data) {
				continue
			}
		}
		if r := t.putLink(to, digest, n); r != tooLate {
			return r
		}
	}
	return failed
}

// head promises that a blob is there.
func (t *task) head(repo, digest string) result {
	for range 4 {
		l := t.getLink(repo, digest)
		switch {
		case l.code == none:
			return failed
		case !t.lives(l):
			return unknown
		case l.status == condemned && t.on(condemn) && !t.revive(repo, digest, l):
			continue
		}
		t.linked = t.now
		return done
	}
	return failed
}

// redirect returns until when a URL of a blob's data is valid.
func (t *task) redirect(repo, digest string) (data string, until int) {
	l := t.getLink(repo, digest)
	if !t.lives(l) || l.data == "" {
		return "", 0
	}
	valid := urlValid
	if !t.on(urlShort) {
		valid = 3 * grace
	}
	if t.rnd.IntN(2) == 0 {
		t.nap(t.rnd.IntN(2 * grace)) // before it is signed
	}
	if t.on(urlDate) {
		return l.data, l.date + valid
	}
	return l.data, t.now + valid
}

// mayEmpty returns a check of a delete: it asks for a mark if the repository may be empty after it.
func (t *task) mayEmpty(o operation, marked *bool) func(*state) bool {
	return func(st *state) bool {
		if *marked || !t.on(eDelete) {
			return false
		}
		left := len(st.manifests)
		if _, there := st.manifests[o.manifest]; there && o.kind == deleteManifest {
			left--
		}
		return left == 0
	}
}

// remove appends a delete, with a mark before it where that is needed.
func (t *task) remove(repo string, o operation, check func(*state) result) result {
	marked, date, first := false, 0, true
	mayEmpty := t.mayEmpty(o, &marked)
	c := &change{operation: o, t0: func() int { return date }}
	c.check = func(st *state) result {
		if r := check(st); r != done {
			return r
		}
		if (first || t.on(eRecheck)) && mayEmpty(st) {
			return again
		}
		first = false
		return done
	}
	for range 5 {
		if r := t.append(repo, c); r != again {
			return r
		}
		date = t.seen
		if _, wrote := t.mark(repo); !wrote {
			return failed
		}
		marked, first = true, true
	}
	return failed
}

// deleteBlob deletes a blob for a client.
func (t *task) deleteBlob(repo, digest string) result {
	for attempt := range 6 {
		l := t.getLink(repo, digest)
		if l.code == none {
			return failed
		}
		if !t.lives(l) {
			if attempt > 0 {
				return done
			}
			return unknown
		}
		if r := t.deleteLink(repo, digest, l, false); r != again {
			return r
		}
	}
	return failed
}

// deleteLink deletes a link as it was read. It returns again if the link has changed meanwhile.
// In a sparse registry, clients delete also what manifests name, and a collection does not.
func (t *task) deleteLink(repo, digest string, l readLink, collection bool) result {
	if t.current(repo) == nil {
		return failed
	}
	o := operation{kind: deleteBlob, digest: digest, nonce: l.nonce}
	r := t.remove(repo, o, func(st *state) result {
		if st.names(digest) && (collection || !t.options.sparse) {
			return inUse
		}
		return done
	})
	if r != done {
		return r
	}
	delete(t.repo(repo).known, digest)
	switch w := t.bury(repo, digest, l); w.code {
	case none:
		return failed
	case ok:
		ref := l.ref
		if !t.on(noncedRefs) {
			ref = ""
		}
		t.write(request{op: del, key: refKey(digest, repo, ref)})
		return done
	}
	return again
}
