package model

import (
	"fmt"
	"maps"
	"slices"
)

// A record has the operations that one append made, and carries those of the records before it.
type record struct {
	fresh   string
	ops     []operation
	t0      int
	base    int       // the newest snapshot that its writer knew, or 0
	carried []carried // the last records before it, in order
}

// Carried is what an earlier record says: nothing if it is void.
type carried struct {
	ops      []operation
	modified int
}

func (r *record) etag() string { return fmt.Sprint(*r) }

type opKind string

const (
	pushManifest   opKind = "push manifest"
	deleteManifest opKind = "delete manifest"
	deleteTag      opKind = "delete tag"
	deleteBlob     opKind = "delete blob"
)

type operation struct {
	id       string
	kind     opKind
	manifest string
	tags     []string
	expected string // the manifest that the first tag has to have, or none
	digest   string
	nonce    string // of the link that is deleted
}

// A state is what a log says of a repository up to a record.
type state struct {
	n         int
	manifests map[string]int      // the record that has its bytes, or 0 for an object of its own
	tags      map[string]string   // manifests by tag
	dead      map[string]deadLink // by nonce
	ids       map[string]bool     // of operations
	validated int                 // the Date when this was the end of the log
	recent    map[string]int      // the last record that deleted a digest, since the state was loaded

	// What the next record carries.
	base    int // the newest snapshot that is known
	carried []carried
}

type deadLink struct{ digest string }

func newState() *state {
	return &state{manifests: map[string]int{}, tags: map[string]string{}, dead: map[string]deadLink{}, ids: map[string]bool{}, recent: map[string]int{}}
}

func (st *state) clone() *state {
	c := *st
	c.manifests, c.tags, c.dead = maps.Clone(st.manifests), maps.Clone(st.tags), maps.Clone(st.dead)
	c.ids, c.recent = maps.Clone(st.ids), maps.Clone(st.recent)
	return &c
}

func (st *state) etag() string { return fmt.Sprintf("snapshot %d %p", st.n, st) }

func (st *state) apply(n int, ops []operation) {
	for _, o := range ops {
		st.ids[o.id] = true
		switch o.kind {
		case pushManifest:
			if _, there := st.manifests[o.manifest]; !there {
				st.manifests[o.manifest] = n
			}
			for _, tag := range o.tags {
				st.tags[tag] = o.manifest
			}
		case deleteManifest:
			delete(st.manifests, o.manifest)
			maps.DeleteFunc(st.tags, func(_, m string) bool { return m == o.manifest })
		case deleteTag:
			delete(st.tags, o.tags[0])
		case deleteBlob:
			st.dead[o.nonce] = deadLink{o.digest}
			st.recent[o.digest] = n
		}
	}
	st.n = n
}

// maxCarried is how many records the next one carries. Then it begins anew.
const maxCarried = 2

// carry makes the next record carry the last one, and what that carries.
func (st *state) carry(c carried) {
	st.carried = append(st.carried[:len(st.carried):len(st.carried)], c)
	if len(st.carried) > maxCarried {
		st.carried = nil
	}
}

// cover notes that there is a snapshot.
func (st *state) cover(snapshot int) {
	if snapshot <= st.base {
		return
	}
	st.base = snapshot
	after := max(st.n, snapshot) - snapshot
	st.carried = st.carried[max(0, len(st.carried)-after):]
}

// names reports whether a manifest names a blob.
func (st *state) names(digest string) bool {
	for m := range st.manifests {
		if slices.Contains(blobsOf[m], digest) {
			return true
		}
	}
	return false
}

func logKey(repo string, n int) string      { return fmt.Sprintf("r/%s!/l/%04d", repo, n) }
func snapshotKey(repo string, n int) string { return fmt.Sprintf("r/%s!/s/%04d", repo, 9999-n) }

// number returns the number in the key of a record or a snapshot.
func number(key string) (n int) {
	fmt.Sscanf(key[len(key)-4:], "%d", &n)
	if key[len(key)-6] == 's' {
		n = 9999 - n
	}
	return n
}

// A repository is what a process knows of one.
type repository struct {
	state *state // nil if it is not known
	known map[string]knownLink
	busy  bool // a task reads on, or appends
	queue []*change
}

// A knownLink was read when the state was at record asOf.
type knownLink struct {
	nonce string
	asOf  int
}

func (p *process) repo(name string) *repository {
	r := p.repos[name]
	if r == nil {
		r = &repository{known: map[string]knownLink{}}
		p.repos[name] = r
	}
	return r
}

// knowsDead reports whether the delete of a link is known to be recorded.
func (r *repository) knowsDead(nonce string) bool {
	if r.state == nil {
		return false
	}
	_, is := r.state.dead[nonce]
	return is
}

// lock waits until no other task of the process reads on in the repository.
func (t *task) lock(r *repository) {
	for r.busy {
		t.do(request{op: wait, until: func() bool { return !r.busy }})
	}
	r.busy = true
}

// A change is an operation that waits for the next record.
type change struct {
	operation
	check  func(*state) result // done if the operation may be applied to the state
	t0     func() int          // nil, or an upper bound of the record's T0 if it is not zero
	tried  int                 // the record of the last unclear append
	result result              // empty until it is known
}

// pending reports whether an append of the change may still land after a state.
func (c *change) pending(st *state) bool { return c.tried > 0 && (st == nil || c.tried > st.n) }

// append makes a record of a change, together with the others that wait.
func (t *task) append(repo string, c *change) result {
	if c.id == "" || !t.on(settled) {
		c.id, c.tried = t.nonce("op"), 0
	}
	// Who appends a batch goes through it again after this change has its result, and the
	// caller may come back with the change meanwhile.
	queued := *c
	queued.result = ""
	r := t.repo(repo)
	r.queue = append(r.queue, &queued)
	for queued.result == "" {
		if r.busy {
			t.do(request{op: wait, until: func() bool { return queued.result != "" || !r.busy }})
			continue
		}
		r.busy = true
		batch := r.queue
		r.queue = nil
		t.appendAll(repo, r, batch)
		r.busy = false
	}
	c.result, c.tried = queued.result, queued.tried
	if c.result != again || !t.on(settled) {
		t.answered(repo, c)
	}
	return c.result
}

// appendAll makes one record of several changes.
func (t *task) appendAll(repo string, r *repository, batch []*change) {
	for range 8 {
		if r.state == nil && t.load(repo, r) == nil {
			break
		}
		rec := t.checkAll(r.state, batch)
		if len(rec.ops) == 0 {
			break
		}
		n := r.state.n + 1
		w := t.do(request{op: putIfAbsent, key: logKey(repo, n), body: rec})
		if w.code == ok && !(t.on(dateCheck) && t.mayBeVoid(rec.t0, w.date)) {
			r.state.apply(n, rec.ops)
			r.state.carry(carried{rec.ops, w.date})
			r.state.validated = w.date
			finish(batch, done)
			return
		}
		if w.code == none {
			for _, c := range batch {
				c.tried = n
			}
		}
		// Somebody else was first, or it is unclear, or void: the log says.
		if w.code == ok || !t.follow(repo, r.state) {
			t.load(repo, r)
		}
	}
	finish(batch, failed)
}

// checkAll returns a record of those changes that may be applied, in their order.
func (t *task) checkAll(st *state, batch []*change) *record {
	rec := &record{fresh: t.freshNonce(), t0: st.validated, base: st.base, carried: st.carried}
	before := st
	for _, c := range batch {
		if c.result != "" {
			continue
		}
		if t.on(opIDs) && st.ids[c.id] {
			c.result = done
			continue
		}
		if e := c.check(before); e != done {
			if e != again && t.on(settled) && c.pending(st) {
				e = failed
			}
			c.result = e
			continue
		}
		rec.ops = append(rec.ops, c.operation)
		if c.t0 != nil && c.t0() > 0 && t.on(eDate) {
			rec.t0 = min(rec.t0, c.t0())
		}
		if t.on(groupCheck) {
			before = before.clone()
			before.apply(st.n+1, []operation{c.operation})
		}
	}
	return rec
}

func finish(batch []*change, r result) {
	for _, c := range batch {
		if c.result == "" {
			c.result = r
		}
	}
}
