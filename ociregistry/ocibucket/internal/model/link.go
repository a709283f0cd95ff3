package model

import (
	"fmt"
	"strings"
)

type status string

const (
	live      status = "live"
	condemned status = "condemned" // of links and manifests' objects
	dead      status = "dead"      // of links and manifests' objects
	doomed    status = "doomed"    // of markers
	gone      status = "gone"      // of markers and sessions
)

// rewrite is the T0 of an object that replaces a valid one.
const rewrite = -1

// A link says that a repository has a blob: r/REPO!/b/DIGEST.
type link struct {
	fresh  string // of each write
	nonce  string // which a delete names
	ref    string // the reference's nonce
	data   string // the data's name, or none if the content is inline
	status status
	t0     int
}

func (l link) etag() string { return fmt.Sprint(l) }

// A marker says that the bytes of a digest are at d/NAME: b/DIGEST/d/NAME.
type marker struct {
	fresh  string
	status status
	t0     int
}

func (m marker) etag() string { return fmt.Sprint(m) }

func linkKey(repo, digest string) string       { return "r/" + repo + "!/b/" + digest }
func markerKey(digest, data string) string     { return "b/" + digest + "/d/" + data }
func refKey(digest, repo, nonce string) string { return "b/" + digest + "/r/" + repo + "!" + nonce }
func dataKey(data string) string               { return "d/" + data }

// cutRef returns the repository and the nonce of a reference's key.
func cutRef(digest, key string) (repo, nonce string) {
	repo, nonce, _ = strings.Cut(strings.TrimPrefix(key, "b/"+digest+"/r/"), "!")
	return repo, nonce
}

// freshNonce returns the nonce that each body under a condition has.
func (s *sim) freshNonce() string {
	if !s.on(fresh) {
		return ""
	}
	return s.nonce("f")
}

// isVoid reports whether something that landed at modified came too late to count.
func (s *sim) isVoid(t0, modified int) bool {
	return s.on(void) && t0 != rewrite && modified-t0 > grace/2
}

// mayBeVoid is isVoid as the writer knows it, by the Date of the answer.
func (s *sim) mayBeVoid(t0, date int) bool {
	if s.on(slack) {
		date += tolerate
	}
	return s.isVoid(t0, date)
}

func (s *sim) linkLives(l link, modified int) bool {
	return l.status != dead && !s.isVoid(l.t0, modified)
}

func (s *sim) markerLives(m marker, modified int) bool {
	return m.status != gone && !s.isVoid(m.t0, modified)
}

// A readLink is a link as it was read.
type readLink struct {
	link
	answer
}

func (t *task) getLink(repo, digest string) readLink {
	a := t.do(request{op: get, key: linkKey(repo, digest)})
	l, _ := a.body.(link)
	return readLink{l, a}
}

func (t *task) lives(l readLink) bool { return l.code == ok && t.linkLives(l.link, l.modified) }

// write makes a write again while its answer is unclear, and settles it by what is there.
func (t *task) write(r request) answer {
	for attempt := range 3 {
		a := t.do(r)
		if a.code == refused && attempt > 0 && r.body != nil {
			if g := t.do(request{op: get, key: r.key}); g.code == ok && g.version == r.body.etag() {
				return g
			}
		}
		if a.code != none {
			return a
		}
	}
	return answer{}
}

// revive makes a condemned link live again, under a new nonce.
func (t *task) revive(repo, digest string, l readLink) bool {
	n := l.link
	n.status, n.nonce, n.t0, n.fresh = live, t.nonce("v"), rewrite, t.freshNonce()
	return t.write(request{op: putIfMatch, key: linkKey(repo, digest), match: l.version, body: n}).code == ok
}

// bury makes a link dead.
func (t *task) bury(repo, digest string, l readLink) answer {
	if !t.on(deadLinks) {
		return t.write(request{op: del, key: linkKey(repo, digest)})
	}
	n := l.link
	n.status, n.t0, n.fresh = dead, rewrite, t.freshNonce()
	return t.write(request{op: putIfMatch, key: linkKey(repo, digest), match: l.version, body: n})
}

// putLink makes a link be there: l, or a live one that is there already. It returns
// tooLate if l landed too late to count.
func (t *task) putLink(repo, digest string, l link) result {
	r := t.tryLink(repo, digest, l)
	t.linked = t.now
	if r == done {
		t.unmark(repo)
	}
	return r
}

func (t *task) tryLink(repo, digest string, l link) result {
	key := linkKey(repo, digest)
	for range 6 {
		l.fresh = t.freshNonce()
		w := t.write(request{op: putIfAbsent, key: key, body: l})
		if w.code == refused {
			there := t.getLink(repo, digest)
			if there.code == none {
				return failed
			}
			if there.code == notFound {
				continue
			}
			if t.lives(there) && !t.repo(repo).knowsDead(there.nonce) {
				if there.status == condemned && t.on(condemn) && !t.revive(repo, digest, there) {
					continue
				}
				return done
			}
			if there.nonce == l.nonce && there.status == dead {
				// It was there, and is deleted or collected since.
				if t.on(ownDead) {
					return tooLate
				}
				return done
			}
			w = t.write(request{op: putIfMatch, key: key, match: there.version, body: l})
			if w.code == refused {
				continue
			}
		}
		if w.code != ok {
			return failed
		}
		if t.mayBeVoid(l.t0, w.date) {
			return tooLate
		}
		return done
	}
	return failed
}

// A result is what a call returns.
type result string

const (
	done    result = "done"
	failed  result = "failed" // unclear: it may have happened, or happen later
	unknown result = "unknown"
	inUse   result = "in use"
	denied  result = "denied" // by an immutable tag or a condition
	tooLate result = "too late"
	again   result = "again"
)
