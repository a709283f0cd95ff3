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
	if c.fresh.since(repo, tagName, c.opts.TagTTL) { // then the arguments are good
		rd, err := c.cache.GetTag(ctx, repo, tagName)
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
	if c.fresh.since(repo, tagName, c.opts.TagTTL) { // then the arguments are good
		desc, err := c.cache.ResolveTag(ctx, repo, tagName)
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
		desc, err := c.askTag(ctx, k, keptErr == nil)
		if err == nil && keptErr == nil && kept.Digest == desc.Digest {
			c.validated(k)
		}
		if c.insteadOf(ctx, k, err, keptErr) {
			return kept, nil
		}
		return desc, err
	})
}

// keptTag returns where a tag is in the cache.
func (c *Cache) keptTag(ctx context.Context, k key) (ociregistry.Descriptor, error) {
	desc, err := c.cache.ResolveTag(ctx, k.repo, k.ref)
	if err != nil {
		c.miss(ctx, target{"ResolveTag", k.repo, k.ref}, err)
	}
	return unwrap(desc), err
}

// askTag asks the origin where a tag is. A tag that is gone there goes here.
func (c *Cache) askTag(ctx context.Context, k key, kept bool) (ociregistry.Descriptor, error) {
	desc, err := c.origin.ResolveTag(ctx, k.repo, k.ref)
	if err == nil || ctx.Err() != nil {
		return desc, err
	}
	if kept && notFound(err) {
		c.dropTags(ctx, k.repo, k.ref)
	}
	c.absent.put(k, err, c.opts.NotFoundTTL)
	return desc, err
}

// insteadOf reports whether what is kept of a tag is served, because the origin
// failed with err. The keptErr says whether there is something.
func (c *Cache) insteadOf(ctx context.Context, k key, err, keptErr error) bool {
	if keptErr != nil || !down(err) || ctx.Err() != nil {
		return false
	}
	c.warn("the origin failed; serving what is kept", target{"GetTag", k.repo, k.ref}, err)
	return true
}

// revalidate returns the manifest that a tag points at. Of one that is kept, it
// asks the origin only whether it has moved.
func (c *Cache) revalidate(ctx context.Context, k key) (manifestContent, error) {
	kept, keptErr := c.keptTag(ctx, k)
	if keptErr != nil {
		return c.fetchTag(ctx, k)
	}
	desc, err := c.askTag(ctx, k, true)
	var m manifestContent
	if err == nil {
		m, err = c.moveTag(ctx, k, kept, desc)
	}
	if !c.insteadOf(ctx, k, err, keptErr) {
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
	c.fresh.set(k.repo, k.ref, c.opts.TagTTL)
	if c.changed(k) {
		c.fresh.delete(k.repo, k.ref)
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
