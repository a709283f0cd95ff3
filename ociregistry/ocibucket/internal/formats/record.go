package formats

import (
	"time"

	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ociregistry"
)

// A Record has the operations that one append to a repository's log made, and carries what was before
// it: who reads it need not read all the others.
type Record struct {
	T0   time.Time
	Text string // the operations, for DecodeOperations

	Base    uint64    // the number of the newest snapshot that is known; 0 if there is none
	Carried []Carried // the last records before it, in order
}

// Carried is what an earlier record says.
type Carried struct {
	Modified time.Time
	Text     string // the operations, for DecodeOperations; of a void record, ""
}

// An Operation is a change of a repository: of its manifests and tags, or the delete of a link.
type Operation struct {
	ID string // of the call that made it, in all its attempts

	Op *repostate.Op // nil for the delete of a link

	// Collected: a collection removes a manifest together with what only it keeps, the delay of which does
	// not begin anew.
	Collected bool

	Digest ociregistry.Digest // of the link
	Nonce  string             // of the link
}

const recordKind = "R1"

// The kinds of operations.
const (
	deleteOfLink = iota
	plainOp
	collectedOp
)

func opKind(collected bool) byte {
	if collected {
		return collectedOp
	}
	return plainOp
}

// MaxRecord is the maximum size of a record's encoded form, in bytes.
const MaxRecord = 64 << 20

// Encode returns a new encoded form of the record.
func (r *Record) Encode() []byte {
	e := newEncoder(recordKind)
	e.time(r.T0)
	e.string(r.Text)
	e.uint(r.Base)
	e.uint(uint64(len(r.Carried)))
	for _, c := range r.Carried {
		e.time(c.Modified)
		e.string(c.Text)
	}
	return e.text
}

// DecodeRecord returns the record that an encoded form has. Its strings are parts of the text.
func DecodeRecord(text string) (Record, error) {
	d := decode(recordKind, text)
	r := Record{T0: d.time(), Text: d.string(), Base: d.uint()}
	for n := d.count(); n > 0 && !d.failed; n-- {
		r.Carried = append(r.Carried, Carried{Modified: d.time(), Text: d.string()})
	}
	return r, d.end("record")
}

// EncodeOperations returns the encoded form of operations, which has no nonce.
func EncodeOperations(operations []Operation) string {
	e := &encoder{}
	for i := range operations {
		o := &operations[i]
		e.raw(o.ID)
		if o.Op != nil {
			e.byte(opKind(o.Collected))
			e.string(string(repostate.AppendOps(nil, []repostate.Op{*o.Op})))
			continue
		}
		e.byte(deleteOfLink)
		e.string(string(o.Digest))
		e.raw(o.Nonce)
	}
	return string(e.text)
}

// DecodeOperations returns the operations that an encoded form has. Their strings are parts of the text.
func DecodeOperations(text string) (operations []Operation, err error) {
	d := &decoder{text: text}
	for d.text != "" && !d.failed {
		o := Operation{ID: d.raw(nonceSize)}
		kind := d.byte()
		if o.Collected = kind == collectedOp; kind == deleteOfLink {
			o.Digest, o.Nonce = d.digest(), d.raw(nonceSize)
		} else if ops, err := repostate.ParseOps(d.string()); err == nil && len(ops) == 1 && kind <= collectedOp {
			o.Op = &ops[0]
		} else {
			d.failed = true
		}
		operations = append(operations, o)
	}
	return operations, d.end("list of operations")
}

// A Snapshot is the state of a repository after a record.
type Snapshot struct {
	Number uint64
	Dead   []DeadLink

	// ManifestTimes and TagTimes have, in seconds since 1970, when the manifests, in byte order of
	// their digests, became what nothing keeps, and when the tags, in byte order, were set.
	ManifestTimes, TagTimes []int64

	State string // the text of a repostate.Snapshot
}

// A DeadLink is a link whose delete is recorded, until it was seen dead.
type DeadLink struct {
	Nonce  string
	Digest ociregistry.Digest
}

const snapshotKind = "S1"

// MaxSnapshot is the maximum size of a snapshot's encoded form, in bytes.
const MaxSnapshot = 4 << 30

// Encode returns a new encoded form of the snapshot.
func (s *Snapshot) Encode() []byte {
	e := newEncoder(snapshotKind)
	e.uint(s.Number)
	e.uint(uint64(len(s.Dead)))
	for _, link := range s.Dead {
		e.raw(link.Nonce)
		e.string(string(link.Digest))
	}
	for _, times := range [][]int64{s.ManifestTimes, s.TagTimes} {
		e.uint(uint64(len(times)))
		for _, t := range times {
			e.uint(uint64(max(t, 0)))
		}
	}
	e.raw(s.State)
	return e.text
}

// DecodeSnapshot returns the snapshot that an encoded form has. Its strings are parts of the text.
func DecodeSnapshot(text string) (Snapshot, error) {
	d := decode(snapshotKind, text)
	s := Snapshot{Number: d.uint()}
	for n := d.count(); n > 0 && !d.failed; n-- {
		s.Dead = append(s.Dead, DeadLink{d.raw(nonceSize), d.digest()})
	}
	for _, times := range []*[]int64{&s.ManifestTimes, &s.TagTimes} {
		*times = make([]int64, d.count())
		for i := range *times {
			(*times)[i] = d.size()
		}
	}
	s.State = d.rest()
	return s, d.end("snapshot")
}
