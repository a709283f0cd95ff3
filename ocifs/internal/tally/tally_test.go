package tally

import (
	"slices"
	"testing"

	"github.com/go-quicktest/qt"
)

func TestTally_AddsUpBelowPrefixes(t *testing.T) {
	t.Parallel()
	var tally Tally
	tally.Start()
	tally.Set("a", 1)
	tally.Set("a/b", 20)
	tally.Add("a/b/c", 300)
	tally.Set("ab", 4000)
	for prefix, want := range map[string]int64{"": 4321, "a": 321, "a/b": 320, "a/b/c": 300, "ab": 4000, "c": 0, "a/b/c/d": 0} {
		qt.Check(t, qt.Equals(tally.Below(prefix), want), qt.Commentf("%q", prefix))
	}
	tally.Add("a/b/c", -300)
	tally.Set("a/b", 10)
	qt.Check(t, qt.Equals(tally.Below("a"), 11))
	for _, name := range []string{"a", "a/b", "ab", "a/b/c"} {
		tally.Set(name, 0)
	}
	qt.Check(t, qt.HasLen(tally.below, 0))
	qt.Check(t, qt.HasLen(tally.repos, 0))
}

func TestTally_KnowsWhatHasChangedSinceItWasCounted(t *testing.T) {
	t.Parallel()
	var tally Tally
	tally.Start()
	tally.Set("a", 1)
	tally.Add("b", 2)
	tally.Add("a", 0)
	for name, want := range map[string]bool{"a": false, "b": true, "c": false} {
		_, changed := tally.Of(name)
		qt.Check(t, qt.Equals(changed, want), qt.Commentf(name))
	}
	names := tally.Names()
	slices.Sort(names)
	qt.Check(t, qt.DeepEquals(names, []string{"a", "b"}))
}

func TestTally_KeepsDoubtsUntilTheyAreTakenOrSettled(t *testing.T) {
	t.Parallel()
	var tally Tally
	tally.Doubt("early")
	tally.Add("early", 1)
	tally.Start()
	qt.Check(t, qt.HasLen(tally.Doubtful(), 0)) // nobody wanted to know
	qt.Check(t, qt.Equals(tally.Below(""), 0))
	tally.Doubt("a")
	tally.Doubt("a")
	tally.Doubt("b")
	tally.Trust("b")
	qt.Check(t, qt.DeepEquals(tally.Doubtful(), []string{"a"}))
	qt.Check(t, qt.HasLen(tally.Doubtful(), 0))
}
