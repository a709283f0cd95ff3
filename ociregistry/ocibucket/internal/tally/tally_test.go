package tally_test

import (
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/tally"
)

var blob = digest.FromString("blob")

// counted returns a Tally of a/b, which was counted and has one manifest and a blob.
func counted() *tally.Tally {
	t := tally.New()
	t.Ask("a")
	t.StartCount("a/b")
	t.Manifests("a/b", 1, 10)
	t.EndCount("a/b", map[formats.LinkID]int64{formats.LinkIDOf(digest.FromString("other")): 5})
	return t
}

func TestTally_AddsUpWhatChanges(t *testing.T) {
	t.Parallel()
	c := counted()
	want := func(n int64) {
		t.Helper()
		for prefix, want := range map[string]int64{"": n, "a": n, "a/b": n, "a/b/c": 0, "b": 0} {
			qt.Check(t, qt.Equals(c.Below(prefix), want), qt.Commentf("%q", prefix))
		}
	}
	want(15)
	for range 2 { // the second one changes nothing
		c.Begin("a/b", blob).Has(100)
		want(115)
	}
	c.Manifests("a/b", 3, 30)
	want(135)
	c.Manifests("a/b", 2, 20) // late
	want(135)
	for range 2 {
		c.Begin("a/b", blob).HasNot()
		want(35)
	}
	qt.Check(t, qt.HasLen(c.Doubts(), 0))
	c.StartCount("a/b")
	c.EndCount("a/b", map[formats.LinkID]int64{formats.LinkIDOf(blob): 1})
	want(31)
}

// Of steps that overlap, nobody knows which one was the last.
func TestTally_DoubtsWhatOverlaps(t *testing.T) {
	t.Parallel()
	c := counted()
	one, two := c.Begin("a/b", blob), c.Begin("a/b", blob)
	one.HasNot()
	two.Has(100)
	qt.Check(t, qt.Equals(c.Below("a"), 15))
	d := c.Doubts()["a/b"]
	qt.Assert(t, qt.IsNotNil(d))
	qt.Check(t, qt.DeepEquals(*d, tally.Doubt{Blobs: map[digest.Digest]bool{blob: true}}))
	c.Begin("a/b", blob).Has(100)
	qt.Check(t, qt.Equals(c.Below("a"), 115))
	qt.Check(t, qt.HasLen(c.Doubts(), 0))
	c.Begin("a/b", blob).Fail()
	c.Return("a/b", d)
	qt.Check(t, qt.DeepEquals(c.Doubts(), map[string]*tally.Doubt{"a/b": d}))
}

func TestTally_DoubtsWhatChangesWhileItIsCounted(t *testing.T) {
	t.Parallel()
	c := counted()
	c.StartCount("a/b")
	qt.Check(t, qt.IsFalse(c.IsCounted("a/b")))
	c.Begin("a/b", blob).Has(100)
	c.EndCount("a/b", map[formats.LinkID]int64{})
	qt.Check(t, qt.IsTrue(c.IsCounted("a/b")))
	qt.Check(t, qt.Equals(c.Below("a"), 10))
	qt.Check(t, qt.IsTrue(c.Doubts()["a/b"].Blobs[blob]))
}

// A name that is read but has never had a record costs nothing.
func TestTally_DoubtsARepositoryThatIsNewBelowWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	c := counted()
	c.Manifests("a/x", 0, 0)
	c.Manifests("b", 1, 10)
	c.Begin("b", blob).Has(100)
	qt.Check(t, qt.HasLen(c.Doubts(), 0))
	c.Manifests("a/x", 1, 10)
	qt.Check(t, qt.IsTrue(c.Doubts()["a/x"].All))
	c.Begin("a/x", blob).Has(100)
	qt.Check(t, qt.IsTrue(c.Doubts()["a/x"].All))
	qt.Check(t, qt.Equals(c.Below("a"), 15))
}

func TestTally_DoubtsWhatSomebodyHasFoundOtherwise(t *testing.T) {
	t.Parallel()
	c := counted()
	other := formats.LinkIDOf(digest.FromString("other"))
	c.Found("a/b", &formats.Found{Number: 1, Links: other})
	qt.Check(t, qt.HasLen(c.Doubts(), 0))
	c.Found("a/b", &formats.Found{Number: 2, Links: other})
	d := c.Doubts()["a/b"]
	qt.Check(t, qt.IsTrue(d.Manifests && !d.All))
	c.Found("a/b", &formats.Found{Number: 1, Links: other.Xor(formats.LinkIDOf(blob))})
	qt.Check(t, qt.IsTrue(c.Doubts()["a/b"].All))
}
