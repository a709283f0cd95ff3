package ociunify

import (
	"sync"
	"time"
)

// maxRemembered is the maximum number of entries in each map of what is remembered:
// tags, content that does not exist, stalls, and so on. A map that is full is emptied,
// which costs the origin some requests.
const maxRemembered = 1 << 16

// absences remembers the errors by which the origin said that content does not exist.
type absences struct {
	mu   sync.Mutex
	errs map[key]absence
}

type absence struct {
	err   error
	until time.Time
}

// put remembers err for a time, if it says that the content does not exist.
func (a *absences) put(k key, err error, ttl time.Duration) {
	if ttl <= 0 || !notFound(err) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.errs == nil || len(a.errs) >= maxRemembered {
		a.errs = make(map[key]absence)
	}
	a.errs[k] = absence{err, time.Now().Add(ttl)}
}

// get returns the error that is remembered, or nil.
func (a *absences) get(k key) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e, ok := a.errs[k]; ok && time.Now().Before(e.until) {
		return e.err
	}
	return nil
}
