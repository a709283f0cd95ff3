package ociunify

import (
	"context"
	"io"
	"sync"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// damageSet has the content of the cache registry that is damaged and has not been
// deleted yet, or cannot be. The cache treats it as missing.
type damageSet struct {
	purging sync.Mutex // held during a delete, so that a replacement comes after it

	mu       sync.Mutex
	holdings map[holding]bool
	purges   int // the number of deletions so far
}

func (s *damageSet) has(h holding) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holdings[h]
}

func (s *damageSet) purged() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.purges
}

// add notes that h is damaged, which was found out after purged deletions. If there
// has been another one since, which may have deleted h, it returns false.
func (s *damageSet) add(h holding, purged int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.purges != purged {
		return false
	}
	if s.holdings == nil || len(s.holdings) >= maxRemembered {
		s.holdings = make(map[holding]bool)
	}
	s.holdings[h] = true
	return true
}

// remove notes that h has been deleted.
func (s *damageSet) remove(h holding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.holdings, h)
	s.purges++
}

// damaged is called when a reader of h, in the cache registry, found wrong content. It
// deletes h, which is then fetched again when it is next asked for. But if h was
// replaced since the reader was opened, and is right now, damaged returns false.
func (c *Cache) damaged(ctx context.Context, h holding, err error) bool {
	return c.reportDamage(ctx, h, err, func() bool { return c.isRight(ctx, h) })
}

// damagedRange is damaged for a range that is shorter than it should be.
func (c *Cache) damagedRange(ctx context.Context, h holding, offset0, offset1 int64, err error) bool {
	return c.reportDamage(ctx, h, err, func() bool { return c.hasRange(ctx, h, offset0, offset1) })
}

// reportDamage is damaged with a function that reports whether h is right now.
func (c *Cache) reportDamage(ctx context.Context, h holding, err error, right func() bool) bool {
	c.warn("what is kept is damaged", call.New("Read", h.repo, string(h.digest)), err)
	for {
		purged := c.damage.purged()
		switch {
		case right():
			return false
		case ctx.Err() != nil: // right could not find out
			return true
		case c.damage.add(h, purged):
			c.purge(ctx, h)
			return true
		}
	}
}

// isRight reports whether the cache registry has exactly the content of h, or nothing.
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

// hasRange reports whether the cache registry has all bytes of a range, or no such blob.
func (c *Cache) hasRange(ctx context.Context, h holding, offset0, offset1 int64) bool {
	rd, err := c.cache.GetBlobRange(ctx, h.repo, h.digest, offset0, offset1)
	if err != nil {
		return notFound(err)
	}
	defer rd.Close()
	n, err := copyBuffered(io.Discard, rd)
	return err == nil && n == offset1-offset0
}

// purge deletes the content of h if it is damaged, so that it can be replaced. It
// reports whether h can now be pushed.
func (c *Cache) purge(ctx context.Context, h holding) bool {
	if !c.damage.has(h) {
		return true
	}
	c.damage.purging.Lock()
	defer c.damage.purging.Unlock()
	if !c.damage.has(h) {
		return true
	}
	drop := c.dropManifest
	if h.kind == kindBlob {
		drop = c.dropBlob
	}
	if !drop(ctx, h.repo, h.digest) {
		return false
	}
	c.damage.remove(h)
	return true
}

// unknown returns the error that says that h does not exist.
func (h holding) unknown() error {
	if h.kind == kindBlob {
		return ociregistry.ErrBlobUnknown
	}
	return ociregistry.ErrManifestUnknown
}
