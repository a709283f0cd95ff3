// Package counted keeps values that are counted by their users, and for a while those that nobody
// uses any more.
package counted

import (
	"container/list"
	"sync"
)

// A Set has values by key: all that are in use, and of the others those that were used last. It is safe for
// concurrent use.
type Set[V any] struct {
	maxIdle int
	make    func(key string) V

	mu    sync.Mutex
	byKey map[string]*entry[V]
	idle  *list.List // of keys that nobody uses, the last used first
}

type entry[V any] struct {
	value V
	users int
	place *list.Element // in idle, if there are no users
}

// New returns an empty Set, which keeps up to maxIdle values that nobody uses. It makes values by a
// function that must not wait.
func New[V any](maxIdle int, make func(key string) V) *Set[V] {
	return &Set[V]{maxIdle: maxIdle, make: make, byKey: map[string]*entry[V]{}, idle: list.New()}
}

// Use returns the value of a key, which stays until it is released as often as it was used.
func (s *Set[V]) Use(key string) V {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byKey[key]
	if e == nil {
		e = &entry[V]{value: s.make(key)}
		s.byKey[key] = e
	}
	if e.place != nil {
		s.idle.Remove(e.place)
		e.place = nil
	}
	e.users++
	return e.value
}

// Release tells that one user of a key is done.
func (s *Set[V]) Release(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byKey[key]
	if e.users--; e.users > 0 {
		return
	}
	e.place = s.idle.PushFront(key)
	if s.idle.Len() > s.maxIdle {
		delete(s.byKey, s.idle.Remove(s.idle.Back()).(string))
	}
}
