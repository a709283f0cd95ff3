package repostate

import (
	"math/bits"
	"sync/atomic"

	"github.com/seed-40b21970/oci/ociregistry"
)

// base is the table that a state began with, and what the state still has of it. A manifest
// of the table that nobody has asked for is not in memory but as a part of the text. That
// of a state which began with nothing has an empty table.
type base struct {
	*table
	whole      bool                       // what its partial indexes name was looked for
	rows       []atomic.Pointer[Manifest] // by number: nil for one that nobody has asked for
	rowsLeft   int                        // how many of them are not gone
	unreadLeft int                        // how many of those that the table lists as unread still are
	stored     bitSet                     // the manifests of the table that are known to be stored
}

// gone is in base.rows for a manifest that was removed, or replaced by another Manifest.
var gone = new(Manifest)

func (b *base) use(t *table) {
	b.table = t
	b.rows = make([]atomic.Pointer[Manifest], t.manifests.len())
	b.rowsLeft = len(b.rows)
	b.unreadLeft = t.unread.len()
}

// row returns a manifest of the table, or nil if it is gone.
func (b *base) row(i int) *Manifest {
	p := &b.rows[i]
	m := p.Load()
	if m == nil {
		m = &Manifest{Digest: b.digest(i)}
		b.fill(m, i)
		if !p.CompareAndSwap(nil, m) { // for another reader
			m = p.Load()
		}
	}
	if m == gone {
		return nil
	}
	return m
}

// peek returns a manifest of the table as row does. If nobody has asked for it, it is
// written into spare, without its digest, for one who is done with it before the lock is
// given back.
func (b *base) peek(i int, spare *Manifest) *Manifest {
	switch m := b.rows[i].Load(); m {
	case nil:
		*spare = Manifest{}
		b.fill(spare, i)
		return spare
	case gone:
		return nil
	default:
		return m
	}
}

// fill writes into m what the table says of a manifest, but its digest.
func (b *base) fill(m *Manifest, i int) {
	r := b.record(i)
	m.MediaType, m.Size = r.mediaType, r.ownSize
	m.Blob, m.Implicit, m.found = r.head&isBlob != 0, r.head&isImplicit != 0, r.head&isTypeFound != 0
	m.read, m.parent = r.head&isRead != 0, r.head&isParent != 0
	m.inTable, m.number, m.tableTags = true, int32(i), int32(r.tags)
	m.tableRead, m.tableUnread = m.read, !m.read
	if m.read {
		m.ArtifactType = b.details(&r).artifactType
	}
	if b.stored.has(i) {
		m.present.Store(true)
	} else {
		m.unsure = true
	}
}

func (b *base) isGone(i int) bool { return b.rows[i].Load() == gone }

// isStored reports whether a manifest of the table that is not gone is known to be stored.
func (b *base) isStored(i int) bool {
	switch m := b.rows[i].Load(); m {
	case nil:
		return b.stored.has(i)
	case gone:
		return false
	default:
		return m.Present()
	}
}

// drop removes a manifest of the table.
func (b *base) drop(m *Manifest) {
	b.rows[m.number].Store(gone)
	b.rowsLeft--
}

// bitSet is a set of small numbers.
type bitSet []uint64

func newBitSet(n int) bitSet { return make(bitSet, (n+63)/64) }

func (s bitSet) has(i int) bool { return i/64 < len(s) && s[i/64]&(1<<(i%64)) != 0 }
func (s bitSet) add(i int)      { s[i/64] |= 1 << (i % 64) }

func (s bitSet) len() (n int) {
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return n
}

// tableTagsOf returns the numbers of the tags which the table says point at m.
func (b *base) tableTagsOf(m *Manifest) []int {
	if !m.inTable || m.tableTags == 0 {
		return nil
	}
	return b.tagNumbers(int(m.number))
}

// namesOf returns what m names.
func (b *base) namesOf(m *Manifest) (blobs, manifests []claim) {
	if m.tableRead {
		r := b.record(int(m.number))
		return b.claims(&r)
	}
	return m.blobs, m.manifests
}

// subjectOf returns the subject of m, or "".
func (b *base) subjectOf(m *Manifest) ociregistry.Digest {
	if !m.tableRead {
		return m.subject
	}
	r := b.record(int(m.number))
	if i := b.details(&r).subject; i >= 0 {
		return b.digest(i)
	}
	return ""
}
