package ociweb

import (
	"cmp"
	"math/rand/v2"
	"slices"

	"github.com/seed-40b21970/oci/internal/rules"
)

// place is a tag with its place among the others of a repository.
type place struct {
	key     uint64 // of two places with different keys, that with the smaller one is the first
	version rules.Version
}

// Groups of tags, in order.
const (
	latest      = iota
	plain       // in the order of versions, the highest first
	aboutOthers // tags such as cosign's, which are made of a digest
)

func placeOf(tag string) place {
	p := place{version: rules.ParseVersion(tag)}
	group := uint64(plain)
	if tag == "latest" {
		group = latest
	} else if _, _, ok := rules.Subject(tag); ok {
		group = aboutOthers
	}
	p.key = group<<62 | (1<<62 - 1 - p.version.Key())
	return p
}

// compare orders places.
func (p *place) compare(q *place) int {
	if p.key != q.key {
		return cmp.Compare(p.key, q.key)
	}
	return q.version.Compare(p.version)
}

// sortPart moves the places that belong at from up to to there, in order. The rest is in no
// order, since most of a long list is on other pages.
func sortPart(s []place, from, to int) {
	if from >= len(s) || to <= 0 {
		return
	}
	if len(s) <= 32 {
		slices.SortFunc(s, func(p, q place) int { return p.compare(&q) })
		return
	}
	pivot := partition(s)
	sortPart(s[:pivot], from, to)
	sortPart(s[pivot+1:], from-pivot-1, to-pivot-1)
}

// partition moves what belongs before one place before it, and the rest after it, and returns
// where that is. Nobody can choose tags with which it is slow.
func partition(s []place) int {
	last := len(s) - 1
	i := rand.IntN(len(s))
	s[i], s[last] = s[last], s[i]
	pivot := 0
	for i := range s[:last] {
		if s[i].compare(&s[last]) < 0 {
			s[i], s[pivot] = s[pivot], s[i]
			pivot++
		}
	}
	s[pivot], s[last] = s[last], s[pivot]
	return pivot
}
