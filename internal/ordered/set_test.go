package ordered

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/go-quicktest/qt"
)

func TestSetAgainstSortedSlice(t *testing.T) {
	t.Parallel()
	orders := map[string]func(rnd *rand.Rand, i int) int{
		"ascending":  func(_ *rand.Rand, i int) int { return i },
		"descending": func(_ *rand.Rand, i int) int { return 3000 - i },
		"random":     func(rnd *rand.Rand, _ int) int { return rnd.IntN(4000) },
	}
	for name, next := range orders {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(1, 2))
			var s Set
			var want []string
			for i := range 3000 {
				x := fmt.Sprintf("%05d", next(rnd, i))
				at, found := slices.BinarySearch(want, x)
				qt.Assert(t, qt.Equals(s.Add(x), !found))
				if !found {
					want = slices.Insert(want, at, x)
				}
			}
			check(t, &s, want)
			for len(want) > 0 {
				x := fmt.Sprintf("%05d", rnd.IntN(4000))
				if rnd.IntN(2) == 0 {
					x = want[rnd.IntN(len(want))]
				}
				at, found := slices.BinarySearch(want, x)
				qt.Assert(t, qt.Equals(s.Delete(x), found))
				if found {
					want = slices.Delete(want, at, at+1)
				}
				if len(want)%500 == 0 {
					check(t, &s, want)
				}
			}
			check(t, &s, nil)
		})
	}
}

func check(t *testing.T, s *Set, want []string) {
	t.Helper()
	qt.Assert(t, qt.Equals(s.Len(), len(want)))
	qt.Assert(t, qt.IsTrue(slices.Equal(s.AppendAfter(nil, "", len(want)+1), want)))
	for _, after := range []string{"", "0", "00000", "00255", "00256", "01500", "02999", "03500", "1"} {
		for _, n := range []int{0, 1, 300} {
			i, found := slices.BinarySearch(want, after)
			if found {
				i++
			}
			page := slices.Clone(want[i:min(i+n, len(want))])
			got := s.AppendAfter(nil, after, n)
			qt.Assert(t, qt.IsTrue(slices.Equal(got, page)), qt.Commentf("after %q n %d: %v, want %v", after, n, got, page))
		}
	}
}

func TestSetFillsRunsInAscendingOrder(t *testing.T) {
	t.Parallel()
	var s Set
	for i := range 10 * maxRun {
		s.Add(fmt.Sprintf("%06d", i))
	}
	qt.Assert(t, qt.Equals(len(s.runs), 10))
}

func TestDeletedStringsAreLetGo(t *testing.T) {
	t.Parallel()
	var s Set
	for i := range maxRun + 1 {
		s.Add(fmt.Sprintf("%06d", 2*i))
	}
	s.Add("000001") // splits the full first run
	for _, run := range s.runs {
		for _, x := range run[len(run):cap(run)] {
			qt.Assert(t, qt.Equals(x, ""))
		}
	}
}

func BenchmarkAppendAfter(b *testing.B) {
	for _, n := range []int{100, 100_000} {
		var s Set
		for i := range n {
			s.Add(fmt.Sprintf("v%07d", i))
		}
		after := fmt.Sprintf("v%07d", n/2)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var page []string
			for b.Loop() {
				page = s.AppendAfter(page[:0], after, 50)
			}
		})
	}
}
