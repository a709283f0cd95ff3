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

// smallManifest is the size in bytes of the largest manifest that counts as small.
const smallManifest = 64 << 10

// manifestMemory bounds the memory for manifests of requests in progress. Half of it is
// for small manifests, which nearly all are, so that a few large ones that stall do not
// keep out the small ones, nor the small ones the large.
type manifestMemory struct {
	small, large budget
	wait         time.Duration // the time to wait for memory; negative for no limit
}

// newManifestMemory returns a manifestMemory of the given number of bytes, or an
// unlimited one if that is negative.
func newManifestMemory(bytes int64, wait time.Duration) *manifestMemory {
	half := (bytes + 1) / 2
	if bytes < 0 {
		half = -1
	}
	return &manifestMemory{budget{max: half}, budget{max: half}, wait}
}

// budget is a number of bytes that several reservations share. A reservation may exceed
// it if there is no other.
type budget struct {
	max int64 // negative for no limit

	mu      sync.Mutex
	used    int64
	waiting []*waiter
}

// waiter waits for more bytes.
type waiter struct {
	has, more int64
	admitted  chan struct{}
}

// acquire acquires more bytes for a reservation that already has some. If there are not
// enough, it waits until others are released. It returns false when ctx ends or when it
// has waited for the given time.
func (b *budget) acquire(ctx context.Context, has, more int64, wait time.Duration) bool {
	b.mu.Lock()
	if b.admit(has, more) {
		b.mu.Unlock()
		return true
	}
	w := &waiter{has, more, make(chan struct{})}
	b.waiting = append(b.waiting, w)
	b.mu.Unlock()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-w.admitted:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.waiting, w)
	if i < 0 {
		return true // it has just been admitted
	}
	b.waiting = slices.Delete(b.waiting, i, i+1)
	return false
}

// admit acquires more bytes for a reservation that already has some, if there are
// enough. The lock is held.
func (b *budget) admit(has, more int64) bool {
	if b.max >= 0 && b.used+more > b.max && b.used > has {
		return false
	}
	b.used += more
	return true
}

// release releases n bytes.
func (b *budget) release(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	b.waiting = slices.DeleteFunc(b.waiting, func(w *waiter) bool {
		if !b.admit(w.has, w.more) {
			return false
		}
		close(w.admitted)
		return true
	})
}

// reservation is the memory of one manifest. The zero reservation is unlimited.
type reservation struct {
	memory *manifestMemory
	from   *budget
	n      int64
}

// grow reserves n bytes more, which have arrived. The time for the whole body ends at
// until, if that is not zero.
func (c *reservation) grow(ctx context.Context, n int64, until time.Time) error {
	if c.memory == nil || n == 0 {
		return nil
	}
	wait := c.memory.wait
	if wait < 0 {
		wait = math.MaxInt64
	}
	if !until.IsZero() {
		wait = min(wait, max(time.Until(until), 0))
	}
	if c.from == nil {
		c.from = &c.memory.small
	}
	if c.from == &c.memory.small && c.n+n > smallManifest {
		if !c.memory.large.acquire(ctx, 0, c.n+n, wait) {
			return errNoMemory(c.memory.wait)
		}
		c.from.release(c.n)
		c.from = &c.memory.large
	} else if !c.from.acquire(ctx, c.n, n, wait) {
		return errNoMemory(c.memory.wait)
	}
	c.n += n
	return nil
}

// release releases all bytes.
func (c *reservation) release() {
	if c.from != nil {
		c.from.release(c.n)
		c.from, c.n = nil, 0
	}
}

// errNoMemory returns the error for a manifest that has waited in vain for memory. It
// asks the client to wait as long again before the next attempt.
func errNoMemory(wait time.Duration) error {
	after := http.Header{"Retry-After": {strconv.Itoa(int(max(wait.Round(time.Second), time.Second) / time.Second))}}
	err := ociregistry.NewError("too many manifests are on their way", "UNAVAILABLE", nil)
	return ociregistry.NewHTTPError(err, http.StatusServiceUnavailable, &http.Response{Header: after}, nil)
}
