package ociunify

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
)

// failed is called when something could not be fetched, because of err.
func (c *Cache) failed(ctx context.Context, k key, err error) {
	c.absent.put(k, err, c.opts.NotFoundTTL)
	if down(err) && err != errSpool {
		c.retry(ctx, k)
	}
}

// retry fetches something again in the background, if the options say so and nothing
// else already does.
func (c *Cache) retry(ctx context.Context, k key) {
	k.changes = 0
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opts.RetryDelay <= 0 || c.closed || c.retries[k] {
		return
	}
	c.retries[k] = true
	c.working.Add(1)
	t := c.detach(ctx)
	go func() {
		defer c.working.Done()
		defer t.end()
		c.fetchAgain(t, k)
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.retries, k)
	}()
}

// fetchAgain tries to fetch something until the origin answers, or there are no more
// attempts.
func (c *Cache) fetchAgain(ctx context.Context, k key) {
	delay := c.opts.RetryDelay
	var err error
	for range c.opts.Attempts - 1 {
		wait := time.NewTimer(delay)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return
		}
		var desc ociregistry.Descriptor
		if desc, err = c.read(ctx, k); err == nil && k.kind != kindBlob {
			c.fetchImage(ctx, k.repo, desc.Digest)
		}
		if !down(err) || ctx.Err() != nil {
			return
		}
		delay *= 2
	}
	c.log.Warn("the origin failed; no more retries", slog.String("repository", k.repo), slog.String("ref", k.ref), slog.Any("error", err))
}

// read reads something to its end through the cache, as a caller would.
func (c *Cache) read(ctx context.Context, k key) (desc ociregistry.Descriptor, err error) {
	var rd ociregistry.BlobReader
	switch k.kind {
	case kindBlob:
		rd, _, err = c.getBlob(ctx, k.repo, ociregistry.Digest(k.ref))
	case kindManifest:
		rd, _, err = c.getManifest(ctx, call.New("GetManifest", k.repo, k.ref))
	default:
		rd, _, err = c.getTag(ctx, call.New("GetTag", k.repo, k.ref))
	}
	if err != nil {
		return desc, err
	}
	defer rd.Close()
	_, err = io.Copy(io.Discard, rd)
	return rd.Descriptor(), err
}
