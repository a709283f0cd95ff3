package ocicopy

import (
	"context"
	"fmt"
	"slices"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/parallel"
	"github.com/seed-40b21970/oci/ociregistry"
)

// walk finds everything that belongs to c.top.
func (c *copier) walk(ctx context.Context) error {
	if err := c.explore(ctx, []*node{c.top}); err != nil {
		return err
	}
	if c.choosing(c.top) && len(c.chosen) == 0 {
		return fmt.Errorf("%w: the index has nothing for the chosen platforms", ociregistry.ErrManifestUnknown)
	}
	if c.opts.DropOthers {
		if err := c.dropOthers(ctx); err != nil {
			return err
		}
	}
	c.require(c.top)
	for _, n := range c.nodes {
		switch {
		case n.required && n.err != nil:
			return n.err
		case n.required && n.gone && !n.optional: // it was found as a referrer first
			return fmt.Errorf("manifest %s: %w", n.digest, atSource(ociregistry.ErrManifestUnknown))
		}
	}
	return c.sort()
}

// explore visits nodes and the nodes to which they lead, one step after another.
func (c *copier) explore(ctx context.Context, at []*node) error {
	for depth := 0; len(at) > 0; depth++ {
		if depth > c.opts.MaxDepth {
			return fmt.Errorf("%w: a manifest is more than %d steps away", ErrLimit, c.opts.MaxDepth)
		}
		if err := parallel.Each(ctx, c.opts.Concurrency, at, c.visit); err != nil {
			return err
		}
		var next []*node
		for _, n := range at {
			more, err := c.follow(n)
			if err != nil {
				return err
			}
			next = append(next, more...)
		}
		at = next
	}
	return nil
}

// require marks n and everything that it names as required.
func (c *copier) require(n *node) {
	if n.required {
		return
	}
	n.required = true
	if n.isBlob {
		c.blobOf[n.digest].required = true
	}
	for _, b := range n.blobs {
		b.required = true
	}
	for _, child := range n.children {
		c.require(child)
	}
}

// visit finds out whether the destination has n, reads n if necessary, and finds its
// referrers.
func (c *copier) visit(ctx context.Context, n *node) error {
	err := c.inspect(ctx, n)
	if err != nil && !n.inTree && c.maySkip(ctx, err) {
		n.err = err
		return nil
	}
	if err != nil || n.isBlob || n.gone || c.mayChange(n) {
		return err
	}
	return c.findExtras(ctx, n)
}

func (c *copier) inspect(ctx context.Context, n *node) error {
	if !n.checked {
		if err := c.checkDestination(ctx, n); err != nil {
			return fmt.Errorf("manifest %s: %w", n.digest, atDestination(err))
		}
	}
	n.trusted = n.present && c.opts.TrustDestination && n.storedType == n.mediaType && n.size > 0 && !c.choosing(n)
	if n.isBlob || n.trusted && !(c.wantsExtras() && isIndex(n.mediaType)) || c.opts.inner.onlyIndexes && !isIndex(n.mediaType) {
		return nil
	}
	return c.load(ctx, n)
}

// checkDestination asks the destination for n. An index may name blobs.
func (c *copier) checkDestination(ctx context.Context, n *node) error {
	desc, err := c.dst.Registry.ResolveManifest(ctx, c.dst.Repository, n.digest)
	switch {
	case err == nil && desc.Digest == n.digest:
		n.markPresent(desc)
		return nil
	case err != nil && !absent(err):
		return err
	}
	n.checked = true
	if n.named && n.mediaType != "" && !isKnown(n.mediaType) {
		_, err := c.dst.Registry.ResolveBlob(ctx, c.dst.Repository, n.digest)
		if n.isBlob = err == nil; !n.isBlob && !absent(err) {
			return err
		}
	}
	return nil
}

// follow adds what n names to the graph, and returns the nodes to visit next.
func (c *copier) follow(n *node) ([]*node, error) {
	if n.isBlob {
		c.addBlob(manifest.Ref{MediaType: n.mediaType, Size: n.size, Digest: n.digest})
	}
	if !n.isManifest() || n.err != nil {
		return nil, nil
	}
	if !n.trusted {
		for _, ref := range n.info.Blobs {
			n.blobs = append(n.blobs, c.addBlob(ref))
		}
	}
	if n.madeOf != "" {
		c.nodeOf[n.madeOf] = n // the destination will not have the old index
	}
	children := n.info.Manifests
	if c.choosing(n) {
		var err error
		if children, err = c.choose(n); err != nil {
			return nil, fmt.Errorf("manifest %s: %w", n.digest, err)
		}
	}
	var next []*node
	for _, ref := range children {
		child, isNew := c.add(ref.Digest)
		n.children = append(n.children, child)
		if isNew {
			child.mediaType, child.size, child.optional, child.named = ref.MediaType, ref.Size, ref.Elsewhere, true
			child.checked, child.present, child.storedType = n.trusted, n.trusted, ref.MediaType
			child.inTree = n.inTree
			next = append(next, child)
		}
		child.optional = child.optional && ref.Elsewhere
	}
	for _, e := range n.entries {
		if child := c.nodeOf[e.Ref.Digest]; e.Runs && !isIndex(e.Ref.MediaType) && !child.chosen {
			child.chosen = true
			c.chosen = append(c.chosen, child)
		}
	}
	next = append(next, c.followExtras(n)...)
	switch {
	case len(c.nodes) > c.opts.MaxManifests:
		return nil, fmt.Errorf("%w: more than %d manifests", ErrLimit, c.opts.MaxManifests)
	case len(c.blobs) > c.opts.MaxBlobs:
		return nil, fmt.Errorf("%w: more than %d blobs", ErrLimit, c.opts.MaxBlobs)
	}
	return next, nil
}

// choose returns the children of an index that are for the chosen platforms.
func (c *copier) choose(n *node) (chosen []manifest.Ref, err error) {
	if n.entries, err = manifest.Choose(n.contents, n.info.Manifests, c.opts.Platforms); err != nil {
		return nil, err
	}
	kept := make(map[ociregistry.Digest]bool)
	for _, e := range n.entries {
		if e.Kept {
			kept[e.Ref.Digest] = true
			chosen = append(chosen, e.Ref)
		}
	}
	if !c.opts.DropOthers {
		n.partial = slices.ContainsFunc(n.entries, func(e manifest.Entry) bool { return !kept[e.Ref.Digest] })
		c.partial = c.partial || n.partial
	}
	return chosen, nil
}

// followExtras adds the referrers of n to the graph, and returns the new ones.
func (c *copier) followExtras(n *node) (next []*node) {
	for _, e := range n.extras {
		extra, isNew := c.add(e.Descriptor.Digest)
		if isNew {
			extra.mediaType, extra.size, extra.optional = e.Descriptor.MediaType, max(e.Descriptor.Size, 0), true
			next = append(next, extra)
		}
		if e.tag != "" {
			extra.byTag = true
			extra.tags = append(extra.tags, e.tag)
		}
	}
	return next
}

// add returns the node with a digest. If there is none, it adds a new one.
func (c *copier) add(digest ociregistry.Digest) (n *node, isNew bool) {
	if n = c.nodeOf[digest]; n != nil {
		return n, false
	}
	n = &node{digest: digest}
	c.nodeOf[digest] = n
	c.nodes = append(c.nodes, n)
	return n, true
}

// addBlob returns the blob that ref names. A blob that one manifest needs is needed,
// even if another one says that it is elsewhere.
func (c *copier) addBlob(ref manifest.Ref) *blob {
	b := c.blobOf[ref.Digest]
	switch {
	case b == nil:
		b = &blob{ref: ref}
		c.blobOf[ref.Digest] = b
		c.blobs = append(c.blobs, b)
	case b.ref.Elsewhere && !ref.Elsewhere:
		b.ref = ref
	}
	return b
}
