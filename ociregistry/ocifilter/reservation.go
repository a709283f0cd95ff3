package ocifilter

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/seed-40b21970/oci/ociregistry"
)

// limit is a rule, and the room that is reserved for what is on its way.
type limit struct {
	QuotaRule
	usage ociregistry.UsageReporter

	mu        sync.Mutex
	reserved  int64
	finishing int64         // the part of reserved that the registry may already count
	released  int64         // of what was reserved, ever: the registry may count it since
	changed   chan struct{} // closed and replaced when finishing becomes less
}

func (l *limit) covers(repo string) bool {
	rest, ok := strings.CutPrefix(repo, l.Prefix)
	return ok && (l.Prefix == "" || rest == "" || rest[0] == '/')
}

// acquire reserves n bytes, or returns an error that wraps [ociregistry.ErrDenied].
func (l *limit) acquire(ctx context.Context, n int64) error {
	for {
		wait, err := l.tryAcquire(ctx, n, n)
		if wait == nil {
			return err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tryAcquire reserves some bytes if there is room for n. If there may be room when a push
// that is finishing has ended, it returns a channel to wait for that. Such a push waits for the
// registry, and for no client.
func (l *limit) tryAcquire(ctx context.Context, n, reserve int64) (wait chan struct{}, err error) {
	for {
		before := l.releasedBefore()
		used, err := l.usage.Usage(ctx, l.Prefix) // which may take its time
		if err != nil {
			return nil, err
		}
		wait, again, err := l.tryWith(used, before, n, reserve)
		if !again {
			return wait, err
		}
	}
}

func (l *limit) releasedBefore() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.released
}

// tryWith is tryAcquire when the registry used so many bytes, at a time after so many had been released. What
// was released since may be among them, or not: if that matters, the registry is to be asked again.
func (l *limit) tryWith(used, before, n, reserve int64) (wait chan struct{}, again bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	unsure := l.released - before
	room := l.MaxBytes - used - l.reserved
	switch {
	case n <= room-unsure:
		l.reserved += reserve
		return nil, false, nil
	case n <= room && unsure > 0:
		return nil, true, nil
	case n <= room+l.finishing:
		return l.changed, false, nil
	}
	whose := l.Prefix
	if whose == "" {
		whose = "the registry"
	}
	return nil, false, fmt.Errorf("%w: the quota of %s is %d bytes; %d are used, and %d more do not fit",
		ociregistry.ErrDenied, whose, l.MaxBytes, used+l.reserved-l.finishing, n)
}

// reservation is room for a push in all limits that cover its repository.
type reservation struct {
	limits []*limit

	mu       sync.Mutex // for Close and Cancel from another goroutine
	n        int64
	finished bool
}

func (q *quota) reservation(repo string) *reservation {
	v := new(reservation)
	for _, l := range q.limits {
		if l.covers(repo) {
			v.limits = append(v.limits, l)
		}
	}
	return v
}

// check returns an error if there is no room for n bytes. It reserves nothing.
func (v *reservation) check(ctx context.Context, n int64) error {
	for _, l := range v.limits {
		if _, err := l.tryAcquire(ctx, n, 0); err != nil {
			return err
		}
	}
	return nil
}

// grow reserves n more bytes, in all limits or none.
func (v *reservation) grow(ctx context.Context, n int64) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if n == 0 {
		return nil
	}
	for i, l := range v.limits {
		if err := l.acquire(ctx, n); err != nil {
			for _, l := range v.limits[:i] {
				l.release(n, 0)
			}
			return err
		}
	}
	v.n += n
	return nil
}

// finish notes that all that will be reserved has arrived.
func (v *reservation) finish() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.finished {
		return
	}
	v.finished = true
	for _, l := range v.limits {
		l.mu.Lock()
		l.finishing += v.n
		l.mu.Unlock()
	}
}

// release ends the reservation, which can then grow again.
func (v *reservation) release() {
	v.mu.Lock()
	defer v.mu.Unlock()
	finishing := int64(0)
	if v.finished {
		finishing = v.n
	}
	for _, l := range v.limits {
		l.release(v.n, finishing)
	}
	v.n, v.finished = 0, false
}

func (l *limit) release(n, finishing int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reserved -= n
	l.released += n
	l.finishing -= finishing
	close(l.changed)
	l.changed = make(chan struct{})
}
