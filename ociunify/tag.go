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
	m, err := c.tags.do(ctx, c, k, func(t *task) (manifestContent, error) { return c.revalidate(t, k) })
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
	return c.resolves.do(ctx, c, k, func(t *task) (ociregistry.Descriptor, error) { return c.resolveTag(t, k) })
}

// resolveTag asks the origin where a tag is. If that fails, it is where it is kept.
func (c *Cache) resolveTag(t *task, k key) (ociregistry.Descriptor, error) {
	kept, err := c.kept.ResolveTag(t, k.repo, k.ref)
	if err != nil {
		c.miss(t, target{"ResolveTag", k.repo, k.ref}, err)
		return c.learnTag(t, k, ociregistry.Descriptor{})
	}
	kept = unwrap(kept)
	desc, err := orStalled(c, t, target{"ResolveTag", k.repo, k.ref}, func(t *task) (ociregistry.Descriptor, error) {
		return c.learnTag(t, k, kept)
	})
	if c.insteadOf(t, k, err) {
		return kept, nil
	}
	return desc, err
}

// askTag asks the origin where a tag is, which is kept as from, or not at all. A tag that
// is gone there goes here.
func (c *Cache) askTag(t *task, k key, from ociregistry.Descriptor) (ociregistry.Descriptor, error) {
	at := target{"ResolveTag", k.repo, k.ref}
	before := t.wait(originIdle)
	desc, err := c.origin.ResolveTag(t, k.repo, k.ref)
	t.waited(before)
	if err == nil {
		return plausible(at, desc, "")
	}
	if t.Err() != nil {
		return desc, at.stalledOr(t, err)
	}
	c.absent.put(k, err, c.opts.NotFoundTTL)
	if notFound(err) {
		c.known.forget(k.repo, k.ref)
		if from.Digest != "" {
			c.dropTags(t, k.repo, k.ref)
		}
	}
	return desc, err
}

// learnTag asks the origin where a tag is, which is kept as from, or not at all. Where
// the manifest is kept that it points at now, the tag is so as well; and otherwise
// when the manifest is.
func (c *Cache) learnTag(t *task, k key, from ociregistry.Descriptor) (ociregistry.Descriptor, error) {
	to, err := c.askTag(t, k, from)
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
	if m, err := c.readCached(t, k.repo, to.Digest); err == nil {
		c.storeManifest(t, k, m, k.ref)
	}
	return to, nil
}

// insteadOf reports whether what is kept of a tag is served, because the origin
// failed with err.
func (c *Cache) insteadOf(ctx context.Context, k key, err error) bool {
	if !down(err) || ctx.Err() != nil && !errors.Is(err, errStalled) {
		return false
	}
	c.warn("the origin failed; serving what is kept", target{"GetTag", k.repo, k.ref}, err)
	return true
}

// revalidate returns the manifest that a tag points at. Of one that is kept, and can be
// read, it asks the origin only whether it has moved.
func (c *Cache) revalidate(t *task, k key) (manifestContent, error) {
	known, ok := c.known.get(k.repo, k.ref, c.opts.TagTTL)
	var to ociregistry.Descriptor // if it is known
	if ok && !known.kept {
		to = known.desc()
	}
	kept, err := c.readTag(t, k)
	switch {
	case err == nil:
		return c.unlessMoved(t, k, &kept, to)
	case to.Digest != "":
		return c.moveTag(t, k, kept, to)
	}
	return c.fetchTag(t, k)
}

// unlessMoved returns what is kept of a tag, or what that points at now: at to, if that
// is known.
func (c *Cache) unlessMoved(t *task, k key, kept *manifestContent, to ociregistry.Descriptor) (manifestContent, error) {
	m, err := orStalled(c, t, target{"GetTag", k.repo, k.ref}, func(t *task) (m manifestContent, err error) {
		to := to
		if to.Digest == "" {
			to, err = c.askTag(t, k, kept.desc)
		}
		if err == nil {
			m, err = c.moveTag(t, k, *kept, to)
		}
		return m, err
	})
	if c.insteadOf(t, k, err) {
		return *kept, nil
	}
	return m, err
}

// moveTag returns the manifest that a tag points at, now that the origin has said
// where it is, and points the tag in the cache there.
func (c *Cache) moveTag(t *task, k key, from manifestContent, to ociregistry.Descriptor) (manifestContent, error) {
	if ociregistry.CheckDigest(to.Digest) != nil {
		return c.fetchTag(t, k) // the origin does not say
	}
	if to.Digest == from.desc.Digest {
		c.validated(k)
		return from, nil
	}
	m, err := c.readCached(t, k.repo, to.Digest)
	if err == nil {
		c.storeManifest(t, k, m, k.ref)
		return m, nil
	}
	m, err = c.fetchManifest(t, key{kindManifest, k.repo, string(to.Digest), k.changes}, k.ref)
	if notFound(err) {
		return c.fetchTag(t, k) // it has moved on
	}
	return m, err
}

// fetchTag gets a tag's manifest from the origin.
func (c *Cache) fetchTag(t *task, k key) (manifestContent, error) {
	return c.fetchManifest(t, k, k.ref)
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
