package ocicopy

import (
	"context"
	"sync"

	"github.com/seed-40b21970/oci/ociregistry"
)

// shared is what copies to one registry know of each other's blobs: one fetches
// what several of them need, and the others find it there or mount it from where
// it is. Only copies from one source wait for each other: another may stall. A nil
// shared is for a copy alone.
type shared struct {
	mu   sync.Mutex
	busy map[held]chan struct{}        // closed when it is no longer
	at   map[ociregistry.Digest]string // the repository that has it
}

// held is a blob that copies from a source are busy with.
type held struct {
	by     any
	digest ociregistry.Digest
}

// maxShared bounds how many blobs are remembered, to a few megabytes. What is
// forgotten is copied again where it could have been mounted.
const maxShared = 1 << 14

func newShared() *shared {
	return &shared{
		busy: make(map[held]chan struct{}),
		at:   make(map[ociregistry.Digest]string),
	}
}

// hold waits until no other copy from the same source is busy with a blob. Then the
// caller is, until it calls done with the repository that has the blob, or with "".
func (s *shared) hold(ctx context.Context, by any, digest ociregistry.Digest) (done func(repo string), err error) {
	if s == nil {
		return func(string) {}, nil
	}
	blob, mine := held{by, digest}, make(chan struct{})
	for {
		s.mu.Lock()
		other := s.busy[blob]
		if other == nil {
			s.busy[blob] = mine
		}
		s.mu.Unlock()
		if other == nil {
			return func(repo string) { s.done(blob, repo) }, nil
		}
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (s *shared) done(blob held, repo string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.busy[blob])
	delete(s.busy, blob)
	if repo == "" {
		return
	}
	if len(s.at) >= maxShared {
		clear(s.at)
	}
	s.at[blob.digest] = repo
}

// where returns the repository that has a blob, or "" if that is not known.
func (s *shared) where(digest ociregistry.Digest) string {
	if s == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at[digest]
}

// confirmed are blobs that the destination was seen to have in a pass of a mirror:
// several images of a repository are asked for once. A nil confirmed has none.
type confirmed struct {
	mu    sync.Mutex
	blobs map[confirmedKey]bool
}

type confirmedKey struct {
	repo   string
	digest ociregistry.Digest
	size   int64 // that a manifest says it has
}

// maxConfirmed bounds how many are remembered. What is forgotten is asked for again.
const maxConfirmed = 1 << 16

func (c *confirmed) has(key confirmedKey) bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.blobs[key]
}

func (c *confirmed) add(key confirmedKey) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.blobs == nil || len(c.blobs) >= maxConfirmed {
		c.blobs = make(map[confirmedKey]bool)
	}
	c.blobs[key] = true
}
