package gc

import (
	"slices"
	"time"

	"github.com/seed-40b21970/oci/internal/rules"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

// Plan is what of a [Repository] is garbage. Its numbers are positions in the slices of the
// Repository.
type Plan struct {
	*Repository
	Policy ocigc.Policy

	// DropTags are the tags that the policy does not keep.
	DropTags []int

	// Groups are the manifests that are garbage. A manifest is garbage only as long as
	// those of the groups before it are: an index comes before its children, and a
	// subject before its referrers. In a group with several manifests, these depend on
	// each other, so that they must be removed in one step.
	Groups [][]int

	// FreeBlobs are the blobs that are garbage once the manifests are gone.
	FreeBlobs []int

	delay time.Duration // of blobs
	now   int64
	facts []Facts // of manifests
}

// Decide returns the plan for a repository.
func Decide(r *Repository, selector *ocigc.Selector, now time.Time) *Plan {
	p := &Plan{Repository: r, Policy: selector.Policy(r.Name), delay: selector.Delay(), now: now.UnixNano()}
	if r.Unreadable != nil {
		return p
	}
	m := newMark(p)
	m.dropTags(selector, now)
	m.markRoots()
	m.markYoung()
	p.Groups = m.groups()
	for i := range r.Blobs {
		if m.blobs[i] {
			continue
		}
		if r.StatBlob != nil {
			r.StatBlob(&r.Blobs[i])
		}
		if p.IsOldBlob(r.Blobs[i].Time) {
			p.FreeBlobs = append(p.FreeBlobs, i)
		}
	}
	return p
}

// IsOldBlob reports whether the delay of a blob has passed that counts from time.
func (p *Plan) IsOldBlob(time int64) bool { return p.isOld(time, p.delay, p.BlobGrain) }

func (p *Plan) isOld(time int64, delay, grain time.Duration) bool {
	return delay < 0 || p.now-time-int64(grain) >= int64(delay)
}

// Facts are what decides, together with what names a manifest, whether it stays.
type Facts struct {
	Time       int64
	Tagged     bool // by a tag that is not about another manifest
	About      bool // it has a tag that is made of the digest of another manifest
	HasSubject bool // there or not
}

// isReferrer reports whether a manifest stays because of other manifests only.
func (p *Plan) isReferrer(f Facts) bool {
	return p.Policy.Dangling && (f.HasSubject || f.About && !f.Tagged)
}

// IsRoot reports whether a manifest stays although no other manifest keeps it.
func (p *Plan) IsRoot(f Facts) bool {
	delay := p.Policy.UntaggedDelay
	if p.isReferrer(f) {
		delay = p.Policy.DanglingDelay
	}
	return p.IsRootAtAnyAge(f) || !p.isOld(f.Time, delay, p.Grain)
}

// IsRootAtAnyAge is IsRoot for a manifest whose time is unknown.
func (p *Plan) IsRootAtAnyAge(f Facts) bool {
	return !p.isReferrer(f) && (f.Tagged || f.About || f.HasSubject || !p.Policy.Untagged)
}

// mark finds what is reachable.
type mark struct {
	*Plan
	byDigest *index
	live     []bool // manifests
	blobs    []bool // those that are reachable
	work     []int  // live manifests whose references are not marked yet

	// The referrers of a manifest are a list: the first is at edges[referrers[i]-1].
	referrers []int32
	edges     []edge
}

type edge struct{ to, next int32 }

func newMark(p *Plan) *mark {
	n := len(p.Manifests)
	p.facts = make([]Facts, n)
	m := &mark{
		Plan:      p,
		byDigest:  newIndex(n, func(i int) ociregistry.Digest { return p.Manifests[i].Digest }),
		live:      make([]bool, n),
		blobs:     make([]bool, len(p.Blobs)),
		referrers: make([]int32, n),
	}
	for i := range p.Manifests {
		m.facts[i] = Facts{Time: p.Manifests[i].Time, HasSubject: p.Manifests[i].Subject != ""}
		if m.facts[i].HasSubject {
			m.addReferrer(p.Manifests[i].Subject, i)
		}
	}
	return m
}

func (m *mark) addReferrer(subject ociregistry.Digest, referrer int) {
	if i := m.byDigest.find(subject); i >= 0 {
		m.edges = append(m.edges, edge{int32(referrer), m.referrers[i]})
		m.referrers[i] = int32(len(m.edges))
	}
}

// dropTags finds the tags that the policy does not keep. The other tags become facts.
func (m *mark) dropTags(selector *ocigc.Selector, now time.Time) {
	var tags []ocigc.Tag
	if len(m.Policy.Keep) > 0 {
		for i := range m.Tags {
			if m.StatTag != nil {
				m.StatTag(&m.Tags[i])
			}
			tags = append(tags, m.Tags[i].tag())
		}
	}
	dropped := selector.Dropped(m.Name, tags, now) // in the order of m.Tags
	for i, tag := range m.Tags {
		target := m.byDigest.find(tag.Manifest)
		switch subject, _, about := rules.Subject(tag.Name); {
		case len(dropped) > 0 && dropped[0] == tag.Name:
			dropped = dropped[1:]
			m.DropTags = append(m.DropTags, i)
			if target >= 0 {
				m.facts[target].Time = m.now
			}
		case target < 0: // the manifest came after manifests were enumerated
		case about:
			m.facts[target].About = true
			m.addReferrer(subject, target)
		default:
			m.facts[target].Tagged = true
		}
	}
}

// markRoots marks what is reachable from the manifests that stay at any age.
func (m *mark) markRoots() {
	for i := range m.Manifests {
		if m.IsRootAtAnyAge(m.facts[i]) {
			m.markManifest(i)
		}
	}
	m.markReachable()
}

// markYoung marks what is reachable from those of the others that are young.
func (m *mark) markYoung() {
	for i := range m.Manifests {
		if m.live[i] {
			continue
		}
		if f := &m.facts[i]; f.Time == 0 && m.StatManifest != nil {
			m.StatManifest(&m.Manifests[i])
			f.Time = m.Manifests[i].Time
		}
		if m.IsRoot(m.facts[i]) {
			m.markManifest(i)
		}
	}
	m.markReachable()
}

func (m *mark) markManifest(i int) {
	if !m.live[i] {
		m.live[i] = true
		m.work = append(m.work, i)
	}
}

// markReachable marks what live manifests name, and their referrers.
func (m *mark) markReachable() {
	blobs := newIndex(len(m.Blobs), func(i int) ociregistry.Digest { return m.Blobs[i].Digest })
	name := func(digest ociregistry.Digest) {
		if i := m.byDigest.find(digest); i >= 0 {
			m.markManifest(i)
		}
		if i := blobs.find(digest); i >= 0 {
			m.blobs[i] = true
		}
	}
	for len(m.work) > 0 {
		last := len(m.work) - 1
		i := m.work[last]
		m.work = m.work[:last]
		name(m.Manifests[i].Digest) // the same bytes may be a blob, too
		m.Names(i, name)
		m.eachReferrer(i, m.markManifest)
	}
}

func (m *mark) eachReferrer(i int, yield func(int)) {
	for e := m.referrers[i]; e > 0; e = m.edges[e-1].next {
		yield(int(m.edges[e-1].to))
	}
}

// groups returns the manifests that are not live, in the order of [Plan.Groups].
func (m *mark) groups() [][]int {
	dead := func(i int, yield func(int)) {
		m.Names(i, func(digest ociregistry.Digest) {
			if child := m.byDigest.find(digest); child >= 0 && !m.live[child] {
				yield(child)
			}
		})
		m.eachReferrer(i, func(referrer int) {
			if !m.live[referrer] {
				yield(referrer)
			}
		})
	}
	c := newComponents(len(m.Manifests), dead)
	for i, live := range m.live {
		if !live {
			c.visit(i)
		}
	}
	slices.Reverse(c.found) // they end with those that depend on nothing
	return c.found
}
