package ocicopy

import (
	"context"
	"fmt"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// resolve finds the manifest to copy, and what the destination's tag points at.
func (c *copier) resolve(ctx context.Context) error {
	if tag := c.dstTag(); tag != "" {
		if err := call.CheckTagsToSet(tag); err != nil {
			return err
		}
		desc, err := c.dst.Registry.ResolveTag(ctx, c.dst.Repository, tag)
		if err != nil && !absent(err) {
			return atDestination(err)
		}
		c.tagged = desc
	}
	n, err := c.source(ctx)
	if err != nil {
		return err
	}
	if call.IsDigest(c.dst.Ref) && c.dst.Ref != string(n.digest) {
		return fmt.Errorf("%w: the source has %s", ociregistry.ErrDigestInvalid, n.digest)
	}
	if c.top, err = c.remember(ctx, n); err != nil {
		return atDestination(err)
	}
	n = c.top
	c.nodeOf[n.digest] = n
	c.nodes = append(c.nodes, n)
	n.inTree = true
	switch {
	case n.digest == c.tagged.Digest:
		n.markPresent(c.tagged)
	case c.dstTag() != "":
		n.tags = []string{c.dstTag()}
	}
	return nil
}

// source returns the manifest that was asked for. If its tag is new to the destination,
// it reads the tag at once, without resolving it first.
func (c *copier) source(ctx context.Context) (*node, error) {
	reg, repo, ref := c.src.Registry, c.src.Repository, c.src.Ref
	switch {
	case call.IsDigest(ref):
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

// markPresent notes that the destination has n. It takes the media type from the
// descriptor if none is known yet, and if it is that of a manifest.
func (n *node) markPresent(desc ociregistry.Descriptor) {
	n.checked, n.present, n.storedType = true, true, desc.MediaType
	n.size = max(desc.Size, 0)
	if _, known := manifest.Known(desc.MediaType); known && n.mediaType == "" {
		n.mediaType = desc.MediaType
	}
}
