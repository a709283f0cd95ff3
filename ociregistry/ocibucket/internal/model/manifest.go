package model

import "fmt"

// blobsOf says which blobs a manifest names.
var blobsOf = map[string][]string{"m0": {large}, "m1": {large, small}, "m2": {small}}

// A manifestObject has the bytes of a manifest: r/REPO!/m/NAME.
type manifestObject struct {
	fresh  string
	status status
}

func (m manifestObject) etag() string { return fmt.Sprint(m) }

func manifestKey(repo, name string) string { return "r/" + repo + "!/m/" + name }

// pushManifest pushes a manifest with tags. expected, if not empty, is the manifest that the
// first tag has.
func (t *task) pushManifest(repo, name string, tags []string, expected string) result {
	if t.current(repo) == nil || !t.catalogRepo(repo) {
		return failed
	}
	c := &change{operation: operation{kind: pushManifest, manifest: name, tags: tags, expected: expected}}
	c.check = func(st *state) result { return t.checkPush(repo, st, c.operation) }
	for range 4 {
		if r := t.knowBlobs(repo, name); r != done {
			if t.on(settled) && c.pending(t.repo(repo).state) {
				return failed
			}
			c.result = r
			t.answered(repo, c)
			return r
		}
		if r := t.append(repo, c); r != again {
			if r == done {
				t.unmark(repo)
			}
			return r
		}
		for _, digest := range blobsOf[name] {
			delete(t.repo(repo).known, digest)
		}
	}
	return failed
}

// knowBlobs makes sure that the links of the blobs that a manifest names were read.
func (t *task) knowBlobs(repo, name string) result {
	if t.options.sparse {
		return done
	}
	for _, digest := range blobsOf[name] {
		r := t.repo(repo)
		if _, known := r.known[digest]; known {
			continue
		}
		if r.state == nil {
			return failed
		}
		asOf := r.state.n
		l := t.getLink(repo, digest)
		if l.code == none {
			return failed
		}
		if !t.lives(l) {
			return unknown
		}
		if r.knowsDead(l.nonce) {
			if t.on(heal) {
				t.bury(repo, digest, l)
			}
			return unknown
		}
		r.known[digest] = knownLink{l.nonce, asOf}
	}
	return done
}

func (t *task) checkPush(repo string, st *state, o operation) result {
	if !st.allows(o, t.options.immutable) {
		return denied
	}
	if t.options.sparse {
		return done
	}
	r := t.repo(repo)
	for _, digest := range blobsOf[o.manifest] {
		k, known := r.known[digest]
		if _, deleted := st.dead[k.nonce]; deleted || !known && t.on(snapForget) || t.on(asOf) && st.recent[digest] > k.asOf {
			return again
		}
	}
	return done
}

// allows reports whether the condition of a push holds, and that it moves no tag that must not
// be moved.
func (st *state) allows(o operation, immutable bool) bool {
	if o.expected != "" && st.tags[o.tags[0]] != o.expected {
		return false
	}
	for _, tag := range o.tags {
		if m, there := st.tags[tag]; there && m != o.manifest && immutable {
			return false
		}
	}
	return true
}

func (t *task) deleteManifest(repo, name string) result {
	if t.current(repo) == nil {
		return failed
	}
	return t.remove(repo, operation{kind: deleteManifest, manifest: name}, func(st *state) result {
		if _, there := st.manifests[name]; !there {
			return unknown
		}
		return done
	})
}

func (t *task) deleteTag(repo, tag string) result {
	if t.current(repo) == nil {
		return failed
	}
	return t.append(repo, &change{operation: operation{kind: deleteTag, tags: []string{tag}}, check: func(st *state) result {
		if st.tags[tag] == "" {
			return unknown
		}
		return done
	}})
}

// keepManifest makes sure that a manifest's bytes are in an object of its own.
func (t *task) keepManifest(repo, name string) bool {
	key := manifestKey(repo, name)
	for range 4 {
		n := manifestObject{t.freshNonce(), live}
		w := t.write(request{op: putIfAbsent, key: key, body: n})
		if w.code != refused {
			return w.code == ok
		}
		g := t.do(request{op: get, key: key})
		m, _ := g.body.(manifestObject)
		switch {
		case g.code == none:
			return false
		case g.code == notFound:
			continue
		case m.status == live:
			return true
		}
		if t.write(request{op: putIfMatch, key: key, match: g.version, body: n}).code == ok {
			return true
		}
	}
	return false
}
