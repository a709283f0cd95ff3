package ociauth

import "time"

const (
	// refusalMemory is how long the transport does not ask a token server again for a
	// token that it refused, if another token sufficed, and how long it does not ask the
	// Config again for an account that could not meet what the registry wants.
	refusalMemory = time.Minute

	// maxRefusals bounds how many refusals are remembered for one registry.
	maxRefusals = 1024
)

// refusals has the keys of tokens that a token server refused, each with the time until
// which nobody asks again.
type refusals map[tokenKey]time.Time

// note adds keys.
func (r *refusals) note(keys []tokenKey, now time.Time) {
	if *r == nil || len(*r)+len(keys) > maxRefusals {
		*r = make(refusals)
	}
	for _, key := range keys {
		(*r)[key] = now.Add(refusalMemory)
	}
}

// has reports whether a key was refused lately.
func (r *refusals) has(key tokenKey, now time.Time) bool { return now.Before((*r)[key]) }

// isExcess reports whether the token server lately refused a token with a key for more
// than was needed.
func (r *registry) isExcess(key tokenKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.excess.has(key, time.Now())
}

// noteExcess notes that the token server refused tokens, and that one for less
// sufficed.
func (r *registry) noteExcess(keys []tokenKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.excess.note(keys, time.Now())
}
