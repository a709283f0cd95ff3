package repostate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/seed-40b21970/oci/ociregistry"
)

// A tableWriter writes a new table: one that it begins with, less the manifests that are gone
// and with others instead, and with new tags. It has an id for each digest, which is its
// number in the old table, or follows those.
type tableWriter struct {
	old  *table
	gone func(number int) bool // for manifests of old
	rows []row                 // further manifests
	tags []tagRow              // all tags, in order

	ids     map[ociregistry.Digest]int32 // of digests that are not in old
	keyEnds []uint32                     // of the keys of those
	keyText []byte
	facts   []fact  // by id
	sizes   []int64 // by number, as the records of old say
	refs    []int32 // what rows name, by id

	// The new table, by its numbers.
	order     []int32 // their ids
	manifests int     // how many of them are manifests
	tagged    lists   // the tags of each
	referrers lists
	strings   map[string]uint64
	names     []string // the strings in order
	unread    []uint32
	partial   []uint32
}

// row is a manifest that is not in the old table, or is another there.
type row struct {
	digest                  ociregistry.Digest
	size                    int64
	mediaType, artifactType string
	subject                 ociregistry.Digest
	blobs, manifests        []claim
	blob, implicit          bool
	read, parent, typeFound bool
	stored                  bool // not a part of the table

	id       int32
	firstRef int // of its part of refs: -1 stands for a digest that is not valid
}

// tagRow is a tag and the manifest that it points at: a number of the old table, or, if that
// is -1, a digest.
type tagRow struct {
	name   string
	target int
	digest ociregistry.Digest
	pushed int64 // when it was set
}

// fact is what is known of an id.
type fact struct {
	size             int64 // as manifests say, or -1 if they disagree
	blobs, manifests uint32
	number           int32 // in the new table
	row              int32 // of rows, or -1
	subject          int32 // the id of its own subject, or -1
	manifest         bool
	isSubject        bool // manifests have it as theirs
}

func (f *fact) isUsed() bool { return f.manifest || f.isSubject || f.blobs+f.manifests > 0 }

// write returns the snapshot. Manifests whose digest is not valid make it fail.
func (w *tableWriter) write(sum IndexSum, foreign bool, unknown int) ([]byte, error) {
	w.ids = make(map[ociregistry.Digest]int32)
	w.facts = make([]fact, w.old.count(), w.old.count()+2*len(w.rows))
	for i := range w.facts {
		w.facts[i].row, w.facts[i].subject = -1, -1
	}
	if !w.countRows() {
		return nil, errTooLarge
	}
	w.countOld()
	for i := range w.tags {
		t := &w.tags[i]
		if t.target < 0 {
			t.target = int(w.id(t.digest))
		}
		if t.target < 0 || !w.facts[t.target].manifest {
			return nil, errDangling
		}
	}
	w.number()
	w.group()
	return w.encode(sum, foreign, unknown)
}

// errDangling is the error for tags that point at no manifest: the state has changed since
// the tags were collected.
var errDangling = errors.New("a tag points at no manifest")

// id returns the id of a digest, or -1 for one that is not valid: nothing asks for it.
func (w *tableWriter) id(digest ociregistry.Digest) int32 {
	var buf keyBuffer
	key, ok := appendKey(buf[:0], digest)
	if !ok {
		return -1
	}
	if w.old.count() > 0 {
		if i, found := w.old.findKey(key); found {
			return int32(i)
		}
	}
	id, found := w.ids[digest]
	if !found {
		id = int32(len(w.facts))
		w.ids[digest] = id
		w.keyText = append(w.keyText, key...)
		w.keyEnds = append(w.keyEnds, uint32(len(w.keyText)))
		w.facts = append(w.facts, fact{row: -1, subject: -1})
	}
	return id
}

// appendKey appends the key of an id.
func (w *tableWriter) appendKey(dst []byte, id int32) []byte {
	i := int(id) - w.old.count()
	switch {
	case i < 0:
		return append(dst, w.old.key(int(id))...)
	case i == 0:
		return append(dst, w.keyText[:w.keyEnds[0]]...)
	}
	return append(dst, w.keyText[w.keyEnds[i-1]:w.keyEnds[i]]...)
}

// countRows counts what the rows name. It returns false if one has a digest that is not valid.
func (w *tableWriter) countRows() bool {
	for i := range w.rows {
		r := &w.rows[i]
		if r.id = w.id(r.digest); r.id < 0 {
			return false
		}
		w.facts[r.id].manifest, w.facts[r.id].row = true, int32(i)
		if r.subject != "" {
			w.setSubject(r.id, w.id(r.subject))
		}
		r.firstRef = len(w.refs)
		for _, c := range r.blobs {
			w.countRef(c, true)
		}
		for _, c := range r.manifests {
			w.countRef(c, false)
		}
	}
	return true
}

func (w *tableWriter) setSubject(id, subject int32) {
	if w.facts[id].subject = subject; subject >= 0 {
		w.facts[subject].isSubject = true
	}
}

func (w *tableWriter) countRef(c claim, blob bool) {
	id := w.id(c.digest)
	w.refs = append(w.refs, id)
	if id >= 0 {
		w.facts[id].count(c.size, blob)
	}
}

func (f *fact) count(size int64, blob bool) {
	if f.blobs+f.manifests == 0 {
		f.size = size
	} else if f.size != size {
		f.size = -1
	}
	if blob {
		f.blobs++
	} else {
		f.manifests++
	}
}

// countOld counts what the manifests of the old table name that are still there.
func (w *tableWriter) countOld() {
	w.sizes = make([]int64, w.old.count())
	for i := range w.sizes {
		w.sizes[i] = w.old.record(i).size
	}
	for i := range w.old.manifests.len() {
		if w.gone(i) {
			continue
		}
		w.facts[i].manifest = true
		r := w.old.record(i)
		d := w.old.details(&r)
		w.setSubject(int32(i), int32(d.subject))
		for n, ok := d.names.next(); ok; n, ok = d.names.next() {
			w.facts[n.number].count(w.size(n), n.blob)
		}
	}
}

// size returns what a manifest of the old table says.
func (w *tableWriter) size(n name) int64 {
	if n.differs {
		return n.size
	}
	return w.sizes[n.number]
}

// number gives new numbers to all digests that have to be in the table.
func (w *tableWriter) number() {
	n := w.old.manifests.len()
	manifests := func(id int32) bool { return w.facts[id].manifest }
	others := func(id int32) bool { return !w.facts[id].manifest && w.facts[id].isUsed() }
	w.order = make([]int32, 0, len(w.facts))
	w.appendOrder(0, n, manifests)
	w.manifests = len(w.order)
	w.appendOrder(n, w.old.count(), others)
	for i, id := range w.order {
		w.facts[id].number = int32(i)
	}
}

// appendOrder appends to w.order, in the order of their digests, the ids for which choose
// reports true. Those from start to end are in order.
func (w *tableWriter) appendOrder(start, end int, choose func(id int32) bool) {
	var sorted, rest []int32
	for id := range int32(len(w.facts)) {
		switch {
		case !choose(id):
		case start <= int(id) && int(id) < end:
			sorted = append(sorted, id)
		default:
			rest = append(rest, id)
		}
	}
	w.sort(rest)
	for _, id := range sorted {
		for len(rest) > 0 && w.compare(rest[0], id) < 0 {
			w.order, rest = append(w.order, rest[0]), rest[1:]
		}
		w.order = append(w.order, id)
	}
	w.order = append(w.order, rest...)
}

// sort sorts ids by their digests.
func (w *tableWriter) sort(ids []int32) {
	type keyed struct {
		long  bool
		start uint64 // of its key, which decides almost always
		id    int32
	}
	all := make([]keyed, len(ids))
	var buf keyBuffer
	for i, id := range ids {
		key := w.appendKey(buf[:0], id)
		all[i] = keyed{len(key) == size512, binary.BigEndian.Uint64(key), id}
	}
	slices.SortFunc(all, func(a, b keyed) int {
		switch {
		case a.long != b.long:
			return w.compare(a.id, b.id)
		case a.start < b.start:
			return -1
		case a.start > b.start:
			return 1
		}
		return w.compare(a.id, b.id)
	})
	for i := range all {
		ids[i] = all[i].id
	}
}

// compare compares the digests of two ids.
func (w *tableWriter) compare(a, b int32) int {
	var bufA, bufB keyBuffer
	keyA, keyB := w.appendKey(bufA[:0], a), w.appendKey(bufB[:0], b)
	if len(keyA) != len(keyB) {
		return len(keyA) - len(keyB)
	}
	return bytes.Compare(keyA, keyB)
}

// group finds the tags and the referrers of all.
func (w *tableWriter) group() {
	w.tagged = newLists(w.manifests, func(yield func(of, n uint32)) {
		for i := range w.tags {
			yield(w.target(&w.tags[i]), uint32(i))
		}
	})
	w.referrers = newLists(len(w.order), func(yield func(of, n uint32)) {
		for i, id := range w.order[:w.manifests] {
			if subject := w.facts[id].subject; subject >= 0 {
				yield(uint32(w.facts[subject].number), uint32(i))
			}
		}
	})
}

// target returns the new number of a tag's manifest.
func (w *tableWriter) target(t *tagRow) uint32 { return uint32(w.facts[t.target].number) }

// lists are a list of numbers for each of some numbers.
type lists struct{ ends, all []uint32 }

// newLists calls all twice, which yields the elements of n lists, each with the number of its
// list.
func newLists(n int, all func(yield func(of, element uint32))) lists {
	l := lists{ends: make([]uint32, n+1)}
	all(func(of, _ uint32) { l.ends[of+1]++ })
	for i := range n {
		l.ends[i+1] += l.ends[i]
	}
	// Until all are there, each end is where the next element goes.
	l.all = make([]uint32, l.ends[n])
	ends := l.ends[:n]
	all(func(of, element uint32) {
		l.all[ends[of]] = element
		ends[of]++
	})
	return l
}

func (l *lists) of(i int) []uint32 {
	start := uint32(0)
	if i > 0 {
		start = l.ends[i-1]
	}
	return l.all[start:l.ends[i]]
}
