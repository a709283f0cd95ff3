package ociserver

import (
	"context"
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// smallManifest is the size in bytes of the largest manifest that has its place
// among the small ones.
const smallManifest = 64 << 10

// room is the memory for manifests that are on their way. Half of it is for small
// ones, which are nearly all: a few large ones that do not get on do not keep them
// out, nor they those.
type room struct {
	small, large share
	wait         time.Duration // for others to go; negative for no bound
}

// newRoom returns a room of that many bytes, or an unlimited one if they are
// negative.
func newRoom(bytes int64, wait time.Duration) *room {
	half := (bytes + 1) / 2
	if bytes < 0 {
		half = -1
	}
	return &room{share{max: half}, share{max: half}, wait}
}

// share is a number of bytes that many have together. One that is alone may have
// more.
type share struct {
	max int64 // negative for no limit

	mu      sync.Mutex
	used    int64
	waiting []*waiter
}

// waiter wants more bytes than the ones it has.
type waiter struct {
	has, more int64
	admitted  chan struct{}
}

// take takes more bytes for somebody who has some. If there are not as many, it
// waits until others gave theirs back, and returns false when it may not wait any
// longer.
func (s *share) take(ctx context.Context, has, more int64, wait time.Duration) bool {
	s.mu.Lock()
	if s.admit(has, more) {
		s.mu.Unlock()
		return true
	}
	w := &waiter{has, more, make(chan struct{})}
	s.waiting = append(s.waiting, w)
	s.mu.Unlock()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-w.admitted:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.waiting, w)
	if i < 0 {
		return true // it was admitted just now
	}
	s.waiting = slices.Delete(s.waiting, i, i+1)
	return false
}

// admit takes more bytes for somebody who has some, if there are as many.
func (s *share) admit(has, more int64) bool {
	if s.max >= 0 && s.used+more > s.max && s.used > has {
		return false
	}
	s.used += more
	return true
}

// give gives n bytes back.
func (s *share) give(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= n
	s.waiting = slices.DeleteFunc(s.waiting, func(w *waiter) bool {
		if !s.admit(w.has, w.more) {
			return false
		}
		close(w.admitted)
		return true
	})
}

// claim is the part of a room that one manifest has. The zero claim is of no room,
// and never full.
type claim struct {
	room *room
	in   *share
	n    int64
}

// add claims n bytes more, which have come, of a body that has until some time.
func (c *claim) add(ctx context.Context, n int64, until time.Time) error {
	if c.room == nil || n == 0 {
		return nil
	}
	wait := c.room.wait
	if wait < 0 {
		wait = math.MaxInt64
	}
	if !until.IsZero() {
		wait = min(wait, max(time.Until(until), 0))
	}
	if c.in == nil {
		c.in = &c.room.small
	}
	if c.in == &c.room.small && c.n+n > smallManifest {
		if !c.room.large.take(ctx, 0, c.n+n, wait) {
			return errNoRoom(c.room.wait)
		}
		c.in.give(c.n)
		c.in = &c.room.large
	} else if !c.in.take(ctx, c.n, n, wait) {
		return errNoRoom(c.room.wait)
	}
	c.n += n
	return nil
}

// end gives everything back.
func (c *claim) end() {
	if c.in != nil {
		c.in.give(c.n)
		c.in, c.n = nil, 0
	}
}

// errNoRoom is answered when there are too many manifests. The client is asked to
// come again when as much time has passed as it has waited.
func errNoRoom(wait time.Duration) error {
	after := http.Header{"Retry-After": {strconv.Itoa(int(max(wait.Round(time.Second), time.Second) / time.Second))}}
	err := ociregistry.NewError("too many manifests are on their way", "UNAVAILABLE", nil)
	return ociregistry.NewHTTPError(err, http.StatusServiceUnavailable, &http.Response{Header: after}, nil)
}
