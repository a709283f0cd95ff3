package marks

import (
	"maps"
	"slices"
	"sync"
)

// Set is what has a mark of this process. The zero Set is empty. It is safe for concurrent
// use.
type Set[T comparable] struct {
	mu  sync.Mutex
	all map[T]struct{}
}

// Add adds x, and reports whether it is new.
func (s *Set[T]) Add(x T) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.all[x]; there {
		return false
	}
	if s.all == nil {
		s.all = make(map[T]struct{})
	}
	s.all[x] = struct{}{}
	return true
}

// Has reports whether x is there.
func (s *Set[T]) Has(x T) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, there := s.all[x]
	return there
}

// Remove removes x, and reports whether it was there.
func (s *Set[T]) Remove(x T) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, there := s.all[x]
	delete(s.all, x)
	return there
}

// Len returns how many there are.
func (s *Set[T]) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// All returns all, in no order.
func (s *Set[T]) All() []T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.all))
}
