package ocicopy

import (
	"context"
	"sync"

	"github.com/seed-40b21970/oci/ociregistry"
)

// shared lets copies to one registry share blobs: one of them copies a blob that several
// need, and the others find it or mount it. Only copies from the same source wait for
// each other, because another source may stall. A nil shared is for a single copy.
type shared struct {
	mu    sync.Mutex
	busy  map[busyBlob]chan struct{}    // closed when the copy is done
	repos map[ociregistry.Digest]string // a repository that has the blob
}

// busyBlob is a blob that is being copied from a source.
type busyBlob struct {
	by     any
	digest ociregistry.Digest
}

// maxShared is the maximum number of blobs to remember, which take a few megabytes.
// Blobs that are forgotten are copied again where they could have been mounted.
const maxShared = 1 << 14

func newShared() *shared {
	return &shared{
		busy:  make(map[busyBlob]chan struct{}),
		repos: make(map[ociregistry.Digest]string),
	}
}

// acquire waits until no other copy from the same source copies a blob. The caller then
// copies it, and calls done with the repository that has the blob, or with "".
func (s *shared) acquire(ctx context.Context, by any, digest ociregistry.Digest) (done func(repo string), err error) {
	if s == nil {
		return func(string) {}, nil
	}
	blob, mine := busyBlob{by, digest}, make(chan struct{})
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

func (s *shared) done(blob busyBlob, repo string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.busy[blob])
	delete(s.busy, blob)
	if repo == "" {
		return
	}
	if len(s.repos) >= maxShared {
		clear(s.repos)
	}
	s.repos[blob.digest] = repo
}

// where returns a repository that has a blob, or "" if none is known.
func (s *shared) where(digest ociregistry.Digest) string {
	if s == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.repos[digest]
}

// confirmed has the blobs that the destination was found to have in a pass of a mirror,
// to ask once for blobs of several images. A nil confirmed has none.
type confirmed struct {
	mu    sync.Mutex
	blobs map[confirmedKey]bool
}

type confirmedKey struct {
	repo   string
	digest ociregistry.Digest
	size   int64 // the size in the manifest
}

// maxConfirmed is the maximum number of blobs to remember. The destination is asked
// again for those that are forgotten.
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
