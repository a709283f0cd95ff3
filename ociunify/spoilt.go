package ociunify

import (
	"context"
	"sync"

	"github.com/seed-40b21970/oci/ociregistry"
)

// spoilt has what is damaged in the cache registry and cannot be deleted there, or is
// not yet. It is as if it were not there.
type spoilt struct {
	purging sync.Mutex // so that what replaces something comes after the delete

	mu     sync.Mutex
	holds  map[holding]bool
	purges int // how many have gone
}

func (s *spoilt) has(h holding) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holds[h]
}

func (s *spoilt) purged() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.purges
}

// add notes that h is damaged, which was found out when so many had gone. It reports
// whether that still holds: if another one has gone since, it may have been h.
func (s *spoilt) add(h holding, purged int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.purges != purged {
		return false
	}
	if s.holds == nil || len(s.holds) >= maxRemembered {
		s.holds = make(map[holding]bool)
	}
	s.holds[h] = true
	return true
}

// remove notes that h has gone.
func (s *spoilt) remove(h holding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.holds, h)
	s.purges++
}

// damaged is called when what the cache registry had of h turned out not to be what
// it was asked by. If it is not, it goes, and is fetched again when it is asked for. It
// may have been replaced since it was opened: then it stays, and damaged returns false.
func (c *Cache) damaged(ctx context.Context, h holding, err error) bool {
	c.warn("what is kept is damaged", target{"Read", h.repo, string(h.digest)}, err)
	for {
		purged := c.spoilt.purged()
		if c.isRight(ctx, h) {
			return false
		}
		if c.spoilt.add(h, purged) {
			break
		}
	}
	c.purge(ctx, h)
	return true
}

// isRight reports whether the cache registry has the content of h, from beginning to end.
func (c *Cache) isRight(ctx context.Context, h holding) bool {
	get := c.cache.GetManifest
	if h.kind == kindBlob {
		get = c.cache.GetBlob
	}
	rd, err := get(ctx, h.repo, h.digest)
	if err != nil {
		return false
	}
	defer rd.Close()
	hash := h.digest.Algorithm().Hash()
	n, err := copyBuffered(hash, rd)
	size := rd.Descriptor().Size
	return err == nil && (size < 0 || size == n) && isSum(hash, h.digest)
}

// purge makes place for the content of h, if what is there is damaged. It reports
// whether that worked.
func (c *Cache) purge(ctx context.Context, h holding) bool {
	if !c.spoilt.has(h) {
		return true
	}
	c.spoilt.purging.Lock()
	defer c.spoilt.purging.Unlock()
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
	c.spoilt.remove(h)
	return true
}

// unknown returns the error for what is not there.
func (h holding) unknown() error {
	if h.kind == kindBlob {
		return ociregistry.ErrBlobUnknown
	}
	return ociregistry.ErrManifestUnknown
}
