package ociweb

import (
	"iter"
	"slices"
	"strings"
)

// maxQuery is the maximum number of bytes of a text that is searched for. No name is longer.
const maxQuery = 255

// names is a part of a list.
type names struct {
	items []string
	next  string // what the next part starts after; empty if there is none
	cut   bool   // the part ended because so many names were read
}

// first returns the first part of n, of up to size names.
func (n names) first(size int) names {
	if len(n.items) <= size {
		return n
	}
	return names{items: n.items[:size], next: n.items[size-1]}
}

// read reads a part of a list: up to size names that are wanted. It reads no more than MaxNames
// names, and one to know whether more follow.
func (x *exchange) read(list iter.Seq2[string, error], size int, wanted func(string) bool) (names, error) {
	var n names
	last, number := "", 0
	for name, err := range list {
		if err != nil {
			return names{}, err
		}
		if number++; number > x.opts.MaxNames {
			n.next, n.cut = last, true
			return n, nil
		}
		last = name
		if !wanted(name) {
			continue
		}
		if len(n.items) == size {
			n.next = n.items[size-1]
			return n, nil
		}
		if len(n.items) == cap(n.items) {
			n.items = slices.Grow(n.items, max(64, len(n.items))) // append copies a long list more often
		}
		n.items = append(n.items, name)
	}
	return n, nil
}

// query returns a parameter of the request, bounded.
func (x *exchange) query(name string) string {
	return clip(strings.TrimSpace(x.req.URL.Query().Get(name)), maxQuery)
}

// matcher returns a function that reports whether a name contains what is searched for, in any
// case.
func matcher(q string) func(string) bool {
	if q == "" {
		return func(string) bool { return true }
	}
	q = strings.ToLower(q)
	return func(name string) bool { return strings.Contains(strings.ToLower(name), q) }
}
