package ociunify

import (
	"context"
	"errors"
	"io"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
)

// checkVisible returns [ociregistry.ErrNameUnknown] for the repository that has the
// cache's records.
func checkVisible(at call.Call) error {
	if at.Repository == stateRepo {
		return at.Wrap(ociregistry.ErrNameUnknown)
	}
	return nil
}

// checkDigest checks the arguments of a call by digest. Reads begin with
// checkVisible only: for a hit, the cache registry has checked the rest.
func checkDigest(at call.Call) error {
	if err := at.CheckDigest(); err != nil {
		return err
	}
	return checkVisible(at)
}

// checkTag checks the arguments of a call by tag.
func checkTag(at call.Call) error {
	if err := at.CheckTag(); err != nil {
		return err
	}
	return checkVisible(at)
}

// GetBlob implements [ociregistry.Reader.GetBlob]. For a hit it does little, to be as
// fast as the cache registry.
func (c *Cache) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	rd, outcome, err := c.getBlob(ctx, repo, digest)
	if c.opts.OnLookup != nil {
		c.looked(ctx, kindBlob, call.New("GetBlob", repo, string(digest)), outcome, err)
	}
	return rd, err
}

// getBlob is GetBlob, and says where the blob comes from.
func (c *Cache) getBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, Outcome, error) {
	if repo == stateRepo || c.fetching.Load() > 0 {
		rd, err := c.fetchedRange(ctx, call.New("GetBlob", repo, string(digest)), 0, -1)
		if err != errNoFetch {
			return rd, OutcomeFetched, err
		}
	}
	rd, err := c.cachedBlob(ctx, repo, digest)
	if err != nil {
		return c.missedBlob(ctx, call.New("GetBlob", repo, string(digest)), err)
	}
	return rd, OutcomeHit, nil
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

// missedBlob returns a blob for which the cache registry returned err.
func (c *Cache) missedBlob(ctx context.Context, at call.Call, err error) (ociregistry.BlobReader, Outcome, error) {
	c.miss(ctx, at, err)
	if err := at.CheckDigest(); err != nil {
		return nil, OutcomeFailed, err
	}
	return c.fetchBlob(ctx, at)
}

// GetBlobRange implements [ociregistry.Reader.GetBlobRange]. If the blob is neither
// kept nor being fetched, it asks the origin for the range alone.
func (c *Cache) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	if offset0 == 0 && offset1 < 0 {
		return c.GetBlob(ctx, repo, digest)
	}
	at := call.New("GetBlobRange", repo, string(digest))
	rd, outcome, err := c.getBlobRange(ctx, at, offset0, offset1)
	if c.opts.OnLookup != nil {
		c.looked(ctx, kindBlob, at, outcome, err)
	}
	return rd, err
}

// getBlobRange is GetBlobRange for a part of a blob, and says where it comes from.
func (c *Cache) getBlobRange(ctx context.Context, at call.Call, offset0, offset1 int64) (ociregistry.BlobReader, Outcome, error) {
	repo, digest := at.Repository, ociregistry.Digest(at.Ref)
	if repo == stateRepo || c.fetching.Load() > 0 {
		rd, err := c.fetchedRange(ctx, at, offset0, offset1)
		if err != errNoFetch {
			return rd, OutcomeFetched, err
		}
	}
	rd, err := c.kept.GetBlobRange(ctx, repo, digest, offset0, offset1)
	if err == nil {
		c.ledger.touch(kindBlob, repo, digest, rd)
		return rd, OutcomeHit, nil
	}
	if errors.Is(err, ociregistry.ErrRangeInvalid) {
		rd, err := c.beyondEnd(ctx, at, offset0, offset1, err)
		return rd, OutcomeFetched, err
	}
	c.miss(ctx, at, err)
	if err := at.CheckDigest(); err != nil {
		return nil, OutcomeFailed, err
	}
	// A fetch may have started since.
	rd, err = c.fetchedRange(ctx, at, offset0, offset1)
	if err != errNoFetch {
		return rd, OutcomeFetched, err
	}
	if err := c.absent.get(c.key(kindBlob, repo, string(digest))); err != nil {
		return nil, OutcomeAbsent, err
	}
	rd, err = c.originRange(ctx, at, offset0, offset1)
	return rd, OutcomeFetched, err
}

// beyondEnd returns a range for which the cache registry returned err, because its
// blob is too short. If the origin has the range, the blob that is kept is damaged.
func (c *Cache) beyondEnd(ctx context.Context, at call.Call, offset0, offset1 int64, err error) (ociregistry.BlobReader, error) {
	if offset0 < 0 || offset1 >= 0 && offset1 < offset0 {
		return nil, err
	}
	rd, originErr := c.originRange(ctx, at, offset0, offset1)
	if originErr != nil {
		return nil, err
	}
	c.damaged(ctx, holding{kindBlob, at.Repository, ociregistry.Digest(at.Ref)}, err)
	return rd, nil
}

// originRange returns a range of a blob from the origin.
func (c *Cache) originRange(ctx context.Context, at call.Call, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	reader := c.newOriginReader(ctx, at)
	rd, err := reader.opened(c.origin.GetBlobRange(&reader.task, at.Repository, ociregistry.Digest(at.Ref), offset0, offset1))
	if err != nil {
		return nil, err
	}
	if rd.desc, err = plausible(at, rd.desc, ociregistry.Digest(at.Ref)); err != nil {
		rd.Close()
		return nil, err
	}
	return rd, nil
}

// errNoFetch says that a blob is not being fetched.
var errNoFetch = errors.New("the blob is not being fetched")

// fetchedRange returns a part of a blob that is being fetched, without asking the
// cache registry. If it is not being fetched, the error is errNoFetch. It checks that
// the repository is visible.
func (c *Cache) fetchedRange(ctx context.Context, at call.Call, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	if err := checkVisible(at); err != nil {
		return nil, err
	}
	f, _, err := c.join(ctx, c.key(kindBlob, at.Repository, at.Ref), false)
	switch {
	case err != nil:
		return nil, at.Wrap(err)
	case f == nil:
		return nil, errNoFetch
	}
	rd, err := f.follow(ctx, at, offset0, offset1)
	if err == errFound {
		err = errNoFetch
	}
	return rd, err
}

// miss logs an error of the cache registry that is more than a miss.
func (c *Cache) miss(ctx context.Context, at call.Call, err error) {
	ignored := notFound(err) || errors.Is(err, ociregistry.ErrRangeInvalid) ||
		errors.Is(err, ociregistry.ErrNameInvalid) || errors.Is(err, ociregistry.ErrDigestInvalid)
	if !ignored && ctx.Err() == nil {
		c.warn("cannot read the cache", at, err)
	}
}

// ResolveBlob implements [ociregistry.Reader.ResolveBlob].
func (c *Cache) ResolveBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	at := call.New("ResolveBlob", repo, string(digest))
	r, err := c.resolveBlob(ctx, at)
	if c.opts.OnLookup != nil {
		c.looked(ctx, kindBlob, at, r.outcome, err)
	}
	return r.desc, err
}

// resolveBlob is ResolveBlob, and says where the descriptor comes from.
func (c *Cache) resolveBlob(ctx context.Context, at call.Call) (resolved, error) {
	if c.fetching.Load() > 0 {
		if desc, ok := c.fetchedBlob(c.key(kindBlob, at.Repository, at.Ref)); ok {
			return resolved{desc, OutcomeFetched}, nil
		}
	}
	return c.resolve(ctx, kindBlob, at, ociregistry.Interface.ResolveBlob)
}

// fetchedBlob returns the descriptor of a blob that has arrived in whole, and that the cache
// registry has yet to take.
func (c *Cache) fetchedBlob(k key) (desc ociregistry.Descriptor, ok bool) {
	c.mu.Lock()
	f := c.fetches[k]
	c.mu.Unlock()
	if f == nil {
		return desc, false
	}
	p := f.progress()
	return p.desc, p.done && p.err == nil
}

// ResolveManifest implements [ociregistry.Reader.ResolveManifest].
func (c *Cache) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	at := call.New("ResolveManifest", repo, string(digest))
	r, err := c.resolve(ctx, kindManifest, at, ociregistry.Interface.ResolveManifest)
	if c.opts.OnLookup != nil {
		c.looked(ctx, kindManifest, at, r.outcome, err)
	}
	return r.desc, err
}

// resolveFunc is ResolveBlob or ResolveManifest of a registry.
type resolveFunc func(r ociregistry.Interface, ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error)

// resolve returns the descriptor that the cache registry has, or else the origin, and says
// which.
func (c *Cache) resolve(ctx context.Context, kind kind, at call.Call, ask resolveFunc) (resolved, error) {
	if err := checkVisible(at); err != nil {
		return resolved{}, err
	}
	desc, err := ask(c.kept, ctx, at.Repository, ociregistry.Digest(at.Ref))
	if err == nil {
		return resolved{unwrap(desc), OutcomeHit}, nil
	}
	c.miss(ctx, at, err)
	if err := at.CheckDigest(); err != nil {
		return resolved{}, err
	}
	k := c.key(kind, at.Repository, at.Ref)
	if err := c.absent.get(k); err != nil {
		return resolved{outcome: OutcomeAbsent}, err
	}
	return share(ctx, c, &c.resolves, k, func(t *task) (resolved, error) {
		want := ociregistry.Digest(k.ref)
		before := t.wait(originIdle)
		desc, err := ask(c.origin, t, k.repo, want)
		t.waited(before)
		if err == nil {
			desc, err = plausible(at, desc, want)
			return resolved{desc, OutcomeFetched}, err
		}
		err = stalledOr(t, at, err)
		if t.Err() == nil {
			c.absent.put(k, err, c.opts.NotFoundTTL)
		}
		return resolved{}, err
	})
}

// GetManifest implements [ociregistry.Reader.GetManifest].
func (c *Cache) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	at := call.New("GetManifest", repo, string(digest))
	rd, outcome, err := c.getManifest(ctx, at)
	if c.opts.OnLookup != nil {
		c.looked(ctx, kindManifest, at, outcome, err)
	}
	return rd, err
}

// getManifest is GetManifest, and says where the manifest comes from.
func (c *Cache) getManifest(ctx context.Context, at call.Call) (ociregistry.BlobReader, Outcome, error) {
	if err := checkVisible(at); err != nil {
		return nil, OutcomeFailed, err
	}
	repo, digest := at.Repository, ociregistry.Digest(at.Ref)
	rd, err := c.kept.GetManifest(ctx, repo, digest)
	if err == nil {
		return c.cachedManifest(repo, rd), OutcomeHit, nil
	}
	c.miss(ctx, at, err)
	if err := at.CheckDigest(); err != nil {
		return nil, OutcomeFailed, err
	}
	k := c.key(kindManifest, repo, string(digest))
	if err := c.absent.get(k); err != nil {
		return nil, OutcomeAbsent, err
	}
	m, err := share(ctx, c, &c.manifests, k, func(t *task) (manifestContent, error) {
		if m, err := c.readCached(t, repo, digest); err == nil {
			return m, nil
		}
		return c.fetchManifest(t, k)
	})
	rd, err = m.reader(err)
	return rd, m.outcome, err
}

// cachedManifest returns the reader of a manifest that the cache registry returned.
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

// WriteTo implements [io.WriterTo]: the reader may have a fast one.
func (r *described) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, r.BlobReader) }
