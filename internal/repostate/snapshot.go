package repostate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/parallel"
	"github.com/seed-40b21970/oci/ociregistry"
)

// A snapshot is the encoded form of a table. It begins with a header:
//
//	magic         8 bytes, which change when the format does
//	checksum      CRC-32C of what follows
//	sum           of the index.json that the snapshot was made for: see [IndexSum]
//	flags         1: index.json is foreign: see [State.IsForeign]
//	counts        of entries of index.json that are not understood, manifests by SHA-256 and SHA-512, other digests by SHA-256 and SHA-512,
//	              tags, unread manifests, partial indexes, strings
//	lengths       of the names of tags, the strings and the records, in bytes
//
// and goes on with the sections in the order of [sections]. All numbers are little-endian,
// and have 32 bits unless something else is said.
const (
	magic      = "OCIsnap2"
	headerSize = len(magic) + 4 + sumSize + 4 + 9*4 + 3*4

	unsummed = len(magic) + 4 // how many bytes the checksum is not of
)

// SnapshotHeader is how many bytes of a snapshot [SnapshotSum] must have.
const SnapshotHeader = headerSize

// ErrNoSnapshot is the error for a text that is no snapshot, or is one that is damaged or
// of another version.
var ErrNoSnapshot = errors.New("not a snapshot")

// SnapshotSum returns the sum of the index.json that a snapshot was made for, of which only
// the first [SnapshotHeader] bytes are looked at. It returns false for what is no snapshot.
func SnapshotSum(header string) (sum IndexSum, ok bool) {
	if len(header) < headerSize || header[:len(magic)] != magic {
		return IndexSum{}, false
	}
	return parseSum(header[len(magic)+4:][:sumSize]), true
}

// A Snapshot is what a state was, in an encoded form.
type Snapshot struct {
	Text  []byte // for [Open]
	State *State // what Open returns, together with what is known of files
}

// Snapshot returns a snapshot of the state, less what is pending. It is the one for the
// index.json with the given sum, which says what the state does. All of it was checked: who
// finds its checksum right need not do that again.
//
// Snapshot holds lock, for one who reads the state, for a part at a time. If the state is
// changed in between, the snapshot is of no use. The error says why there can be none.
func (s *State) Snapshot(sum IndexSum, lock sync.Locker) (*Snapshot, error) {
	lock.Lock()
	w := tableWriter{old: s.base.table}
	hidden := s.collectRows(&w, lock)
	w.gone = hidden.has
	s.collectTags(&w, lock)
	foreign, unknown := s.foreign, s.unknown
	lock.Unlock()
	text, err := w.write(sum, foreign, unknown)
	if err != nil {
		return nil, err
	}
	snap := &Snapshot{Text: text}
	if snap.State, err = Open(string(text)); err != nil {
		return nil, err
	}
	b := &snap.State.base
	if !b.isSound() {
		return nil, fmt.Errorf("%w: wrong records", ErrNoSnapshot)
	}
	b.stored = newBitSet(w.manifests)
	for i, id := range w.order[:w.manifests] {
		row := w.facts[id].row
		if row >= 0 && w.rows[row].stored || row < 0 && s.base.isStored(int(id)) {
			b.stored.add(i)
		}
	}
	snap.State.unsure -= b.stored.len()
	return snap, nil
}

// Continue takes from the state of which s is a snapshot what no snapshot has. Manifests
// that were read since must be read again.
func (s *State) Continue(old *State) {
	for digest := range old.obscure {
		if m := s.Manifest(digest); m != nil {
			s.SetObscure(m)
		}
	}
	s.sizes, s.timed = old.sizes, old.timed
}

// collectRows collects the manifests of which the table does not say what is known. It
// returns the numbers of those that it says something of which is wrong now.
func (s *State) collectRows(w *tableWriter, lock sync.Locker) (hidden bitSet) {
	hidden = newBitSet(len(s.base.rows))
	for i := range s.base.rows {
		if i%writeBatch == 0 {
			pause(lock)
		}
		m := s.base.rows[i].Load()
		if m == nil || m != gone && !m.changed {
			continue
		}
		hidden.add(i)
		if m != gone {
			w.rows = append(w.rows, s.rowOf(m))
		}
	}
	w.rows = slices.Grow(w.rows, len(s.manifests))
	n := 0
	for _, m := range s.manifests {
		if n++; n%writeBatch == 0 {
			pause(lock)
		}
		w.rows = append(w.rows, s.rowOf(m))
	}
	return hidden
}

func (s *State) rowOf(m *Manifest) row {
	r := row{digest: m.Digest, size: m.Size, mediaType: m.MediaType, blob: m.Blob, implicit: m.Implicit, typeFound: m.found, stored: m.Present()}
	if r.read = m.read; m.read {
		r.artifactType, r.subject, r.parent = m.ArtifactType, s.base.subjectOf(m), m.parent
		r.blobs, r.manifests = s.base.namesOf(m)
	}
	return r
}

// collectTags collects all tags, in order.
func (s *State) collectTags(w *tableWriter, lock sync.Locker) {
	w.tags = make([]tagRow, 0, len(s.tags)+s.base.tagEnds.len())
	var tags []someTag
	for after := ""; ; after = tags[len(tags)-1].name {
		pause(lock)
		tags = s.someTags(tags[:0], after, writeBatch)
		if len(tags) == 0 {
			return
		}
		for _, t := range tags {
			row := tagRow{name: t.name, target: -1}
			if t.number < 0 {
				row.digest, row.pushed = s.tags[t.name].manifest.Digest, s.tags[t.name].pushed
			} else {
				row.target, row.pushed = int(s.base.targets.at(t.number)), s.base.pushed(t.number)
			}
			w.tags = append(w.tags, row)
		}
	}
}

// Open returns the state that a snapshot has, of which it keeps the text. If that is not a
// whole snapshot, the error is [ErrNoSnapshot].
//
// What the state says of manifests is what they say, and index.json. Whether they are stored
// is unknown, as after [State.ParseIndex]. Manifests that nobody could read are unread.
func Open(snapshot string) (*State, error) { return open(snapshot, checksum(snapshot)) }

// A SnapshotText collects the text of a snapshot as it comes from a file, and looks at its
// bytes while the processor has them near. It is an [io.Writer] whose Write never fails. The
// zero SnapshotText is empty.
type SnapshotText struct {
	text strings.Builder
	sum  uint32
}

// Grow makes room for n more bytes.
func (t *SnapshotText) Grow(n int) { t.text.Grow(n) }

// Write adds a part of the text.
func (t *SnapshotText) Write(part []byte) (int, error) {
	skip := min(len(part), max(0, unsummed-t.text.Len()))
	t.sum = crc32.Update(t.sum, castagnoli, part[skip:])
	return t.text.Write(part)
}

// Open is [Open] of the text.
func (t *SnapshotText) Open() (*State, error) { return open(t.text.String(), t.sum) }

// open returns the state of a snapshot whose text has the given checksum.
func open(snapshot string, sum uint32) (*State, error) {
	t, foreign, unknown, err := parseTable(snapshot, sum)
	if err != nil {
		return nil, err
	}
	s := New()
	s.base.use(t)
	s.foreign, s.unknown, s.timed = foreign, unknown, true
	s.unsure = len(s.base.rows)
	return s, nil
}

// Partial returns the indexes that name manifests which were not there when the table was
// written that the state began with. They may have come since.
func (s *State) Partial() []*Manifest {
	if s.base.whole {
		return nil
	}
	var partial []*Manifest
	for i := range s.base.partial.len() {
		if m := s.base.row(int(s.base.partial.at(i))); m != nil {
			partial = append(partial, m)
		}
	}
	return partial
}

// MayBeStored reports whether there may be more manifests than the state has: indexes which
// [State.Partial] returns name the digest.
func (s *State) MayBeStored(digest ociregistry.Digest) bool {
	return !s.base.whole && s.base.partial.len() > 0 && s.IsNamedAsManifest(digest) && s.Manifest(digest) == nil
}

// SetWhole notes that what the indexes name that [State.Partial] returns was looked for.
func (s *State) SetWhole() { s.base.whole = true }

// sections are the lengths of a snapshot's sections, in their order.
type sections struct {
	manifests256, manifests512, others256, others512, ends uint64
	tagEnds, targets, times, tagNames, records             uint64
	unread, partial, stringEnds, strings                   uint64
}

func parseSections(header string) (s sections, foreign bool, unknown int) {
	words := column(header[len(magic)+4+sumSize:])
	at := func(i int) uint64 { return uint64(words.at(i)) }
	s.manifests256, s.manifests512 = size256*at(2), size512*at(3)
	s.others256, s.others512 = size256*at(4), size512*at(5)
	s.ends = 4 * (at(2) + at(3) + at(4) + at(5))
	s.tagEnds, s.targets, s.times = 4*at(6), 4*at(6), 8*at(6)
	s.unread, s.partial, s.stringEnds = 4*at(7), 4*at(8), 4*at(9)
	s.tagNames, s.strings, s.records = at(10), at(11), at(12)
	return s, at(0)&1 != 0, int(at(1))
}

// parseTable returns the table that a snapshot has, whose text has the given checksum. It
// keeps the text. If that is not a whole snapshot, the error is [ErrNoSnapshot]. parseTable does not look at digests and records,
// which are most of it: who wrote them has checked them, and those which are wrong can be
// used without harm.
func parseTable(text string, sum uint32) (t *table, foreign bool, unknown int, err error) {
	if len(text) < headerSize || text[:len(magic)] != magic {
		return nil, false, 0, ErrNoSnapshot
	}
	if sum != column(text[len(magic):unsummed]).at(0) {
		return nil, false, 0, fmt.Errorf("%w: wrong checksum", ErrNoSnapshot)
	}
	s, foreign, unknown := parseSections(text[:headerSize])
	rest, ok := text[headerSize:], true
	cut := func(length uint64) (section string) {
		if length > uint64(len(rest)) {
			rest, ok = "", false
			return ""
		}
		section, rest = rest[:length], rest[length:]
		return section
	}
	t = new(table)
	t.manifests = keys{cut(s.manifests256), cut(s.manifests512)}
	t.others = keys{cut(s.others256), cut(s.others512)}
	t.ends = column(cut(s.ends))
	t.tagEnds, t.targets, t.times = column(cut(s.tagEnds)), column(cut(s.targets)), column(cut(s.times))
	t.tagNames = cut(s.tagNames)
	t.records = cut(s.records)
	t.unread, t.partial = column(cut(s.unread)), column(cut(s.partial))
	stringEnds := column(cut(s.stringEnds))
	strings := cut(s.strings)
	if !ok || rest != "" || !stringEnds.divides(len(strings)) {
		return nil, false, 0, fmt.Errorf("%w: wrong lengths", ErrNoSnapshot)
	}
	for i := range stringEnds.len() {
		t.strings = append(t.strings, manifest.OwnMediaType(stringEnds.part(strings, i)))
	}
	if !t.hasSoundColumns() {
		return nil, false, 0, fmt.Errorf("%w: wrong numbers", ErrNoSnapshot)
	}
	return t, foreign, unknown, nil
}

// checksum returns the checksum of the text of a snapshot.
func checksum(text string) uint32 {
	const part = 64 << 10 // in memory that the processor has near
	var buf [part]byte
	sum := uint32(0)
	for text = text[min(len(text), unsummed):]; text != ""; {
		n := copy(buf[:], text)
		sum = crc32.Update(sum, castagnoli, buf[:n])
		text = text[n:]
	}
	return sum
}

// hasSoundColumns reports whether each number that is not in a record stands for something,
// and tags are in order.
func (t *table) hasSoundColumns() bool {
	n := t.manifests.len()
	return t.ends.divides(len(t.records)) && t.tagEnds.divides(len(t.tagNames)) && t.tagsAscend() &&
		t.targets.below(n) && t.unread.ascends(n) && t.partial.ascends(n) && len(t.strings) > 0
}

// isSound reports whether digests are in order, each number in a record stands for something,
// and records agree with the columns.
func (t *table) isSound() bool {
	return t.manifests.ascends() && t.others.ascends() && t.hasSoundRecords()
}

// checkedPart is how many records a processor checks before it takes others.
const checkedPart = 4096

// hasSoundRecords is isSound for the records, which are most of a table.
func (t *table) hasSoundRecords() bool {
	n := t.count()
	var tags, unread atomic.Int64
	err := parallel.Do(runtime.GOMAXPROCS(0), (n+checkedPart-1)/checkedPart, func(part int) error {
		tagsHere, unreadHere := 0, 0
		for i := part * checkedPart; i < min((part+1)*checkedPart, n); i++ {
			r, ok := t.soundRecord(i)
			isUnread := i < t.manifests.len() && r.head&isRead == 0
			if !ok || isUnread && !t.unread.has(i) {
				return ErrNoSnapshot
			}
			tagsHere += r.tags
			if isUnread {
				unreadHere++
			}
		}
		tags.Add(int64(tagsHere))
		unread.Add(int64(unreadHere))
		return nil
	})
	return err == nil && tags.Load() == int64(t.targets.len()) && unread.Load() == int64(t.unread.len())
}

func (t *table) tagsAscend() bool {
	last := ""
	for i := range t.tagEnds.len() {
		name := t.tag(i)
		if name <= last {
			return false
		}
		last = name
	}
	return true
}

// soundRecord returns a record, and whether each number in it stands for something.
func (t *table) soundRecord(i int) (r record, ok bool) {
	c := cursor{text: t.ends.part(t.records, i)}
	isManifest := i < t.manifests.len()
	r = t.readRecord(&c, isManifest)
	if c.failed || !r.referrers.ascends(t.manifests.len()) || !isManifest && r.head&^(isNamed|isSubject) != 0 {
		return r, false
	}
	if !isManifest {
		return r, c.done()
	}
	d := t.details(&r)
	for _, ok := d.names.next(); ok; _, ok = d.names.next() {
	}
	rest := &d.names.cursor
	last := -1
	for range r.tags {
		tag := rest.below(t.targets.len())
		if rest.failed || tag <= last || t.targets.at(tag) != uint32(i) {
			return r, false
		}
		last = tag
	}
	return r, !rest.failed && rest.done() && d.names.blobs+d.names.manifests == 0
}

// appendColumn appends numbers to the text of a column.
func appendColumn[N int | int32 | uint32](dst []byte, numbers ...N) []byte {
	for _, n := range numbers {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(n))
	}
	return dst
}

// errTooLarge is the error for a state of which there can be no snapshot.
var errTooLarge = fmt.Errorf("a section of the snapshot would have more than %d bytes", uint32(math.MaxUint32))
