package ociunify

import (
	"context"
	"errors"
	"io"

	"github.com/seed-40b21970/oci/ociregistry"
)

// visible returns an error for the repository that has the cache's records.
func (t target) visible() error {
	if t.repo == stateRepo {
		return t.fail(ociregistry.ErrNameUnknown)
	}
	return nil
}

// byDigest checks the arguments of a call. Reading checks first only that the
// repository is visible: for a hit, the cache registry has done the rest.
func (t target) byDigest() error {
	if err := t.checkDigest(); err != nil {
		return err
	}
	return t.visible()
}

// GetBlob implements [ociregistry.Reader.GetBlob]. A hit does next to nothing, so
// that it takes no longer than the cache registry does.
func (c *Cache) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	if repo == stateRepo || c.fetching.Load() > 0 {
		rd, err := c.fetchedRange(ctx, target{"GetBlob", repo, string(digest)}, 0, -1)
		if err != errNoFetch {
			return rd, err
		}
	}
	rd, err := c.cachedBlob(ctx, repo, digest)
	if err != nil {
		return c.missedBlob(ctx, target{"GetBlob", repo, string(digest)}, err)
	}
	return rd, nil
}

// cachedBlob returns a blob from the cache registry.
func (c *Cache) cachedBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	rd, err := c.kept.GetBlob(ctx, repo, digest)
	if err == nil && !c.ledger.touch(kindBlob, repo, digest, rd) {
		rd.Close()
		h := holding{kindBlob, repo, digest}
		if c.damaged(ctx, h, ociregistry.ErrSizeInvalid) {
			return nil, h.unknown()
		}
		c.ledger.drop(ctx, kindBlob, repo, digest) // the record is wrong
		return c.kept.GetBlob(ctx, repo, digest)
	}
	return rd, err
}

// missedBlob returns a blob that the cache registry did not return, because of err.
func (c *Cache) missedBlob(ctx context.Context, at target, err error) (ociregistry.BlobReader, error) {
	c.miss(ctx, at, err)
	if err := at.checkDigest(); err != nil {
		return nil, err
	}
	return c.fetchBlob(ctx, at)
}

// GetBlobRange implements [ociregistry.Reader.GetBlobRange]. The origin is asked
// for a range of what is neither there nor being fetched; all other content of
// the blob stays there.
func (c *Cache) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	if offset0 == 0 && offset1 < 0 {
		return c.GetBlob(ctx, repo, digest)
	}
	at := target{"GetBlobRange", repo, string(digest)}
	if repo == stateRepo || c.fetching.Load() > 0 {
		rd, err := c.fetchedRange(ctx, at, offset0, offset1)
		if err != errNoFetch {
			return rd, err
		}
	}
	rd, err := c.kept.GetBlobRange(ctx, repo, digest, offset0, offset1)
	if err == nil {
		c.ledger.touch(kindBlob, repo, digest, rd)
		return rd, nil
	}
	if errors.Is(err, ociregistry.ErrRangeInvalid) {
		return c.beyondEnd(ctx, at, offset0, offset1, err)
	}
	c.miss(ctx, at, err)
	if err := at.checkDigest(); err != nil {
		return nil, err
	}
	// A fetch may have begun since.
	rd, err = c.fetchedRange(ctx, at, offset0, offset1)
	if err != errNoFetch {
		return rd, err
	}
	if err := c.absent.get(c.key(kindBlob, repo, string(digest))); err != nil {
		return nil, err
	}
	return c.originRange(ctx, at, offset0, offset1)
}

// beyondEnd returns a range that what is kept of a blob does not have, because of err.
// If the origin has it, what is kept is damaged.
func (c *Cache) beyondEnd(ctx context.Context, at target, offset0, offset1 int64, err error) (ociregistry.BlobReader, error) {
	if offset0 < 0 || offset1 >= 0 && offset1 < offset0 {
		return nil, err
	}
	rd, originErr := c.originRange(ctx, at, offset0, offset1)
	if originErr != nil {
		return nil, err
	}
	c.damaged(ctx, holding{kindBlob, at.repo, ociregistry.Digest(at.ref)}, err)
	return rd, nil
}

// originRange returns a range of a blob from the origin.
func (c *Cache) originRange(ctx context.Context, at target, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	quiet := c.quiet(ctx, at)
	rd, err := quiet.opened(c.origin.GetBlobRange(&quiet.task, at.repo, ociregistry.Digest(at.ref), offset0, offset1))
	if err != nil {
		return nil, err
	}
	if rd.desc, err = plausible(at, rd.desc, ociregistry.Digest(at.ref)); err != nil {
		rd.Close()
		return nil, err
	}
	return rd, nil
}

// errNoFetch says that a blob is not being fetched.
var errNoFetch = errors.New("the blob is not being fetched")

// fetchedRange returns a part of a blob that is being fetched, of a visible
// repository. Of that, the cache registry need not be asked.
func (c *Cache) fetchedRange(ctx context.Context, at target, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	if err := at.visible(); err != nil {
		return nil, err
	}
	f, _, err := c.join(ctx, c.key(kindBlob, at.repo, at.ref), false)
	switch {
	case err != nil:
		return nil, at.fail(err)
	case f == nil:
		return nil, errNoFetch
	}
	rd, err := f.follow(ctx, at, offset0, offset1)
	if err == errFound {
		err = errNoFetch
	}
	return rd, err
}

// miss tells of an error of the cache registry that is more than a miss.
func (c *Cache) miss(ctx context.Context, at target, err error) {
	ignored := notFound(err) || errors.Is(err, ociregistry.ErrRangeInvalid) ||
		errors.Is(err, ociregistry.ErrNameInvalid) || errors.Is(err, ociregistry.ErrDigestInvalid)
	if !ignored && ctx.Err() == nil {
		c.warn("cannot read the cache", at, err)
	}
}

// ResolveBlob implements [ociregistry.Reader.ResolveBlob].
func (c *Cache) ResolveBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	at := target{"ResolveBlob", repo, string(digest)}
	if err := at.visible(); err != nil {
		return ociregistry.Descriptor{}, err
	}
	desc, err := c.kept.ResolveBlob(ctx, repo, digest)
	if err == nil {
		return desc, nil
	}
	c.miss(ctx, at, err)
	if err := at.checkDigest(); err != nil {
		return ociregistry.Descriptor{}, err
	}
	k := c.key(kindBlob, repo, string(digest))
	return c.resolve(ctx, at, k, c.origin.ResolveBlob)
}

// ResolveManifest implements [ociregistry.Reader.ResolveManifest].
func (c *Cache) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	at := target{"ResolveManifest", repo, string(digest)}
	if err := at.visible(); err != nil {
		return ociregistry.Descriptor{}, err
	}
	desc, err := c.kept.ResolveManifest(ctx, repo, digest)
	if err == nil {
		return unwrap(desc), nil
	}
	c.miss(ctx, at, err)
	if err := at.checkDigest(); err != nil {
		return ociregistry.Descriptor{}, err
	}
	k := c.key(kindManifest, repo, string(digest))
	return c.resolve(ctx, at, k, c.origin.ResolveManifest)
}

// resolve asks the origin for a descriptor.
func (c *Cache) resolve(ctx context.Context, at target, k key, ask func(context.Context, string, ociregistry.Digest) (ociregistry.Descriptor, error)) (ociregistry.Descriptor, error) {
	if err := c.absent.get(k); err != nil {
		return ociregistry.Descriptor{}, err
	}
	return c.resolves.do(ctx, c, k, func(t *task) (ociregistry.Descriptor, error) {
		want := ociregistry.Digest(k.ref)
		before := t.wait(originIdle)
		desc, err := ask(t, k.repo, want)
		t.waited(before)
		if err == nil {
			return plausible(at, desc, want)
		}
		err = at.stalledOr(t, err)
		if t.Err() == nil {
			c.absent.put(k, err, c.opts.NotFoundTTL)
		}
		return desc, err
	})
}

// GetManifest implements [ociregistry.Reader.GetManifest].
func (c *Cache) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	at := target{"GetManifest", repo, string(digest)}
	if err := at.visible(); err != nil {
		return nil, err
	}
	rd, err := c.kept.GetManifest(ctx, repo, digest)
	if err == nil {
		return c.cachedManifest(repo, rd), nil
	}
	c.miss(ctx, at, err)
	if err := at.checkDigest(); err != nil {
		return nil, err
	}
	k := c.key(kindManifest, repo, string(digest))
	if err := c.absent.get(k); err != nil {
		return nil, err
	}
	m, err := c.manifests.do(ctx, c, k, func(t *task) (manifestContent, error) {
		if m, err := c.readCached(t, repo, digest); err == nil {
			return m, nil
		}
		return c.fetchManifest(t, k)
	})
	return m.reader(err)
}

// cachedManifest returns the reader of a manifest that was found in the cache.
func (c *Cache) cachedManifest(repo string, rd ociregistry.BlobReader) ociregistry.BlobReader {
	desc := rd.Descriptor()
	c.ledger.touch(kindManifest, repo, desc.Digest, rd)
	if own := unwrap(desc); own.MediaType != desc.MediaType {
		return &described{rd, own}
	}
	return rd
}

// described is a reader with another descriptor.
type described struct {
	ociregistry.BlobReader
	desc ociregistry.Descriptor
}

func (r *described) Descriptor() ociregistry.Descriptor { return r.desc }

// WriteTo implements [io.WriterTo], since the reader may have a good one.
func (r *described) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, r.BlobReader) }
