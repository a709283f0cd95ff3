package tally

import (
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
)

// A Step is a change of a link, or a look at it. It ends with what is there then, unless another one was
// under way meanwhile: then nobody knows which of them was the last one, and the link is in doubt.
type Step struct {
	tally  *Tally
	place  place
	digest ociregistry.Digest
}

// Begin begins a step. The caller must call one of its methods, once.
func (t *Tally) Begin(repo string, digest ociregistry.Digest) *Step {
	s := &Step{t, place{repo, formats.LinkIDOf(digest)}, digest}
	t.mu.Lock()
	defer t.mu.Unlock()
	u := t.underWay[s.place]
	if u == nil {
		u = &steps{}
		t.underWay[s.place] = u
	}
	u.n++
	u.overlap = u.overlap || u.n > 1
	return s
}

// Has ends the step: the repository has the blob, of so many bytes.
func (s *Step) Has(size int64) { s.end(func(r *repository) { s.set(r, size, true) }) }

// HasNot ends the step: the repository does not have the blob.
func (s *Step) HasNot() { s.end(func(r *repository) { s.set(r, 0, false) }) }

// Fail ends the step: nobody knows what is there.
func (s *Step) Fail() { s.end(nil) }

func (s *Step) end(known func(*repository)) {
	t := s.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	u := t.underWay[s.place]
	if u.n--; u.n == 0 {
		delete(t.underWay, s.place)
	}
	r := t.repos[s.place.repo]
	switch {
	case r == nil && t.isAsked(s.place.repo):
		t.doubt(s.place.repo).All = true
	case r == nil:
	case r.counting, u.overlap, known == nil:
		t.doubt(s.place.repo).Blobs[s.digest] = true
	default:
		known(r)
	}
}

// set sets the size of a blob, or that it is not there.
func (s *Step) set(r *repository, size int64, there bool) {
	before, was := r.blobs[s.place.link]
	if there {
		r.blobs[s.place.link] = size
	} else {
		delete(r.blobs, s.place.link)
	}
	if was != there {
		r.links = r.links.Xor(s.place.link)
	}
	r.bytes += size - before
	s.tally.add(s.place.repo, size-before)
}
