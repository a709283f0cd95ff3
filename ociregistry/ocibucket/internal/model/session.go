package model

import "fmt"

// chunks is how many chunks a session takes at most. It can be committed when it has one.
const chunks = 2

const (
	open      status = "open"
	finishing status = "committing"
)

// A session is an upload session: u/ID/s.
type session struct {
	fresh   string
	status  status
	data    string // the name of the data to be
	upload  string
	claimed int // the highest number of a part that somebody may send
	parts   []partRef
	nonce   string // of the link
	t0      int    // of what its commit writes
	digest  string
}

func (s session) etag() string { return fmt.Sprint(s) }

func sessionKey(id string) string { return "u/" + id + "/s" }

func (t *task) getSession(id string) (session, answer) {
	a := t.do(request{op: get, key: sessionKey(id)})
	s, _ := a.body.(session)
	return s, a
}

func (t *task) openSession(id string) result {
	s := session{fresh: t.freshNonce(), status: open, data: t.nonce("R"), upload: t.nonce("U")}
	if t.write(request{op: create, key: dataKey(s.data), upload: s.upload}).code != ok {
		return failed
	}
	if t.write(request{op: putIfAbsent, key: sessionKey(id), body: s}).code != ok {
		return failed
	}
	return done
}

// patch sends the chunk at an offset.
func (t *task) patch(id string, offset int, chunk string) result {
	s, a := t.getSession(id)
	if a.code == none {
		return failed
	}
	if a.code == notFound || s.status == gone {
		return unknown
	}
	if s.status == finishing {
		return denied // it can only be committed
	}
	if len(s.parts) != offset {
		return denied // ErrRangeInvalid
	}
	etag, number := a.version, offset+1
	if t.on(claims) {
		s.claimed++
		s.fresh = t.freshNonce()
		number = s.claimed
		w := t.write(request{op: putIfMatch, key: sessionKey(id), match: etag, body: s})
		if w.code != ok {
			return failed
		}
		etag = s.etag()
	}
	if t.write(request{op: part, upload: s.upload, number: number, body: text(chunk)}).code != ok {
		return failed
	}
	s.parts = append(s.parts[:len(s.parts):len(s.parts)], partRef{number, chunk})
	s.fresh = t.freshNonce()
	if t.write(request{op: putIfMatch, key: sessionKey(id), match: etag, body: s}).code != ok {
		return failed
	}
	t.accepted(id, len(s.parts))
	return done
}

// commit makes a blob of a session, or finishes what another process began.
func (t *task) commit(repo, id, digest string) result {
	for range 4 {
		s, a := t.getSession(id)
		switch {
		case a.code == none:
			return failed
		case a.code == notFound, s.status == gone:
			return unknown
		case len(s.parts) == 0:
			return denied
		}
		if !t.catalogRepo(repo) {
			return failed
		}
		etag := a.version
		if s.status == open {
			s.status, s.digest, s.nonce, s.t0, s.fresh = finishing, digest, t.nonce("v"), a.date, t.freshNonce()
			if t.on(committing) {
				w := t.write(request{op: putIfMatch, key: sessionKey(id), match: etag, body: s})
				if w.code == refused {
					continue
				}
				if w.code != ok {
					return failed
				}
				etag = s.etag()
			}
		}
		r := t.finishSession(repo, s)
		if r == done || r == unknown {
			s.status, s.fresh = gone, t.freshNonce()
			t.write(request{op: putIfMatch, key: sessionKey(id), match: etag, body: s})
		}
		switch r {
		case tooLate: // nothing that it wrote counts
			return failed
		case done:
			t.committed(id, len(s.parts))
		}
		return r
	}
	return failed
}

// finishSession writes what a commit writes, as the session says it.
func (t *task) finishSession(repo string, s session) result {
	w := t.write(request{op: complete, key: dataKey(s.data), upload: s.upload, parts: s.parts})
	if w.code == notFound || w.code == refused {
		w = t.do(request{op: get, key: dataKey(s.data)})
	}
	switch w.code {
	case none, invalidPart:
		return failed
	case notFound:
		return unknown // it was too old
	}
	w = t.write(request{op: putIfAbsent, key: markerKey(s.digest, s.data), body: marker{t.freshNonce(), live, s.t0}})
	if w.code == refused && t.protect(s.digest, s.data) {
		w.code = ok
	}
	switch {
	case w.code == none:
		return failed
	case w.code == refused, t.mayBeVoid(s.t0, w.date):
		return unknown
	}
	ref := s.nonce
	if !t.on(noncedRefs) {
		ref = ""
	}
	if t.write(request{op: put, key: refKey(s.digest, repo, ref), body: text("")}).code != ok {
		return failed
	}
	return t.putLink(repo, s.digest, link{nonce: s.nonce, ref: s.nonce, data: s.data, status: live, t0: s.t0})
}
