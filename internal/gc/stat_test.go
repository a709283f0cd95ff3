package gc

import (
	"math/rand/v2"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

// statted hides the times of a graph, so that Decide must ask for them. It counts for what.
func statted(g *graph) (r *Repository, manifests, blobs map[int]int) {
	r = g.repository()
	manifests, blobs = make(map[int]int), make(map[int]int)
	times := make(map[any]func())
	for i := range r.Manifests {
		m := &r.Manifests[i]
		time := m.Time
		m.Time = 0
		times[m] = func() { m.Time = time; manifests[i]++ }
	}
	for i := range r.Blobs {
		b := &r.Blobs[i]
		time := b.Time
		b.Time = 0
		times[b] = func() { b.Time = time; blobs[i]++ }
	}
	for i := range r.Tags {
		t := &r.Tags[i]
		pushed := t.Pushed
		t.Pushed = 0
		times[t] = func() { t.Pushed = pushed }
	}
	r.StatManifest = func(m *Manifest) { times[m]() }
	r.StatBlob = func(b *Blob) { times[b]() }
	r.StatTag = func(t *Tag) { times[t]() }
	return r, manifests, blobs
}

// What is reachable at any age is not looked at, and nothing is twice.
func TestDecide_AsksForTheTimesThatMatter(t *testing.T) {
	t.Parallel()
	asked, all := 0, 0
	for seed := range uint64(500) {
		rnd := func() *rand.Rand { return rand.New(rand.NewPCG(seed, 4)) }
		selector, err := ocigc.NewSelector(randomOptions(rnd()))
		qt.Assert(t, qt.IsNil(err))
		want := Decide(random(rnd(), 12, seed%2 == 0).repository(), selector, now)
		r, manifests, blobs := statted(random(rnd(), 12, seed%2 == 0))
		got := Decide(r, selector, now)
		qt.Assert(t, qt.DeepEquals(got.DropTags, want.DropTags))
		qt.Assert(t, qt.DeepEquals(got.Groups, want.Groups))
		qt.Assert(t, qt.DeepEquals(got.FreeBlobs, want.FreeBlobs))
		for _, n := range manifests {
			qt.Assert(t, qt.Equals(n, 1))
		}
		for _, n := range blobs {
			qt.Assert(t, qt.Equals(n, 1))
		}
		for _, i := range got.FreeBlobs {
			qt.Assert(t, qt.Equals(blobs[i], 1))
		}
		asked, all = asked+len(manifests)+len(blobs), all+len(r.Manifests)+len(r.Blobs)
	}
	qt.Check(t, qt.IsTrue(asked < all*3/4), qt.Commentf("%d of %d", asked, all))
}
