// Package tally adds up the bytes of repositories, of those that somebody has asked for. What this process
// changes it learns as that happens; what is in doubt somebody has to look at.
package tally

import (
	"maps"
	"strings"
	"sync"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
)

// A Tally has the bytes of repositories. It is safe for concurrent use.
type Tally struct {
	mu       sync.Mutex
	asked    map[string]bool // the prefixes that were asked for
	repos    map[string]*repository
	below    map[string]int64 // the bytes of a repository and all below it, if there are any
	underWay map[place]*steps
	doubts   map[string]*Doubt
}

// A repository is one that was counted, or is being counted.
type repository struct {
	counting bool

	number    uint64 // of the record after which there were manifests of so many bytes
	manifests int64

	blobs map[formats.LinkID]int64 // their sizes
	bytes int64                    // of these
	links formats.LinkID           // the exclusive or of them
}

// A place is where a link is.
type place struct {
	repo string
	link formats.LinkID
}

// steps are those that are under way at a place.
type steps struct {
	n       int
	overlap bool // nobody knows which of them was the last one
}

// A Doubt says what is not known of a repository.
type Doubt struct {
	All       bool // it was not counted
	Manifests bool // its log may be longer
	Blobs     map[ociregistry.Digest]bool
}

// New returns an empty Tally.
func New() *Tally {
	t := &Tally{underWay: map[place]*steps{}}
	t.Reset()
	return t
}

// Reset forgets all that was counted.
func (t *Tally) Reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked, t.repos, t.below, t.doubts = map[string]bool{}, map[string]*repository{}, map[string]int64{}, map[string]*Doubt{}
}

// Below returns the bytes of a repository and of all below it, as far as they are known.
func (t *Tally) Below(prefix string) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.below[prefix]
}

// Ask makes the Tally add up a repository and all below it.
func (t *Tally) Ask(prefix string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked[prefix] = true
}

// IsAsked reports whether a repository is added up.
func (t *Tally) IsAsked(repo string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.isAsked(repo)
}

func (t *Tally) isAsked(repo string) (asked bool) {
	if len(t.asked) > 0 {
		eachPrefix(repo, func(prefix string) { asked = asked || t.asked[prefix] })
	}
	return asked
}

// IsCounted reports whether a repository was counted.
func (t *Tally) IsCounted(repo string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.repos[repo]
	return r != nil && !r.counting
}

// eachPrefix calls f with a repository and with all above it.
func eachPrefix(repo string, f func(prefix string)) {
	for end := len(repo); end > 0; end = max(strings.LastIndexByte(repo[:end], '/'), 0) {
		f(repo[:end])
	}
	f("")
}

func (t *Tally) add(repo string, n int64) {
	eachPrefix(repo, func(prefix string) {
		if t.below[prefix] += n; t.below[prefix] == 0 {
			delete(t.below, prefix)
		}
	})
}

// Manifests tells how many bytes the manifests of a repository have after a record.
func (t *Tally) Manifests(repo string, number uint64, bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch r := t.repos[repo]; {
	case r == nil && number > 0 && t.isAsked(repo):
		t.doubt(repo).All = true
	case r == nil || number < r.number: // of a name that nobody has used, or late
	default:
		t.add(repo, bytes-r.manifests)
		r.number, r.manifests = number, bytes
	}
}

// StartCount notes that a repository is being counted. What changes from now on is in doubt.
func (t *Tally) StartCount(repo string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.repos[repo] == nil {
		t.repos[repo] = &repository{}
	}
	t.repos[repo].counting = true
}

// EndCount tells the blobs that a repository was found to have.
func (t *Tally) EndCount(repo string, blobs map[formats.LinkID]int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.repos[repo]
	before := r.bytes
	r.counting, r.blobs, r.bytes, r.links = false, blobs, 0, formats.LinkID{}
	for link, size := range blobs {
		r.bytes += size
		r.links = r.links.Xor(link)
	}
	t.add(repo, r.bytes-before)
}

// Found tells what somebody has found, as of the given record. If it is something else here, it is in doubt.
func (t *Tally) Found(repo string, f *formats.Found) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch r := t.repos[repo]; {
	case r == nil || r.counting || r.links != f.Links:
		t.doubt(repo).All = true
	case f.Number > r.number:
		t.doubt(repo).Manifests = true
	}
}

// DoubtManifests notes that the log of a repository may be longer.
func (t *Tally) DoubtManifests(repo string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doubt(repo).Manifests = true
}

// DoubtBlob notes that somebody has to look whether a repository has a blob.
func (t *Tally) DoubtBlob(repo string, digest ociregistry.Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doubt(repo).Blobs[digest] = true
}

// DoubtAll notes that a repository has to be counted.
func (t *Tally) DoubtAll(repo string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doubt(repo).All = true
}

func (t *Tally) doubt(repo string) *Doubt {
	d := t.doubts[repo]
	if d == nil {
		d = &Doubt{Blobs: map[ociregistry.Digest]bool{}}
		t.doubts[repo] = d
	}
	return d
}

// Doubts returns what is in doubt, and forgets it. The caller is to look at it.
func (t *Tally) Doubts() map[string]*Doubt {
	t.mu.Lock()
	defer t.mu.Unlock()
	doubts := t.doubts
	t.doubts = map[string]*Doubt{}
	return doubts
}

// Return puts a doubt back that nobody could look at.
func (t *Tally) Return(repo string, d *Doubt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.doubt(repo)
	now.All, now.Manifests = now.All || d.All, now.Manifests || d.Manifests
	maps.Copy(now.Blobs, d.Blobs)
}
