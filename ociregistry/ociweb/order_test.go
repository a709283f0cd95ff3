package ociweb

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
)

// A part that is sorted alone has what it would have if all were sorted.
func TestSortPart_IsAPartOfTheWhole(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 10, 33, 1000} {
		var sorted []place
		for i := range n {
			sorted = append(sorted, placeOf(fmt.Sprintf([]string{"1.%d", "v%d.0", "x-%d"}[i%3], i)))
		}
		sorted = append(sorted, placeOf("latest"), placeOf("sha256-"+strings.Repeat("0", 64)+".sig"))
		slices.SortFunc(sorted, func(p, q place) int { return p.compare(&q) })
		qt.Check(t, qt.Equals(sorted[0].version.String(), "latest"))
		for range 50 {
			part := slices.Clone(sorted)
			rnd.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
			from := rnd.IntN(len(part))
			to := from + rnd.IntN(len(part)-from) + 1
			sortPart(part, from, to)
			qt.Assert(t, qt.IsTrue(slices.Equal(part[from:to], sorted[from:to])), qt.Commentf("%d: %d to %d", n, from, to))
			slices.SortFunc(part, func(p, q place) int { return p.compare(&q) })
			qt.Assert(t, qt.IsTrue(slices.Equal(part, sorted)))
		}
	}
}

func TestText_IsForPeople(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		-1: "unknown", 0: "0 B", 999: "999 B", 1000: "1.0 kB", 9949: "9.9 kB", 9950: "10 kB", 999_499: "999 kB", 999_500: "1.0 MB",
		28_600_000: "29 MB", 1_500_000_000: "1.5 GB", 9_223_372_036_854_775_807: "9.2 EB",
	} {
		qt.Check(t, qt.Equals(size(n), strings.ReplaceAll(want, " ", "\u00a0")))
	}
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		qt.Check(t, qt.Equals(number(n), want))
	}
	for d, want := range map[time.Duration]string{
		-time.Hour: "in the future", 0: "just now", time.Minute: "just now", 2 * time.Minute: "2 minutes ago", 3 * time.Hour: "3 hours ago",
		47 * time.Hour: "47 hours ago", 13 * 24 * time.Hour: "13 days ago", 59 * 24 * time.Hour: "8 weeks ago",
		100 * 24 * time.Hour: "3 months ago", 1000 * 24 * time.Hour: "2 years ago",
	} {
		qt.Check(t, qt.Equals(strings.ReplaceAll(ago(d), "\u00a0", " "), want))
	}
	for s, want := range map[string]string{
		"": "", "a\nb\tc": "a b c", "\x00\x7f\u202e\ufeff\xff": "\ufffd\ufffd\ufffd\ufffd\ufffd", strings.Repeat("é", 1000): strings.Repeat("é", 500) + "…",
	} {
		qt.Check(t, qt.Equals(clean(s), want))
	}
}

func FuzzIndent(f *testing.F) {
	for _, s := range []string{`{"a":[1,{"b":"\"}"}],"c":{},"d":[ ]}`, "[[[", "]]]}", `"\`, "", "{]", ":,:"} {
		f.Add([]byte(s), 100)
	}
	f.Fuzz(func(t *testing.T, text []byte, limit int) {
		out, whole := indent(text, limit)
		space := strings.NewReplacer(" ", "", "\n", "", "\t", "", "\r", "")
		got, want := space.Replace(string(out)), space.Replace(string(text))
		qt.Check(t, qt.IsTrue(strings.HasPrefix(want, got)), qt.Commentf("%q of %q", out, text))
		qt.Check(t, qt.IsTrue(!whole || got == want), qt.Commentf("%q of %q", out, text))
		qt.Check(t, qt.IsTrue(len(out) <= max(limit, 0)+2*maxIndent+2), qt.Commentf("%d bytes", len(out)))
	})
}
