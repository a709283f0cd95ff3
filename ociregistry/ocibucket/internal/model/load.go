package model

import "slices"

// current returns the repository's state, read to the end of the log.
func (t *task) current(repo string) *state {
	r := t.repo(repo)
	t.lock(r)
	defer func() { r.busy = false }()
	if r.state == nil || t.now-r.state.validated > grace/2 {
		return t.load(repo, r)
	}
	if !t.follow(repo, r.state) {
		return t.load(repo, r)
	}
	return r.state
}

// load reads the newest record, which says what else there is to be read.
func (t *task) load(repo string, r *repository) *state {
	for range 5 {
		if t.on(snapForget) {
			r.known = map[string]knownLink{}
		}
		r.state = t.tryLoad(repo)
		if r.state != nil {
			return r.state
		}
	}
	return nil
}

func (t *task) tryLoad(repo string) *state {
	l := t.do(request{op: list, key: "r/" + repo + "!/l/"})
	if l.code == none {
		return nil
	}
	last := 0
	if len(l.entries) > 0 {
		last = number(l.entries[len(l.entries)-1].key)
	}
	b := &backward{began: l.date, next: last}
	if last > 0 && !t.read(repo, b) {
		return nil
	}
	st := t.readSnapshot(repo, b.base)
	if st == nil || !t.readTo(repo, b, st.n) {
		if st = t.newestSnapshot(repo); st == nil || !t.readTo(repo, b, st.n) {
			return nil
		}
	}
	b.apply(st)
	st.validated = l.date
	if st.n > last && !t.follow(repo, st) {
		return nil
	}
	return st
}

// readSnapshot returns the state of a snapshot, or the empty one of number 0.
func (t *task) readSnapshot(repo string, number int) *state {
	if number == 0 {
		return newState()
	}
	g := t.do(request{op: get, key: snapshotKey(repo, number)})
	if g.code != ok {
		return nil
	}
	st := g.body.(*state).clone()
	st.recent = map[string]int{}
	st.base, st.carried = number, nil
	return st
}

func (t *task) newestSnapshot(repo string) *state {
	l := t.do(request{op: list, key: "r/" + repo + "!/s/"})
	switch {
	case l.code == none:
		return nil
	case len(l.entries) == 0:
		return newState()
	}
	return t.readSnapshot(repo, number(l.entries[0].key))
}

// A backward reader reads a log from its end.
type backward struct {
	began   int // the Date before anything was read
	next    int // the record to be read next
	base    int // the newest snapshot that is known by a record
	records []carried
}

// read reads the next record, and takes what it carries. It is false if the record is not there.
func (t *task) read(repo string, b *backward) bool {
	g := t.do(request{op: get, key: logKey(repo, b.next)})
	if g.code != ok || t.on(dateCheck) && g.date-b.began > grace/2 {
		return false
	}
	rec := g.body.(*record)
	b.base = max(b.base, rec.base)
	b.records = append(b.records, t.counts(rec, g.modified))
	for _, c := range slices.Backward(rec.carried) {
		b.records = append(b.records, c)
	}
	b.next -= len(rec.carried) + 1
	return true
}

// counts returns what a record says that was written at a time.
func (t *task) counts(rec *record, modified int) carried {
	if t.isVoid(rec.t0, modified) {
		return carried{nil, modified}
	}
	return carried{rec.ops, modified}
}

// readTo reads until it has all records after one.
func (t *task) readTo(repo string, b *backward, n int) bool {
	for b.next > n {
		if !t.read(repo, b) {
			return false
		}
	}
	return true
}

// apply applies those records that come after a state.
func (b *backward) apply(st *state) {
	n := b.next
	for _, c := range slices.Backward(b.records) {
		if n++; n > st.n {
			st.apply(n, c.ops)
			st.carry(c)
		}
	}
	st.cover(b.base)
}

// follow applies the records after a state. It is false if the state has to be loaded anew.
func (t *task) follow(repo string, st *state) bool {
	for {
		g := t.do(request{op: get, key: logKey(repo, st.n+1)})
		if g.code == none || t.on(dateCheck) && g.date-st.validated > grace/2 {
			return false
		}
		st.validated = g.date
		if g.code == notFound {
			return true
		}
		rec := g.body.(*record)
		c := t.counts(rec, g.modified)
		st.apply(st.n+1, c.ops)
		if !t.on(carriedVoid) {
			c.ops = rec.ops
		}
		st.carry(c)
		st.cover(rec.base)
	}
}
