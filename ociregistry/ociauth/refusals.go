package ociauth

import "time"

const (
	// refusalMemory is for how long a token server is not asked again for a token that
	// it refused, where another one would do; and the Config not for an account that
	// could not do what the registry wants.
	refusalMemory = time.Minute

	// maxRefusals bounds how many refusals are remembered for one registry.
	maxRefusals = 1024
)

// refusals are the tokens that a token server has refused, by until when nobody asks
// for them again.
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

// has reports whether a key was refused.
func (r *refusals) has(key tokenKey, now time.Time) bool { return now.Before((*r)[key]) }

// wasRefused reports whether there is no use in asking for a token with a key, if
// another one will do.
func (r *registry) wasRefused(key tokenKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.needless.has(key, time.Now())
}

// refusedInVain notes that tokens were refused in whose place another one will do.
func (r *registry) refusedInVain(keys []tokenKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.needless.note(keys, time.Now())
}
