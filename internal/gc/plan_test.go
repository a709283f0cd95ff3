package gc

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/rules"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// ago returns a time in the form of a [Repository].
func ago(d time.Duration) int64 { return now.Add(-d).UnixNano() }

// graph is a repository in the form in which tests write one.
type graph struct {
	Repository
	names [][]ociregistry.Digest // by manifest
}

func (g *graph) repository() *Repository {
	g.Name = "app"
	g.Repository.Names = func(i int, yield func(ociregistry.Digest)) {
		for _, digest := range g.names[i] {
			yield(digest)
		}
	}
	return &g.Repository
}

// random returns a graph with n manifests and as many blobs. In an acyclic graph a manifest
// depends only on those before it, as digests make sure.
func random(rnd *rand.Rand, n int, acyclic bool) *graph {
	g := &graph{}
	digestOf := func(i int) ociregistry.Digest { return digest.FromString(fmt.Sprint(i)) }
	age := func() int64 { return ago(time.Duration(rnd.IntN(4)) * time.Hour) }
	for i := range n {
		other := func() ociregistry.Digest {
			k := rnd.IntN(n + 2) // the last two do not exist
			if acyclic {
				k = rnd.IntN(i+2) - 1
			}
			return digestOf(k)
		}
		m := Manifest{Digest: digestOf(i), Time: age()}
		if rnd.IntN(3) == 0 {
			m.Subject = other()
		}
		var names []ociregistry.Digest
		for range rnd.IntN(3) {
			names = append(names, digest.FromString(fmt.Sprint("blob ", rnd.IntN(n+2))))
		}
		for range max(rnd.IntN(6)-3, 0) {
			names = append(names, other())
		}
		g.Manifests, g.names = append(g.Manifests, m), append(g.names, names)
		g.Blobs = append(g.Blobs, Blob{Digest: digest.FromString(fmt.Sprint("blob ", i)), Time: age()})
		if rnd.IntN(20) == 0 {
			g.Blobs = append(g.Blobs, Blob{Digest: m.Digest, Time: age()})
		}
		switch rnd.IntN(8) {
		case 0, 1:
			g.Tags = append(g.Tags, Tag{Name: fmt.Sprint("v", i), Manifest: m.Digest, Pushed: age()})
		case 2:
			g.Tags = append(g.Tags, Tag{Name: rules.CosignTag(other()) + ".sig", Manifest: m.Digest, Pushed: age()})
		}
	}
	g.Tags = slices.CompactFunc(g.Tags, func(a, b Tag) bool { return a.Name == b.Name })
	return g
}

func randomOptions(rnd *rand.Rand) *ocigc.Options {
	delay := func() time.Duration { return time.Duration(rnd.IntN(4)-1) * 90 * time.Minute }
	p := ocigc.Policy{Untagged: rnd.IntN(3) > 0, Dangling: rnd.IntN(3) > 0, UntaggedDelay: delay(), DanglingDelay: delay()}
	switch rnd.IntN(4) {
	case 0:
		p.Keep = []ocigc.TagRule{{PushedWithin: time.Hour}}
	case 1:
		p.Keep = []ocigc.TagRule{{Newest: 2}, {Match: "3"}}
	}
	return &ocigc.Options{Delay: delay(), Policies: []ocigc.Policy{p}}
}

// naive finds from scratch what of a graph stays, by the words of package ocigc, until nothing
// more is found.
func naive(g *graph, selector *ocigc.Selector) (manifests, blobs map[ociregistry.Digest]bool, tags map[string]bool) {
	policy := selector.Policy("app")
	old := func(time int64, delay time.Duration) bool { return delay < 0 || now.UnixNano()-time >= int64(delay) }
	var all []ocigc.Tag
	for _, tag := range g.Tags {
		all = append(all, tag.tag())
	}
	dropped := selector.Dropped("app", all, now)
	manifests, blobs, tags = map[ociregistry.Digest]bool{}, map[ociregistry.Digest]bool{}, map[string]bool{}
	subjects := func(i int) (of []ociregistry.Digest, plain bool) {
		if s := g.Manifests[i].Subject; s != "" {
			of = append(of, s)
		}
		for _, tag := range g.Tags {
			if tag.Manifest != g.Manifests[i].Digest || slices.Contains(dropped, tag.Name) {
				continue
			}
			if s, _, ok := rules.Subject(tag.Name); ok {
				of = append(of, s)
			} else {
				plain = true
			}
		}
		return of, plain
	}
	stays := func(i int) bool {
		m := &g.Manifests[i]
		untagged := slices.ContainsFunc(g.Tags, func(t Tag) bool { return t.Manifest == m.Digest && slices.Contains(dropped, t.Name) })
		age := m.Time
		if untagged {
			age = now.UnixNano()
		}
		of, plain := subjects(i)
		switch {
		case m.Subject == "" && plain:
			return true
		case len(of) > 0:
			if !policy.Dangling || !old(age, policy.DanglingDelay) {
				return true
			}
		case !policy.Untagged || !old(age, policy.UntaggedDelay):
			return true
		}
		if slices.ContainsFunc(of, func(s ociregistry.Digest) bool { return manifests[s] }) {
			return true
		}
		for k := range g.Manifests {
			if manifests[g.Manifests[k].Digest] && slices.Contains(g.names[k], m.Digest) {
				return true
			}
		}
		return false
	}
	for changed := true; changed; {
		changed = false
		for i := range g.Manifests {
			if d := g.Manifests[i].Digest; !manifests[d] && stays(i) {
				manifests[d], changed = true, true
			}
		}
	}
	for _, b := range g.Blobs {
		if !old(b.Time, selector.Delay()) || manifests[b.Digest] {
			blobs[b.Digest] = true
		}
		for i := range g.Manifests {
			if manifests[g.Manifests[i].Digest] && slices.Contains(g.names[i], b.Digest) {
				blobs[b.Digest] = true
			}
		}
	}
	for _, tag := range g.Tags {
		tags[tag.Name] = !slices.Contains(dropped, tag.Name)
	}
	return manifests, blobs, tags
}

func TestDecide_LeavesWhatAMarkFromScratchReaches(t *testing.T) {
	t.Parallel()
	garbage := 0
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		g := random(rnd, 1+rnd.IntN(12), seed%2 == 0)
		selector, err := ocigc.NewSelector(randomOptions(rnd))
		qt.Assert(t, qt.IsNil(err))
		manifests, blobs, tags := naive(g, selector)
		p := Decide(g.repository(), selector, now)
		for _, group := range p.Groups {
			for _, i := range group {
				d := g.Manifests[i].Digest
				qt.Assert(t, qt.IsFalse(manifests[d]), qt.Commentf("seed %d: manifest %d", seed, i))
				manifests[d] = true
				garbage++
			}
		}
		for _, i := range p.FreeBlobs {
			qt.Assert(t, qt.IsFalse(blobs[g.Blobs[i].Digest]), qt.Commentf("seed %d: blob %d", seed, i))
			blobs[g.Blobs[i].Digest] = true
		}
		for _, i := range p.DropTags {
			qt.Assert(t, qt.IsFalse(tags[g.Tags[i].Name]), qt.Commentf("seed %d: tag %d", seed, i))
			tags[g.Tags[i].Name] = true
		}
		// Now everything is there or was removed, once.
		for _, m := range g.Manifests {
			qt.Assert(t, qt.IsTrue(manifests[m.Digest]), qt.Commentf("seed %d: %s", seed, m.Digest))
		}
		for _, b := range g.Blobs {
			qt.Assert(t, qt.IsTrue(blobs[b.Digest]), qt.Commentf("seed %d: %s", seed, b.Digest))
		}
		for _, tag := range g.Tags {
			qt.Assert(t, qt.IsTrue(tags[tag.Name]), qt.Commentf("seed %d: %s", seed, tag.Name))
		}
	}
	qt.Check(t, qt.IsTrue(garbage > 1500), qt.Commentf("%d manifests", garbage))
}

// A manifest can be removed when nothing that is left names it, and it has no subject left.
func TestDecide_HasAnOrderInWhichEachGroupIsGarbageByItself(t *testing.T) {
	t.Parallel()
	large := 0
	for seed := range uint64(1500) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		g := random(rnd, 1+rnd.IntN(30), seed%2 == 0)
		selector, err := ocigc.NewSelector(&ocigc.Options{Delay: -1, Untagged: true, Dangling: true})
		qt.Assert(t, qt.IsNil(err))
		left := make(map[ociregistry.Digest]bool)
		for _, m := range g.Manifests {
			left[m.Digest] = true
		}
		for _, group := range Decide(g.repository(), selector, now).Groups {
			for _, i := range group {
				delete(left, g.Manifests[i].Digest)
			}
			for _, i := range group {
				m := &g.Manifests[i]
				qt.Assert(t, qt.IsFalse(left[m.Subject]), qt.Commentf("seed %d: %d has its subject", seed, i))
				for k, names := range g.names {
					named := left[g.Manifests[k].Digest] && slices.Contains(names, m.Digest)
					qt.Assert(t, qt.IsFalse(named), qt.Commentf("seed %d: %d names %d", seed, k, i))
				}
			}
			if len(group) > 1 {
				large++
				qt.Assert(t, qt.IsTrue(seed%2 == 1 || len(group) <= 30))
			}
		}
	}
	qt.Check(t, qt.IsTrue(large > 20), qt.Commentf("%d groups", large))
}

func TestDecide_ExplainsEachDecision(t *testing.T) {
	t.Parallel()
	d := func(s string) ociregistry.Digest { return digest.FromString(s) }
	g := &graph{
		Repository: Repository{
			Manifests: []Manifest{
				{Digest: d("untagged"), Size: 1, Time: ago(2 * time.Hour)},
				{Digest: d("referrer"), Subject: d("untagged"), Size: 2, Time: ago(3 * time.Hour)},
				{Digest: d("signature"), Size: 3, Time: ago(4 * time.Hour)},
				{Digest: d("kept"), Size: 4, Time: ago(5 * time.Hour)},
			},
			Blobs: []Blob{{d("layer"), 5, ago(6 * time.Hour)}},
			Tags: []Tag{
				{Name: "dropped", Manifest: d("kept"), Pushed: ago(7 * time.Hour)},
				{Name: "v1", Manifest: d("referrer"), Pushed: ago(8 * time.Hour)},
				{Name: "v2", Manifest: d("kept"), Pushed: ago(9 * time.Hour)},
				{Name: rules.CosignTag(d("gone")) + ".sig", Manifest: d("signature")},
			},
		},
		names: make([][]ociregistry.Digest, 4),
	}
	selector, err := ocigc.NewSelector(&ocigc.Options{
		Policies: []ocigc.Policy{{Untagged: true, Dangling: true, Keep: []ocigc.TagRule{{Match: "^v"}}}},
	})
	qt.Assert(t, qt.IsNil(err))
	var got []string
	Decide(g.repository(), selector, now).each(func(f ocigc.Finding) { got = append(got, f.String()) })
	slices.Sort(got)
	want := []string{
		"app:dropped: tag: no rule keeps the tag, since 2026-01-01 20:04:05",
		"app:v1: tag: its subject is gone, since 2026-01-01 19:04:05",
		"app:" + rules.CosignTag(d("gone")) + ".sig: tag: its subject is gone",
		"app@" + string(d("untagged")) + ": manifest of 1 bytes: no tag, index or subject keeps it, since 2026-01-02 01:04:05",
		"app@" + string(d("referrer")) + ": manifest of 2 bytes: its subject is gone, since 2026-01-02 00:04:05",
		"app@" + string(d("signature")) + ": manifest of 3 bytes: its subject is gone, since 2026-01-01 23:04:05",
		"app@" + string(d("layer")) + ": blob of 5 bytes: no manifest names it, since 2026-01-01 21:04:05",
	}
	slices.Sort(want)
	qt.Check(t, qt.DeepEquals(got, want))
}

func TestDecide_KeepsEverythingBesideWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	g := random(rand.New(rand.NewPCG(1, 3)), 20, true)
	g.Unreadable = ociregistry.ErrManifestInvalid
	selector, err := ocigc.NewSelector(&ocigc.Options{
		Delay:    -1,
		Policies: []ocigc.Policy{{Untagged: true, Dangling: true, Keep: []ocigc.TagRule{{Match: "^$"}}}},
	})
	qt.Assert(t, qt.IsNil(err))
	p := Decide(g.repository(), selector, now)
	qt.Check(t, qt.HasLen(p.DropTags, 0))
	qt.Check(t, qt.HasLen(p.Groups, 0))
	qt.Check(t, qt.HasLen(p.FreeBlobs, 0))
}

// A chain of referrers, each of which is one of the one before.
func TestDecide_FollowsChainsOfAnyLength(t *testing.T) {
	t.Parallel()
	const n = 20_000
	g := &graph{names: make([][]ociregistry.Digest, n)}
	for i := range n {
		m := Manifest{Digest: digest.FromString(fmt.Sprint(i))}
		if i > 0 {
			m.Subject = g.Manifests[i-1].Digest
		}
		g.Manifests = append(g.Manifests, m)
	}
	selector, err := ocigc.NewSelector(&ocigc.Options{Untagged: true, Dangling: true})
	qt.Assert(t, qt.IsNil(err))
	groups := Decide(g.repository(), selector, now).Groups
	qt.Assert(t, qt.HasLen(groups, n))
	for i, group := range groups {
		qt.Assert(t, qt.DeepEquals(group, []int{i}))
	}
	g.Tags = []Tag{{Name: "v1", Manifest: g.Manifests[0].Digest}}
	qt.Assert(t, qt.HasLen(Decide(g.repository(), selector, now).Groups, 0))
}

// big returns a repository with n images of ten layers each, of which one in ten is garbage.
func big(n int) *graph {
	g := &graph{}
	for i := range n {
		m := Manifest{Digest: digest.FromString(fmt.Sprint(i))}
		names := make([]ociregistry.Digest, 10)
		for k := range names {
			names[k] = digest.FromString(fmt.Sprint(i, k))
			g.Blobs = append(g.Blobs, Blob{Digest: names[k]})
		}
		g.Manifests, g.names = append(g.Manifests, m), append(g.names, names)
		if i%10 > 0 {
			g.Tags = append(g.Tags, Tag{Name: fmt.Sprint("v", i), Manifest: m.Digest})
		}
	}
	return g
}

func TestDecide_TakesLittleMemory(t *testing.T) {
	// Not parallel: it measures allocations.
	const n, most = 20_000, 60 // bytes for a node
	g := big(n).repository()
	selector, err := ocigc.NewSelector(&ocigc.Options{Untagged: true, Dangling: true})
	qt.Assert(t, qt.IsNil(err))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p := Decide(g, selector, now)
	runtime.ReadMemStats(&after)
	qt.Check(t, qt.HasLen(p.Groups, n/10))
	qt.Check(t, qt.HasLen(p.FreeBlobs, n))
	each := (after.TotalAlloc - before.TotalAlloc) / (n + 10*n)
	qt.Check(t, qt.IsTrue(each <= most), qt.Commentf("%d bytes for a node", each))
}

func BenchmarkDecide(b *testing.B) {
	g := big(100_000).repository()
	selector, err := ocigc.NewSelector(&ocigc.Options{Untagged: true, Dangling: true})
	qt.Assert(b, qt.IsNil(err))
	for b.Loop() {
		Decide(g, selector, now)
	}
}
