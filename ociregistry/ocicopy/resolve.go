package ocicopy

import (
	"context"
	"fmt"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// resolve finds the manifest that was asked for, and what the destination's tag
// points at.
func (c *copier) resolve(ctx context.Context) error {
	if tag := c.dstTag(); tag != "" {
		if !ociref.IsValidTag(tag) {
			return fmt.Errorf("%w: invalid tag %.130q", ociregistry.ErrManifestInvalid, tag)
		}
		desc, err := c.dst.Registry.ResolveTag(ctx, c.dst.Repo, tag)
		if err != nil && !absent(err) {
			return atDestination(err)
		}
		c.tagged = desc
	}
	n, err := c.source(ctx)
	if err != nil {
		return err
	}
	if isDigest(c.dst.Ref) && c.dst.Ref != string(n.digest) {
		return fmt.Errorf("%w: the source has %s", ociregistry.ErrDigestInvalid, n.digest)
	}
	if c.top, err = c.remember(ctx, n); err != nil {
		return atDestination(err)
	}
	n = c.top
	c.seen[n.digest] = n
	c.nodes = append(c.nodes, n)
	n.inTree = true
	switch {
	case n.digest == c.tagged.Digest:
		n.found(c.tagged)
	case c.dstTag() != "":
		n.tags = []string{c.dstTag()}
	}
	return nil
}

// source returns the manifest that was asked for. A tag that is new to the
// destination is read at once, without being resolved before.
func (c *copier) source(ctx context.Context) (*node, error) {
	reg, repo, ref := c.src.Registry, c.src.Repo, c.src.Ref
	switch {
	case isDigest(ref):
		n := &node{digest: ociregistry.Digest(ref), mediaType: c.opts.inner.resolved.MediaType, byTag: c.opts.inner.resolved.Digest != ""}
		return n, ociregistry.CheckRepositoryAndDigest(repo, n.digest)
	case c.dstTag() != "" && c.tagged.Digest == "":
		r, err := reg.GetTag(ctx, repo, ref)
		if err != nil {
			return nil, atSource(err)
		}
		n := &node{digest: r.Descriptor().Digest, byTag: true}
		return n, c.readSource(n, r)
	}
	desc, err := reg.ResolveTag(ctx, repo, ref)
	if err != nil {
		return nil, atSource(err)
	}
	n := &node{digest: desc.Digest, mediaType: desc.MediaType, byTag: true}
	return n, ociregistry.CheckDigest(desc.Digest)
}

// found tells that the destination has n. Of the descriptor, the media type counts
// as long as nothing else is known, if it is one of a manifest.
func (n *node) found(desc ociregistry.Descriptor) {
	n.looked, n.there, n.stored = true, true, desc.MediaType
	n.size = max(desc.Size, 0)
	if _, known := manifest.Known(desc.MediaType); known && n.mediaType == "" {
		n.mediaType = desc.MediaType
	}
}
