package ociunify

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// maxRemembered bounds what is remembered of tags, and of what is absent. Beyond
// it all is forgotten, which costs the origin some requests.
const maxRemembered = 1 << 16

// absences has what the origin said it does not have.
type absences struct {
	mu   sync.Mutex
	errs map[key]absence
}

type absence struct {
	err   error
	until time.Time
}

// put remembers err, if it says that there is no such thing.
func (a *absences) put(k key, err error, ttl time.Duration) {
	if ttl <= 0 || !notFound(err) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.errs == nil || len(a.errs) >= maxRemembered {
		a.errs = make(map[key]absence)
	}
	a.errs[k] = absence{err, time.Now().Add(ttl)}
}

// get returns the error that is remembered.
func (a *absences) get(k key) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e, ok := a.errs[k]; ok && time.Now().Before(e.until) {
		return e.err
	}
	return nil
}

// failed is told why something could not be fetched.
func (c *Cache) failed(ctx context.Context, k key, err error) {
	c.absent.put(k, err, c.opts.NotFoundTTL)
	if down(err) && err != errSpool {
		c.retry(ctx, k)
	}
}

// retry makes something be fetched again in the background, if that is wanted,
// and is not going to happen anyway.
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

// fetchAgain fetches something again and again, until the origin answers.
func (c *Cache) fetchAgain(ctx context.Context, k key) {
	delay := c.opts.RetryDelay
	var err error
	for range c.opts.MaxRetries {
		wait := time.NewTimer(delay)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return
		}
		var desc ociregistry.Descriptor
		if desc, err = c.read(ctx, k); err == nil && k.kind != kindBlob {
			c.bringWhole(ctx, k.repo, desc.Digest)
		}
		if !down(err) || ctx.Err() != nil {
			return
		}
		delay *= 2
	}
	c.log.Warn("the origin fails; no more retries", slog.String("repo", k.repo), slog.String("ref", k.ref), slog.Any("error", err))
}

// read reads something to its end, as a caller would.
func (c *Cache) read(ctx context.Context, k key) (desc ociregistry.Descriptor, err error) {
	var rd ociregistry.BlobReader
	switch k.kind {
	case kindBlob:
		rd, err = c.GetBlob(ctx, k.repo, ociregistry.Digest(k.ref))
	case kindManifest:
		rd, err = c.GetManifest(ctx, k.repo, ociregistry.Digest(k.ref))
	default:
		rd, err = c.GetTag(ctx, k.repo, k.ref)
	}
	if err != nil {
		return desc, err
	}
	defer rd.Close()
	_, err = io.Copy(io.Discard, rd)
	return rd.Descriptor(), err
}
