package repostate

import (
	"math"
	"sort"

	"github.com/seed-40b21970/oci/ociregistry"
)

// A table is what a state was when somebody wrote it down: its manifests, what they name,
// and its tags. It is one text, which is used as it lies there: to find something is to
// search in the text, and no part of it is decoded before it is asked for. A table never
// changes. A State that begins with one has its changes beside it.
//
// Digests have numbers. Those of manifests come first; after them come those that manifests
// name, or have as their subject, and that are no manifests. Both are in order. Each has a
// record; see [record]. Tags have numbers, too, in their order.
type table struct {
	manifests keys
	others    keys
	ends      column // of the records
	records   string

	tagEnds  column // of the names of tags
	tagNames string
	targets  column // the numbers of the manifests that tags point at
	times    column // when tags were set, in nanoseconds since 1970: two numbers for each, the lower half first

	unread  column // the manifests of which nobody has read what they name
	partial column // indexes that name manifests which were not there

	strings []string // media types and artifact types, by number
}

// count returns how many digests have a number.
func (t *table) count() int { return t.manifests.len() + t.others.len() }

// find returns the number of a digest.
func (t *table) find(digest ociregistry.Digest) (i int, found bool) {
	var buf keyBuffer
	key, ok := appendKey(buf[:0], digest)
	if !ok {
		return 0, false
	}
	return t.findKey(key)
}

func (t *table) findKey(key []byte) (i int, found bool) {
	if i, found := t.manifests.find(key); found {
		return i, true
	}
	i, found = t.others.find(key)
	return t.manifests.len() + i, found
}

// findManifest returns the number of a manifest.
func (t *table) findManifest(digest ociregistry.Digest) (i int, found bool) {
	var buf keyBuffer
	key, ok := appendKey(buf[:0], digest)
	if !ok {
		return 0, false
	}
	return t.manifests.find(key)
}

// key returns the key of the digest with a number.
func (t *table) key(i int) string {
	if n := t.manifests.len(); i >= n {
		return t.others.at(i - n)
	}
	return t.manifests.at(i)
}

func (t *table) digest(i int) ociregistry.Digest { return digestOf(t.key(i)) }

// tag returns the name of the tag with a number. It is a part of the table.
func (t *table) tag(i int) string { return t.tagEnds.part(t.tagNames, i) }

// pushed returns the time at which the tag with a number was set.
func (t *table) pushed(i int) int64 {
	return int64(uint64(t.times.at(2*i)) | uint64(t.times.at(2*i+1))<<32)
}

// findTag returns the number of a tag, or that of the first one after its place.
func (t *table) findTag(name string) (i int, found bool) {
	return sort.Find(t.tagEnds.len(), func(i int) int {
		switch at := t.tag(i); {
		case name < at:
			return -1
		case name > at:
			return 1
		}
		return 0
	})
}

// A record is what a table says of a digest. What manifests say of it comes first: how many
// name it, as a blob and as a manifest, and how large they say it is; and which manifests
// have it as their subject. That of a manifest goes on with what is known of it.
//
// In the text, a record is a list of numbers, of which head says which are there:
//
//	head
//	named:    size+1, or 0 if the manifests disagree; blobs; manifests
//	subject:  how many referrers, and the number of each in 32 bits
//	and of a manifest:
//	          size, number of its media type
//	tagged:   how many tags
//	read:     number of its artifact type
//	refers:   number of its subject
//	names:    how many blobs, and how many manifests; each of them
//	tagged:   the number of each tag
//
// One that a manifest names is twice its number, if its size is the one above, or else that
// and one, and the size that this manifest says.
//
// Where a record is wrong, which a checksum cannot find if it was written so, the numbers
// that are read of it are 0, or those of something else.
type record struct {
	head             uint64
	size             int64 // as manifests say, or -1 if they disagree, or none names it
	blobs, manifests int
	referrers        column

	// Of manifests only.
	ownSize   int64
	mediaType string
	tags      int    // how many
	rest      cursor // the rest, but how many tags there are
}

// The bits of a record's head.
const (
	isNamed     = 1 << iota // manifests name it
	isSubject               // manifests have it as their subject
	isBlob                  // it is a blob, too
	isRead                  // it is known what it names
	isTagged                // tags point at it
	hasSubject              // it has a subject
	hasClaims               // it names something
	isImplicit              // only an index says that it is a manifest
	isParent                // it names something that is a manifest if it is there
	isTypeFound             // its media type is known from its content alone
	headLimit
)

// record returns the record of a digest.
func (t *table) record(i int) record {
	c := cursor{text: t.ends.part(t.records, i)}
	return t.readRecord(&c, i < t.manifests.len())
}

func (t *table) readRecord(c *cursor, isManifest bool) (r record) {
	r.size = -1
	r.head = uint64(c.below(headLimit))
	if r.head&isNamed != 0 {
		r.size = int64(c.uint() - 1)
		r.blobs, r.manifests = c.below(maxCount), c.below(maxCount)
	}
	if r.head&isSubject != 0 {
		r.referrers = c.numbers(c.uint())
	}
	if !isManifest {
		return r
	}
	r.ownSize = int64(c.uint())
	r.mediaType = t.strings[c.below(len(t.strings))]
	if r.head&isTagged != 0 {
		r.tags = c.below(len(c.text) - c.at) // each has a byte
	}
	r.rest = *c
	return r
}

// maxCount is more than how many of anything a table can have.
const maxCount = math.MaxInt32

// names are what a manifest names, one after another.
type names struct {
	cursor
	table     *table
	blobs     int // how many are left
	manifests int // which come after the blobs
}

// A name is a claim of a manifest, with the number of the digest.
type name struct {
	number  int
	size    int64 // only if it differs from that of the digest's record
	differs bool
	blob    bool
}

// next returns the next one, if there is one.
func (n *names) next() (next name, ok bool) {
	if n.blobs+n.manifests == 0 || n.failed {
		return name{}, false
	}
	if next.blob = n.blobs > 0; next.blob {
		n.blobs--
	} else {
		n.manifests--
	}
	twice := n.below(2 * n.table.count())
	next.number, next.differs = twice/2, twice%2 != 0
	if next.differs {
		next.size = int64(n.uint())
	}
	return next, !n.failed
}

// details are the rest of a manifest's record.
type details struct {
	artifactType string
	subject      int // its number, or -1
	names        names
}

func (t *table) details(r *record) (d details) {
	c := r.rest
	d.subject = -1
	if r.head&isRead == 0 {
		d.names.cursor = c
		return d
	}
	d.artifactType = t.strings[c.below(len(t.strings))]
	if r.head&hasSubject != 0 {
		d.subject = c.below(t.count())
	}
	d.names.table = t
	if r.head&hasClaims != 0 {
		d.names.blobs, d.names.manifests = c.below(maxCount), c.below(maxCount)
	}
	d.names.cursor = c
	return d
}

// tagNumbers returns the numbers of the tags of a manifest.
func (t *table) tagNumbers(manifest int) (tags []int) {
	r := t.record(manifest)
	d := t.details(&r)
	for _, ok := d.names.next(); ok; _, ok = d.names.next() {
	}
	for range r.tags {
		tag := d.names.below(t.targets.len())
		if d.names.failed || int(t.targets.at(tag)) != manifest {
			break
		}
		tags = append(tags, tag)
	}
	return tags
}

// claims returns what a manifest names. The digests are copies.
func (t *table) claims(r *record) (blobs, manifests []claim) {
	d := t.details(r)
	for n, ok := d.names.next(); ok; n, ok = d.names.next() {
		c := claim{t.digest(n.number), t.sizeOf(n)}
		if n.blob {
			blobs = append(blobs, c)
		} else {
			manifests = append(manifests, c)
		}
	}
	return blobs, manifests
}

// sizeOf returns the size that a manifest says of what it names.
func (t *table) sizeOf(n name) int64 {
	if n.differs {
		return n.size
	}
	return t.record(n.number).size
}
