package repos

import (
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/internal/rules"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
)

// A State is what a log says of a repository up to a record. The repository's lock guards it.
type State struct {
	*repostate.State
	number uint64
	bytes  int64 // of all manifests

	dead    map[string]ociregistry.Digest // by nonce: links whose delete is recorded, until they were seen dead
	recent  map[ociregistry.Digest]uint64 // the last record that deleted a digest, since the state was loaded
	pending map[ociregistry.Digest]text   // manifests whose bytes are in the log alone

	// In seconds since 1970.
	manifestTimes map[ociregistry.Digest]int64 // when it was pushed, or lost what kept it
	tagTimes      map[string]int64             // when it was set

	deadBefore int       // how many links were dead when the state was loaded
	emptied    uint64    // the last record after which there was no manifest
	last       []applied // the last records, in order
	validated  time.Time // the Date when this was the end of the log
	checked    time.Time // the same, by the clock of the process
	appended   bool      // by this process

	// The newest snapshot that is known, and the records since.
	snapshot uint64            // its number
	covered  int64             // its bytes, or those of one before it
	records  []formats.Carried // in order
	tail     int64             // their bytes

	// What the next record carries.
	part     int   // the records from this one on
	partSize int64 // their bytes
	whole    bool  // or all records
}

// maxDead is how many links may be dead, and twice as many as there were, before a process loads a state anew that does not
// write the snapshots itself.
const maxDead = 1 << 14

// text is the text of a manifest, and the record that has it.
type text struct {
	number uint64
	text   string
}

// applied is a record that was applied, and the calls that made it.
type applied struct {
	number uint64
	ids    []string
}

const lastRecords = 64

func newState() *State {
	return &State{
		State: repostate.New(),
		dead:  map[string]ociregistry.Digest{}, recent: map[ociregistry.Digest]uint64{}, pending: map[ociregistry.Digest]text{},
		manifestTimes: map[ociregistry.Digest]int64{}, tagTimes: map[string]int64{},
	}
}

// Count returns the number of manifests.
func (s *State) Count() int { return len(s.manifestTimes) }

// Bytes returns the bytes of all manifests.
func (s *State) Bytes() int64 { return s.bytes }

// EachDead calls f with the digests of links whose delete is recorded, until they were seen dead.
func (s *State) EachDead(f func(digest ociregistry.Digest)) {
	for _, digest := range s.dead {
		f(digest)
	}
}

// EachManifest calls f with the digests of all manifests, their sizes in bytes and their subjects, in no
// order.
func (s *State) EachManifest(f func(digest ociregistry.Digest, size int64, subject ociregistry.Digest)) {
	s.Each(new(sync.Mutex), func(m *repostate.Manifest, subject ociregistry.Digest) {
		f(ociregistry.Digest(strings.Clone(string(m.Digest))), m.Size, subject)
	})
}

// IsTagged reports whether a manifest stays whatever its age, by a tag. What an index keeps, or a subject, goes with it.
func (s *State) IsTagged(m *repostate.Manifest) bool {
	for _, tag := range s.TagsOf(m) {
		if _, _, about := rules.Subject(tag); !about {
			return true
		}
	}
	return false
}

// ManifestTime returns from when the delay of a manifest counts, in seconds since 1970.
func (s *State) ManifestTime(digest ociregistry.Digest) int64 { return s.manifestTimes[digest] }

// TagTime returns when a tag was set, in seconds since 1970.
func (s *State) TagTime(tag string) int64 { return s.tagTimes[tag] }

// Number returns the number of the last record.
func (s *State) Number() uint64 { return s.number }

// Text returns the text of a manifest that is in the log.
func (s *State) Text(digest ociregistry.Digest) (string, bool) {
	p, ok := s.pending[digest]
	return p.text, ok
}

// apply applies the record after the last one. What is void has no operations.
func (s *State) apply(operations []formats.Operation, modified time.Time) {
	s.number++
	a := applied{number: s.number}
	for i := range operations {
		o := &operations[i]
		a.ids = append(a.ids, strings.Clone(o.ID))
		if o.Op == nil {
			digest := ociregistry.Digest(strings.Clone(string(o.Digest))) // not a part of the record
			s.dead[strings.Clone(o.Nonce)] = digest
			s.recent[digest] = s.number
			continue
		}
		s.applyOp(o, modified.Unix())
	}
	if len(s.last) == lastRecords {
		s.last = slices.Delete(s.last, 0, 1)
	}
	s.last = append(s.last, a)
}

// carry makes the next record carry the last one, and what that carries, until this is more than max bytes. Then the next
// record carries all since the snapshot, unless that is more than maxWhole bytes, and those after it begin anew. So who
// reads the log from its end reads the newest record and that one.
func (s *State) carry(last *record, max, maxWhole int64) {
	size := int64(len(last.text))
	s.records, s.tail = append(s.records, formats.Carried{Modified: last.modified, Text: last.text}), s.tail+size
	s.partSize += size
	if s.whole {
		s.beginPart()
	}
	if s.partSize <= max {
		return
	}
	if s.whole = s.tail <= maxWhole; !s.whole {
		s.beginPart()
	}
}

func (s *State) beginPart() { s.part, s.partSize, s.whole = len(s.records), 0, false }

// carried returns what the next record carries.
func (s *State) carried() []formats.Carried {
	if s.whole {
		return s.records
	}
	return s.records[s.part:]
}

// cover notes that there is a snapshot, and reports whether that is news. What it covers need not be carried.
func (s *State) cover(snapshot uint64) bool {
	if snapshot <= s.snapshot {
		return false
	}
	s.snapshot = snapshot
	after := int(max(s.number, snapshot) - snapshot) // records that it does not cover
	covered := max(len(s.records)-after, 0)
	for i := range covered {
		size := int64(len(s.records[i].Text))
		s.tail -= size
		if i >= s.part {
			s.partSize -= size
		}
	}
	s.records, s.part = slices.Clone(s.records[covered:]), max(s.part-covered, 0) // others read the old slice
	return true
}

// made reports whether a record has the operations of a call, and whether that is known.
func (s *State) made(number uint64, id string) (made, known bool) {
	for _, a := range s.last {
		if a.number == number {
			return slices.Contains(a.ids, id), true
		}
	}
	return false, false
}

// applyOp applies an operation. The text of a manifest is kept here, not in the
// repostate.State.
func (s *State) applyOp(operation *formats.Operation, now int64) {
	switch o := operation.Op; o.Kind {
	case repostate.PutManifest:
		s.putManifest(*o, now)
	case repostate.DeleteTags:
		for _, tag := range o.Tags {
			s.orphanTarget(tag, now)
			delete(s.tagTimes, tag)
		}
		s.Apply(o)
	case repostate.DeleteManifest:
		if !operation.Collected {
			s.orphan(o.Digest, now)
		}
		s.deleteManifest(o)
	}
}

func (s *State) putManifest(o repostate.Op, now int64) {
	content := o.Text
	if content != "" {
		info, err := manifest.Parse(o.MediaType, o.Text)
		if err != nil {
			info = manifest.Info{} // it was checked by who pushed it
		}
		o.Info, o.Text = &info, ""
	}
	for _, tag := range o.Tags {
		if m := s.Tag(tag); m == nil || m.Digest != o.Digest {
			s.orphanTarget(tag, now)
		}
		if _, there := s.tagTimes[tag]; !there {
			tag = strings.Clone(tag)
		}
		s.tagTimes[tag] = now
	}
	if m := s.Manifest(o.Digest); m != nil {
		s.bytes -= m.Size
	}
	s.Apply(&o)
	s.bytes += s.Manifest(o.Digest).Size
	digest := s.Manifest(o.Digest).Digest // which is no part of the record
	if _, there := s.manifestTimes[digest]; !there && content != "" {
		s.pending[digest] = text{s.number, content}
	}
	s.manifestTimes[digest] = now
}

// orphan makes the delay of those count from now that a manifest kept which is deleted.
func (s *State) orphan(digest ociregistry.Digest, now int64) {
	s.EachName(digest, func(digest ociregistry.Digest) { s.touch(digest, now) })
	for _, referrer := range s.AppendReferrers(nil, digest, "", math.MaxInt) {
		s.touch(ociregistry.Digest(referrer), now)
	}
	for _, tag := range rules.TagsAbout(digest) {
		s.orphanTarget(tag, now)
	}
}

func (s *State) deleteManifest(o *repostate.Op) {
	m := s.Manifest(o.Digest)
	if m == nil {
		return
	}
	for _, tag := range s.TagsOf(m) {
		delete(s.tagTimes, tag)
	}
	s.bytes -= m.Size
	s.Apply(o)
	s.ClearPending() // which is empty; it forgets what it takes for a file
	delete(s.manifestTimes, o.Digest)
	delete(s.pending, o.Digest)
	if len(s.manifestTimes) == 0 {
		s.emptied = s.number
	}
}

// orphanTarget makes the delay of a tag's manifest count from now.
func (s *State) orphanTarget(tag string, now int64) {
	if m := s.Tag(tag); m != nil {
		s.touch(m.Digest, now)
	}
}

// touch makes the delay of a manifest count from now, if there is one.
func (s *State) touch(digest ociregistry.Digest, now int64) {
	if _, there := s.manifestTimes[digest]; there {
		s.manifestTimes[digest] = now
	}
}
