// Package ordered has the ordered set of strings that lazy, restartable lists
// are read from.
package ordered

import (
	"slices"
	"sort"
)

// maxRun is how many strings a run holds at most. Adding to a set moves half a
// run on average, and one pointer for each run behind it when a run is split.
const maxRun = 256

// Set is a set of strings in byte order. Adding, deleting and finding cost
// about the same in a set of a hundred strings as in one of a million. The zero
// Set is empty. A Set is not safe for concurrent use.
type Set struct {
	runs [][]string // each sorted and not empty; each before the next
	n    int
}

// Len returns the number of strings in the set.
func (s *Set) Len() int { return s.n }

// Add adds x, and reports whether it was not there before.
func (s *Set) Add(x string) bool {
	if len(s.runs) == 0 {
		s.runs = [][]string{{x}}
		s.n = 1
		return true
	}
	r := min(s.run(x), len(s.runs)-1)
	i, found := slices.BinarySearch(s.runs[r], x)
	if found {
		return false
	}
	s.n++
	if len(s.runs[r]) == maxRun {
		r, i = s.split(r, i)
	}
	s.runs[r] = slices.Insert(s.runs[r], i, x)
	return true
}

// split makes room in run r for an element at position i, and returns where
// that is now. What is added in ascending order leaves full runs behind it.
func (s *Set) split(r, i int) (run, pos int) {
	full := s.runs[r]
	at := maxRun / 2
	if r == len(s.runs)-1 && i == maxRun {
		at = maxRun
	}
	s.runs = slices.Insert(s.runs, r+1, slices.Clone(full[at:]))
	clear(full[at:])
	s.runs[r] = full[:at]
	if i < at || i == at && at < maxRun {
		return r, i
	}
	return r + 1, i - at
}

// Delete removes x, and reports whether it was there.
func (s *Set) Delete(x string) bool {
	r := s.run(x)
	if r == len(s.runs) {
		return false
	}
	i, found := slices.BinarySearch(s.runs[r], x)
	if !found {
		return false
	}
	s.n--
	s.runs[r] = slices.Delete(s.runs[r], i, i+1)
	if len(s.runs[r]) == 0 {
		s.runs = slices.Delete(s.runs, r, r+1)
	}
	return true
}

// AppendAfter appends to dst the first n strings of the set that are greater
// than after. All strings but the empty one are greater than the empty one.
func (s *Set) AppendAfter(dst []string, after string, n int) []string {
	for r := s.run(after); r < len(s.runs) && n > 0; r++ {
		run := s.runs[r]
		i, found := slices.BinarySearch(run, after)
		if found {
			i++
		}
		run = run[i:]
		run = run[:min(len(run), n)]
		dst = append(dst, run...)
		n -= len(run)
	}
	return dst
}

// run returns the index of the first run whose last string is x or greater.
func (s *Set) run(x string) int {
	return sort.Search(len(s.runs), func(i int) bool {
		return s.runs[i][len(s.runs[i])-1] >= x
	})
}
