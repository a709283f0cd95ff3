package repos

import "github.com/seed-40b21970/oci/ociregistry"

// Known is a link that was read and was there.
type Known struct {
	Nonce string
	Size  int64
	AsOf  AsOf // when it was read
}

// AsOf is what a process knew before it read a link.
type AsOf struct {
	epoch  int
	number uint64 // of the state
}

// AsOf returns what is to be asked for before a link is read that is to be known. The state must
// have been loaded.
func (r *Repository) AsOf() AsOf {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.state == nil {
		return AsOf{epoch: -1}
	}
	return AsOf{r.epoch, r.state.number}
}

// HasManifests reports whether the repository had manifests when it was read last, and what was known then.
func (r *Repository) HasManifests() (AsOf, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.state == nil || r.state.Count() == 0 {
		return AsOf{}, false
	}
	return AsOf{r.epoch, r.state.number}, true
}

// HadManifestsSince reports whether the repository had manifests all the time since HasManifests said that it has.
func (r *Repository) HadManifestsSince(a AsOf) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.state != nil && r.epoch == a.epoch && r.state.Count() > 0 && r.state.emptied <= a.number
}

// maxKnown is how many links of a repository a process knows at most, and deletes.
const maxKnown = 1 << 16

// Known returns a link that the process knows.
func (r *Repository) Known(digest ociregistry.Digest) (Known, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	k, ok := r.known[digest]
	return k, ok
}

// Learn notes that a link was read and is there, unless the state was loaded anew since.
func (r *Repository) Learn(digest ociregistry.Digest, k Known) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k.AsOf.epoch != r.epoch {
		return
	}
	if len(r.known) >= maxKnown {
		clear(r.known)
	}
	r.known[digest] = k
}

// Forget forgets a link.
func (r *Repository) Forget(digest ociregistry.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, digest)
}

// KnowsDead reports whether the delete of a link is known to be recorded.
func (r *Repository) KnowsDead(nonce string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.state == nil {
		return false
	}
	_, dead := r.state.dead[nonce]
	return dead
}
