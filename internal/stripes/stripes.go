// Package stripes has locks for any number of keys, in constant space.
package stripes

import (
	"context"
	"hash/maphash"
	"slices"
)

// Locks are locks for keys. Keys that fall on one stripe exclude each other for
// no other reason. Unlike a mutex, they can be waited for until a context ends.
type Locks struct {
	seed  maphash.Seed
	locks [64]chan struct{} // each holds a value while it is locked
}

// New returns Locks of which none is locked.
func New() *Locks {
	s := &Locks{seed: maphash.MakeSeed()}
	for i := range s.locks {
		s.locks[i] = make(chan struct{}, 1)
	}
	return s
}

// Lock locks all keys, or returns the error of a context that ended before.
func (s *Locks) Lock(ctx context.Context, keys ...string) (unlock func(), err error) {
	var indexes []int
	for _, key := range keys {
		indexes = append(indexes, int(maphash.String(s.seed, key)%uint64(len(s.locks))))
	}
	// In one order everywhere, so that there are no deadlocks; and each once.
	slices.Sort(indexes)
	indexes = slices.Compact(indexes)

	unlock = func() {
		for _, i := range indexes {
			<-s.locks[i]
		}
	}
	for n, i := range indexes {
		select {
		case s.locks[i] <- struct{}{}:
		case <-ctx.Done():
			indexes = indexes[:n]
			unlock()
			return nil, ctx.Err()
		}
	}
	return unlock, nil
}
