package ociunify

import (
	"context"
	"io"
	"sync"

	"github.com/seed-40b21970/oci/internal/verified"
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
	return c.spoil(ctx, h, err, func() bool { return c.isRight(ctx, h) })
}

// damagedRange is damaged for a range that did not have as many bytes as it should.
func (c *Cache) damagedRange(ctx context.Context, h holding, offset0, offset1 int64, err error) bool {
	return c.spoil(ctx, h, err, func() bool { return c.hasRange(ctx, h, offset0, offset1) })
}

// spoil is damaged, with what finds out whether something else is there now.
func (c *Cache) spoil(ctx context.Context, h holding, err error, right func() bool) bool {
	c.warn("what is kept is damaged", target{"Read", h.repo, string(h.digest)}, err)
	for {
		purged := c.spoilt.purged()
		switch {
		case right():
			return false
		case ctx.Err() != nil: // that was not found out
			return true
		case c.spoilt.add(h, purged):
			c.purge(ctx, h)
			return true
		}
	}
}

// isRight reports whether the cache registry has the content of h, from beginning to
// end, or nothing.
func (c *Cache) isRight(ctx context.Context, h holding) bool {
	get := c.cache.GetManifest
	if h.kind == kindBlob {
		get = c.cache.GetBlob
	}
	rd, err := get(ctx, h.repo, h.digest)
	if err != nil {
		return notFound(err)
	}
	defer rd.Close()
	hash := h.digest.Algorithm().Hash()
	n, err := copyBuffered(hash, rd)
	size := rd.Descriptor().Size
	return err == nil && (size < 0 || size == n) && verified.IsSum(h.digest, hash.Sum(nil))
}

// hasRange reports whether the cache registry has as many bytes of a blob as there are
// in a range, or nothing.
func (c *Cache) hasRange(ctx context.Context, h holding, offset0, offset1 int64) bool {
	rd, err := c.cache.GetBlobRange(ctx, h.repo, h.digest, offset0, offset1)
	if err != nil {
		return notFound(err)
	}
	defer rd.Close()
	n, err := copyBuffered(io.Discard, rd)
	return err == nil && n == offset1-offset0
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
