package ociunify

import (
	"context"
	"errors"
	"io/fs"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
)

// GetTag implements [ociregistry.Reader.GetTag].
func (c *Cache) GetTag(ctx context.Context, repo string, tagName string) (ociregistry.BlobReader, error) {
	at := call.New("GetTag", repo, tagName)
	rd, outcome, err := c.getTag(ctx, at)
	if c.opts.OnLookup != nil {
		c.looked(ctx, kindTag, at, outcome, err)
	}
	return rd, err
}

// getTag is GetTag, and says where the manifest comes from.
func (c *Cache) getTag(ctx context.Context, at call.Call) (ociregistry.BlobReader, Outcome, error) {
	repo, tagName := at.Repository, at.Ref
	if known, ok := c.known.get(repo, tagName, c.opts.TagTTL); ok && known.kept { // the arguments are valid
		rd, err := c.kept.GetTag(ctx, repo, tagName)
		if err == nil {
			return c.cachedManifest(repo, rd), OutcomeHit, nil
		}
		c.miss(ctx, at, err)
	}
	if err := checkTag(at); err != nil {
		return nil, OutcomeFailed, err
	}
	k := c.key(kindTag, repo, tagName)
	if err := c.absent.get(k); err != nil {
		return nil, OutcomeAbsent, err
	}
	m, err := share(ctx, c, &c.tags, k, func(t *task) (manifestContent, error) { return c.revalidate(t, k) })
	rd, err := m.reader(err)
	return rd, m.outcome, err
}

// ResolveTag implements [ociregistry.Reader.ResolveTag].
func (c *Cache) ResolveTag(ctx context.Context, repo string, tagName string) (ociregistry.Descriptor, error) {
	at := call.New("ResolveTag", repo, tagName)
	r, err := c.resolveTag(ctx, at)
	if c.opts.OnLookup != nil {
		c.looked(ctx, kindTag, at, r.outcome, err)
	}
	return r.desc, err
}

// resolveTag is ResolveTag, and says where the descriptor comes from.
func (c *Cache) resolveTag(ctx context.Context, at call.Call) (resolved, error) {
	repo, tagName := at.Repository, at.Ref
	if known, ok := c.known.get(repo, tagName, c.opts.TagTTL); ok { // the arguments are valid
		if !known.kept {
			return resolved{known.desc(), OutcomeHit}, ctx.Err()
		}
		desc, err := c.kept.ResolveTag(ctx, repo, tagName)
		if err == nil {
			return resolved{unwrap(desc), OutcomeHit}, nil
		}
		c.miss(ctx, at, err)
	}
	if err := checkTag(at); err != nil {
		return resolved{}, err
	}
	k := c.key(kindTag, repo, tagName)
	if err := c.absent.get(k); err != nil {
		return resolved{outcome: OutcomeAbsent}, err
	}
	return share(ctx, c, &c.resolves, k, func(t *task) (resolved, error) { return c.locateTag(t, k) })
}

// locateTag asks the origin where a tag points. If the origin fails, it returns where
// the tag points in the cache registry.
func (c *Cache) locateTag(t *task, k key) (resolved, error) {
	kept, err := c.kept.ResolveTag(t, k.repo, k.ref)
	if err != nil {
		c.miss(t, call.New("ResolveTag", k.repo, k.ref), err)
		desc, err := c.learnTag(t, k, ociregistry.Descriptor{})
		return resolved{desc, OutcomeFetched}, err
	}
	kept = unwrap(kept)
	desc, err := orStalled(c, t, call.New("ResolveTag", k.repo, k.ref), func(t *task) (ociregistry.Descriptor, error) {
		return c.learnTag(t, k, kept)
	})
	switch {
	case c.servesKept(t, k, err):
		return resolved{kept, OutcomeStale}, nil
	case desc.Digest != kept.Digest:
		return resolved{desc, OutcomeFetched}, err
	}
	return resolved{desc, OutcomeChecked}, err
}

// askTag asks the origin where a tag points. It deletes a tag that no longer exists at
// the origin. In the cache registry the tag points at from, which is zero if it is not
// kept.
func (c *Cache) askTag(t *task, k key, from ociregistry.Descriptor) (ociregistry.Descriptor, error) {
	at := call.New("ResolveTag", k.repo, k.ref)
	before := t.wait(originIdle)
	desc, err := c.origin.ResolveTag(t, k.repo, k.ref)
	t.waited(before)
	if err == nil {
		return plausible(at, desc, "")
	}
	if t.Err() != nil {
		return desc, stalledOr(t, at, err)
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

// learnTag is askTag, and moves the tag in the cache registry if the manifest that it
// points at now is kept. Otherwise the tag moves when that manifest is kept.
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
	// This comes after expect: whoever keeps the manifest from now on knows the tag.
	if m, err := c.readCached(t, k.repo, to.Digest); err == nil {
		c.storeManifest(t, k, m, k.ref)
	}
	return to, nil
}

// servesKept reports whether to serve what is kept of a tag, because the origin failed
// with err.
func (c *Cache) servesKept(ctx context.Context, k key, err error) bool {
	if !down(err) || ctx.Err() != nil && !errors.Is(err, errStalled) {
		return false
	}
	c.warn("the origin failed; serving what is kept", call.New("GetTag", k.repo, k.ref), err)
	return true
}

// revalidate returns the manifest that a tag points at. If the tag is kept and can be
// read, it asks the origin only whether the tag has moved.
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

// unlessMoved returns the manifest that is kept of a tag, or the one that it points at
// now. That is to, or unknown if to is zero.
func (c *Cache) unlessMoved(t *task, k key, kept *manifestContent, to ociregistry.Descriptor) (manifestContent, error) {
	m, err := orStalled(c, t, call.New("GetTag", k.repo, k.ref), func(t *task) (m manifestContent, err error) {
		to, asked := to, to.Digest == ""
		if asked {
			to, err = c.askTag(t, k, kept.desc)
		}
		if err == nil {
			m, err = c.moveTag(t, k, *kept, to)
		}
		if asked && m.outcome == OutcomeHit {
			m.outcome = OutcomeChecked
		}
		return m, err
	})
	if c.servesKept(t, k, err) {
		kept.outcome = OutcomeStale
		return *kept, nil
	}
	return m, err
}

// moveTag returns the manifest at which a tag points according to the origin, and moves
// the tag in the cache registry.
func (c *Cache) moveTag(t *task, k key, from manifestContent, to ociregistry.Descriptor) (manifestContent, error) {
	if ociregistry.CheckDigest(to.Digest) != nil {
		return c.fetchTag(t, k) // the origin did not say
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
		return c.fetchTag(t, k) // the tag has moved again
	}
	return m, err
}

// fetchTag gets the manifest of a tag from the origin.
func (c *Cache) fetchTag(t *task, k key) (manifestContent, error) {
	return c.fetchManifest(t, k, k.ref)
}

// validated notes that a tag points at the same manifest in the cache registry as at the
// origin.
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
