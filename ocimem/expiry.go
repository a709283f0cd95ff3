package ocimem

import (
	"maps"
	"slices"
	"time"
	"weak"
)

// Sessions that are idle for too long are swept away, all by one timer. It runs
// only when there have been sessions since it last went off: to start and stop
// one for each session would cost more than many an upload. It does not keep the
// registry in memory.

// sweepAfter lets a sweep come.
func (r *Registry) sweepAfter(d time.Duration) {
	ref := weak.Make(r)
	time.AfterFunc(d, func() {
		if r := ref.Value(); r != nil {
			r.sweep()
		}
	})
}

// sweep ends the sessions that have been idle for too long, and lets the next
// sweep come when that may be true of another, or a little later if many are
// about to follow each other.
func (r *Registry) sweep() {
	expiry := r.cfg.UploadExpiry
	next := expiry // as long as a session can have that is opened meanwhile
	r.uploads.mu.Lock()
	uploads := slices.Collect(maps.Values(r.uploads.open))
	r.uploads.mu.Unlock()
	for _, u := range uploads {
		next = min(next, u.expire(expiry))
	}
	r.uploads.mu.Lock()
	defer r.uploads.mu.Unlock()
	r.uploads.sweeping = len(r.uploads.open) > 0
	if r.uploads.sweeping {
		r.sweepAfter(max(next, expiry/64))
	}
}

// expire ends the session if it has been idle for as long as expiry; else it
// returns after what time it may have been.
func (u *upload) expire(expiry time.Duration) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.buffer == nil {
		return expiry
	}
	if idle := time.Since(u.touched); idle < expiry {
		return expiry - idle
	}
	u.end().free()
	return expiry
}
