package ociunify

import (
	"context"
	"errors"
	"io/fs"

	"github.com/seed-40b21970/oci/ociregistry"
)

// byTag checks the arguments of a call.
func (t target) byTag() error {
	if err := t.checkTag(); err != nil {
		return err
	}
	return t.visible()
}

// GetTag implements [ociregistry.Reader.GetTag].
func (c *Cache) GetTag(ctx context.Context, repo string, tagName string) (ociregistry.BlobReader, error) {
	at := target{"GetTag", repo, tagName}
	if known, ok := c.known.get(repo, tagName, c.opts.TagTTL); ok && known.kept { // then the arguments are good
		rd, err := c.kept.GetTag(ctx, repo, tagName)
		if err == nil {
			return c.cachedManifest(repo, rd), nil
		}
		c.miss(ctx, at, err)
	}
	if err := at.byTag(); err != nil {
		return nil, err
	}
	k := c.key(kindTag, repo, tagName)
	if err := c.absent.get(k); err != nil {
		return nil, err
	}
	m, err := c.tags.do(ctx, c, k, func(ctx context.Context) (manifestContent, error) { return c.revalidate(ctx, k) })
	return m.reader(err)
}

// ResolveTag implements [ociregistry.Reader.ResolveTag].
func (c *Cache) ResolveTag(ctx context.Context, repo string, tagName string) (ociregistry.Descriptor, error) {
	at := target{"ResolveTag", repo, tagName}
	if known, ok := c.known.get(repo, tagName, c.opts.TagTTL); ok { // then the arguments are good
		if !known.kept {
			return known.desc(), ctx.Err()
		}
		desc, err := c.kept.ResolveTag(ctx, repo, tagName)
		if err == nil {
			return unwrap(desc), nil
		}
		c.miss(ctx, at, err)
	}
	if err := at.byTag(); err != nil {
		return ociregistry.Descriptor{}, err
	}
	k := c.key(kindTag, repo, tagName)
	if err := c.absent.get(k); err != nil {
		return ociregistry.Descriptor{}, err
	}
	return c.resolves.do(ctx, c, k, func(ctx context.Context) (ociregistry.Descriptor, error) {
		kept, keptErr := c.keptTag(ctx, k)
		if keptErr != nil {
			return within(ctx, at, originIdle, func(ctx context.Context) (ociregistry.Descriptor, error) {
				return c.learnTag(ctx, k, kept)
			})
		}
		desc, err := orStalled(ctx, c, at, func(ctx context.Context) (ociregistry.Descriptor, error) {
			return c.learnTag(ctx, k, kept)
		})
		if c.insteadOf(ctx, k, err) {
			return kept, nil
		}
		return desc, err
	})
}

// keptTag returns where a tag is in the cache.
func (c *Cache) keptTag(ctx context.Context, k key) (ociregistry.Descriptor, error) {
	desc, err := c.kept.ResolveTag(ctx, k.repo, k.ref)
	if err != nil {
		c.miss(ctx, target{"ResolveTag", k.repo, k.ref}, err)
	}
	return unwrap(desc), err
}

// askTag asks the origin where a tag is. A tag that is gone there goes here.
func (c *Cache) askTag(ctx context.Context, k key) (ociregistry.Descriptor, error) {
	desc, err := c.origin.ResolveTag(ctx, k.repo, k.ref)
	if err == nil {
		return plausible(target{"ResolveTag", k.repo, k.ref}, desc, "")
	}
	if ctx.Err() != nil {
		return desc, err
	}
	if notFound(err) {
		c.dropTags(ctx, k.repo, k.ref)
	}
	c.absent.put(k, err, c.opts.NotFoundTTL)
	return desc, err
}

// learnTag asks the origin where a tag is, which is kept as from, or not at all. Where
// the manifest is kept that it points at now, the tag is so as well; and otherwise
// when the manifest is.
func (c *Cache) learnTag(ctx context.Context, k key, from ociregistry.Descriptor) (ociregistry.Descriptor, error) {
	to, err := c.askTag(ctx, k)
	if err != nil || ociregistry.CheckDigest(to.Digest) != nil {
		return to, err
	}
	if to.Digest == from.Digest {
		c.validated(k)
		return to, nil
	}
	c.known.expect(k.repo, k.ref, to)
	if c.changed(k) {
		c.known.forget(k.repo, k.ref)
	}
	// This comes second, since whoever keeps the manifest from now on knows of the tag.
	if m, err := c.readCached(ctx, k.repo, to.Digest); err == nil {
		c.storeManifest(ctx, k, m, k.ref)
	}
	return to, nil
}

// insteadOf reports whether what is kept of a tag is served, because the origin
// failed with err.
func (c *Cache) insteadOf(ctx context.Context, k key, err error) bool {
	if !down(err) || ctx.Err() != nil {
		return false
	}
	c.warn("the origin failed; serving what is kept", target{"GetTag", k.repo, k.ref}, err)
	return true
}

// revalidate returns the manifest that a tag points at. Of one that is kept, it
// asks the origin only whether it has moved.
func (c *Cache) revalidate(ctx context.Context, k key) (manifestContent, error) {
	known, ok := c.known.get(k.repo, k.ref, c.opts.TagTTL)
	ok = ok && !known.kept
	kept, keptErr := c.keptTag(ctx, k)
	switch {
	case keptErr != nil && ok:
		return c.moveTag(ctx, k, kept, known.desc())
	case keptErr != nil:
		return c.fetchTag(ctx, k)
	}
	m, err := orStalled(ctx, c, target{"GetTag", k.repo, k.ref}, func(ctx context.Context) (m manifestContent, err error) {
		to := known.desc()
		if !ok {
			to, err = c.askTag(ctx, k)
		}
		if err == nil {
			m, err = c.moveTag(ctx, k, kept, to)
		}
		return m, err
	})
	if !c.insteadOf(ctx, k, err) {
		return m, err
	}
	if old, keptErr := c.readCached(ctx, k.repo, kept.Digest); keptErr == nil {
		return old, nil
	}
	return m, err
}

// moveTag returns the manifest that a tag points at, now that the origin has said
// where it is, and points the tag in the cache there.
func (c *Cache) moveTag(ctx context.Context, k key, from, to ociregistry.Descriptor) (manifestContent, error) {
	if ociregistry.CheckDigest(to.Digest) != nil {
		return c.fetchTag(ctx, k) // the origin does not say
	}
	m, err := c.readCached(ctx, k.repo, to.Digest)
	if err == nil {
		if from.Digest == to.Digest {
			c.validated(k)
		} else {
			c.storeManifest(ctx, k, m, k.ref)
		}
		return m, nil
	}
	m, err = c.fetchManifest(ctx, key{kindManifest, k.repo, string(to.Digest), k.changes}, k.ref)
	if notFound(err) {
		return c.fetchTag(ctx, k) // it has moved on
	}
	return m, err
}

// fetchTag gets a tag's manifest from the origin.
func (c *Cache) fetchTag(ctx context.Context, k key) (manifestContent, error) {
	return c.fetchManifest(ctx, k, k.ref)
}

// validated notes that a tag is now known to be what it is in the cache.
func (c *Cache) validated(k key) {
	c.known.set(k.repo, k.ref, c.opts.TagTTL)
	if c.changed(k) {
		c.known.forget(k.repo, k.ref)
	}
}

// down reports whether an origin that returned err has failed to answer.
func down(err error) bool {
	if err == nil || notFound(err) {
		return false
	}
	for _, answer := range []error{
		ociregistry.ErrUnauthorized, ociregistry.ErrDenied, ociregistry.ErrUnsupported,
		ociregistry.ErrNameInvalid, ociregistry.ErrRangeInvalid, fs.ErrClosed,
	} {
		if errors.Is(err, answer) {
			return false
		}
	}
	return true
}
