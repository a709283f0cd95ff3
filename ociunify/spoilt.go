package ociunify

import (
	"context"
	"sync"

	"github.com/seed-40b21970/oci/ociregistry"
)

// spoilt has what is damaged in the cache registry and cannot be deleted there. It is
// as if it were not there.
type spoilt struct {
	mu    sync.Mutex
	holds map[holding]bool
}

func (s *spoilt) has(h holding) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holds[h]
}

func (s *spoilt) set(h holding, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !is {
		delete(s.holds, h)
		return
	}
	if s.holds == nil || len(s.holds) >= maxRemembered {
		s.holds = make(map[holding]bool)
	}
	s.holds[h] = true
}

// damaged is called when what the cache registry has of h turned out not to be what
// it was asked by. It goes, and is fetched again when it is asked for.
func (c *Cache) damaged(ctx context.Context, h holding, err error) {
	c.warn("what is kept is damaged", target{"Read", h.repo, string(h.digest)}, err)
	c.spoilt.set(h, true)
	c.purge(ctx, h)
}

// purge makes place for the content of h, if what is there is damaged. It reports
// whether that worked.
func (c *Cache) purge(ctx context.Context, h holding) bool {
	if !c.spoilt.has(h) {
		return true
	}
	drop := c.dropManifest
	if h.kind == kindBlob {
		drop = c.dropBlob
	}
	if !drop(ctx, h.repo, h.digest) {
		return false
	}
	c.spoilt.set(h, false)
	return true
}

// unknown returns the error for what is not there.
func (h holding) unknown() error {
	if h.kind == kindBlob {
		return ociregistry.ErrBlobUnknown
	}
	return ociregistry.ErrManifestUnknown
}
