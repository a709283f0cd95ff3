package ocimem

import (
	"maps"
	"slices"
	"time"
	"weak"
)

// One timer sweeps all sessions that have been idle for too long. A timer for each
// session would cost more than a small upload. The timer runs only if there have been
// sessions since it last fired, and it does not keep the registry in memory.

// sweepAfter schedules a sweep.
func (r *Registry) sweepAfter(d time.Duration) {
	ref := weak.Make(r)
	time.AfterFunc(d, func() {
		if r := ref.Value(); r != nil {
			r.sweep()
		}
	})
}

// sweep ends the sessions that have been idle for too long. It schedules the next sweep
// for the time when another session may have expired, or a little later, so that sweeps
// do not follow each other closely.
func (r *Registry) sweep() {
	expiry := r.cfg.UploadExpiry
	next := expiry // of a session that is opened in the meantime
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

// expire ends the session if it has been idle for the time expiry. It returns the time
// after which the session must be looked at again.
func (u *upload) expire(expiry time.Duration) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.buffer == nil {
		return expiry
	}
	if idle := u.registry.now().Sub(u.touched); idle < expiry {
		return expiry - idle
	}
	u.end().free()
	return expiry
}
