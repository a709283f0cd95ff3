package ocicopy

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// resolve finds the manifest that was asked for, and what the destination's tag
// points at. Where both are the same, nothing more is known of it.
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
	c.top = n
	n.inTree = true
	c.seen[n.digest] = n
	c.nodes = append(c.nodes, n)
	switch {
	case isDigest(c.dst.Ref) && c.dst.Ref != string(n.digest):
		return fmt.Errorf("%w: the source has %s", ociregistry.ErrDigestInvalid, n.digest)
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
		return &node{digest: ociregistry.Digest(ref)}, ociregistry.CheckRepositoryAndDigest(repo, ociregistry.Digest(ref))
	case c.dstTag() != "" && c.tagged.Digest == "":
		r, err := reg.GetTag(ctx, repo, ref)
		if err != nil {
			return nil, atSource(err)
		}
		n := &node{digest: r.Descriptor().Digest}
		return n, c.read(n, r)
	}
	desc, err := reg.ResolveTag(ctx, repo, ref)
	if err != nil {
		return nil, atSource(err)
	}
	return &node{digest: desc.Digest, mediaType: desc.MediaType}, ociregistry.CheckDigest(desc.Digest)
}

// found tells that the destination has n.
func (n *node) found(desc ociregistry.Descriptor) {
	n.looked, n.there = true, true
	n.mediaType, n.size = desc.MediaType, desc.Size
}

// walk finds all that belongs to c.top, one step after another.
func (c *copier) walk(ctx context.Context) error {
	at := []*node{c.top}
	for depth := 0; len(at) > 0; depth++ {
		if depth > c.opts.MaxDepth {
			return fmt.Errorf("%w: manifests more than %d steps away", ErrLimit, c.opts.MaxDepth)
		}
		if err := each(ctx, c.opts.Concurrency, at, c.visit); err != nil {
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
	return c.sort()
}

// visit finds out whether the destination has n, reads it if need be, and finds
// what refers to it.
func (c *copier) visit(ctx context.Context, n *node) error {
	if !n.looked {
		desc, err := c.dst.Registry.ResolveManifest(ctx, c.dst.Repo, n.digest)
		switch {
		case err == nil:
			n.found(desc)
		case absent(err):
			n.looked = true
		default:
			return fmt.Errorf("manifest %s: %w", n.digest, atDestination(err))
		}
	}
	n.trusted = n.there && !c.opts.Recheck && !c.choosing(n)
	if !n.trusted || c.wantsExtras() && isIndex(n.mediaType) {
		if err := c.load(ctx, n); err != nil {
			return err
		}
	}
	if !n.isManifest() {
		return nil
	}
	return c.findExtras(ctx, n)
}

// load reads and parses n.
func (c *copier) load(ctx context.Context, n *node) error {
	if n.contents == nil {
		if err := c.fetch(ctx, n); err != nil {
			return fmt.Errorf("manifest %s: %w", n.digest, err)
		}
	}
	if !n.isManifest() {
		return nil
	}
	var err error
	n.info, err = manifest.Parse(n.mediaType, string(n.contents))
	if err != nil {
		return fmt.Errorf("manifest %s: %w", n.digest, err)
	}
	return nil
}

// fetch reads n from the destination if it has it, else from the source.
func (c *copier) fetch(ctx context.Context, n *node) error {
	if n.there {
		r, err := c.dst.Registry.GetManifest(ctx, c.dst.Repo, n.digest)
		if err == nil {
			return c.read(n, r)
		}
		if !absent(err) {
			return atDestination(err)
		}
		n.there, n.trusted = false, false
	}
	r, err := c.src.Registry.GetManifest(ctx, c.src.Repo, n.digest)
	if errors.Is(err, ociregistry.ErrManifestUnknown) {
		_, known := manifest.Known(n.mediaType)
		n.gone = n.optional
		n.isBlob = !n.gone && !known && n != c.top
		if !n.isManifest() {
			return nil
		}
	}
	if err != nil {
		return atSource(err)
	}
	return c.read(n, r)
}

// read reads the contents of n from r and closes it. Neither the size nor the
// content is taken on trust, and the media type only if it is one of a manifest.
func (c *copier) read(n *node, r ociregistry.BlobReader) error {
	defer r.Close()
	if err := ociregistry.CheckDigest(n.digest); err != nil {
		return err
	}
	limit := c.opts.MaxManifestSize
	contents, err := io.ReadAll(io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return err
	case int64(len(contents)) > limit:
		return fmt.Errorf("%w: a manifest has more than %d bytes", ErrLimit, limit)
	case n.digest.Algorithm().FromBytes(contents) != n.digest:
		return fmt.Errorf("%w: the content is not that of the manifest", ociregistry.ErrDigestInvalid)
	case c.held.Add(int64(len(contents))) > maxGraph:
		return fmt.Errorf("%w: manifests of more than %d bytes", ErrLimit, int64(maxGraph))
	}
	n.contents, n.size = contents, int64(len(contents))
	served := r.Descriptor().MediaType
	if _, known := manifest.Known(served); known || n.mediaType == "" {
		n.mediaType = served
	}
	return nil
}

// follow adds what n names to the graph, and returns what has to be visited next.
func (c *copier) follow(n *node) ([]*node, error) {
	if n.isBlob {
		c.addBlob(manifest.Ref{MediaType: n.mediaType, Size: n.size, Digest: n.digest})
	}
	if !n.isManifest() {
		return nil, nil
	}
	if !n.trusted {
		for _, ref := range n.info.Blobs {
			c.addBlob(ref)
		}
	}
	children := n.info.Manifests
	if c.choosing(n) {
		var err error
		if children, err = choose(n.contents, children, c.opts.Platforms); err != nil {
			return nil, fmt.Errorf("manifest %s: %w", n.digest, err)
		}
		n.partial = len(children) < len(n.info.Manifests)
		c.partial = c.partial || n.partial
	}
	var next []*node
	for _, ref := range children {
		child, isNew := c.add(ref.Digest)
		n.children = append(n.children, child)
		if isNew {
			child.mediaType, child.size, child.optional = ref.MediaType, ref.Size, ref.Elsewhere
			child.looked, child.there = n.trusted, n.trusted
			child.inTree = n.inTree
			next = append(next, child)
		}
		if c.choosing(n) && !isIndex(ref.MediaType) && !child.chosen {
			child.chosen = true
			c.chosen = append(c.chosen, child)
		}
	}
	for _, e := range n.extras {
		extra, isNew := c.add(e.digest)
		if isNew {
			extra.mediaType, extra.size, extra.optional = e.mediaType, e.size, true
			next = append(next, extra)
		}
		if e.tag != "" {
			extra.tags = append(extra.tags, e.tag)
		}
	}
	switch {
	case len(c.nodes) > c.opts.MaxManifests:
		return nil, fmt.Errorf("%w: more than %d manifests", ErrLimit, c.opts.MaxManifests)
	case len(c.blobs) > c.opts.MaxBlobs:
		return nil, fmt.Errorf("%w: more than %d blobs", ErrLimit, c.opts.MaxBlobs)
	}
	return next, nil
}

// add returns the node with a digest.
func (c *copier) add(digest ociregistry.Digest) (n *node, isNew bool) {
	if n = c.seen[digest]; n != nil {
		return n, false
	}
	n = &node{digest: digest}
	c.seen[digest] = n
	c.nodes = append(c.nodes, n)
	return n, true
}

// addBlob adds a blob. One that a manifest needs is needed, whatever another one
// says of it.
func (c *copier) addBlob(ref manifest.Ref) {
	b := c.found[ref.Digest]
	switch {
	case b == nil:
		b = &blob{ref: ref}
		c.found[ref.Digest] = b
		c.blobs = append(c.blobs, b)
	case b.ref.Elsewhere && !ref.Elsewhere:
		b.ref = ref
	}
}
