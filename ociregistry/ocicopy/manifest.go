package ocicopy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// load reads and parses n, if that was not done.
func (c *copier) load(ctx context.Context, n *node) error {
	if n.contents != nil {
		return nil
	}
	if err := c.fetch(ctx, n); err != nil {
		return fmt.Errorf("manifest %s: %w", n.digest, err)
	}
	return nil
}

// fetch reads n from the destination if it has it, else from the source.
func (c *copier) fetch(ctx context.Context, n *node) error {
	if n.there {
		err := c.fetchThere(ctx, n)
		switch {
		case err == nil:
			return c.askType(ctx, n)
		case !absent(err) && !damaged(err):
			return atDestination(err)
		}
		n.there, n.trusted = false, false
	}
	r, err := c.src.Registry.GetManifest(ctx, c.src.Repo, n.digest)
	if errors.Is(err, ociregistry.ErrManifestUnknown) {
		n.gone = n.optional
		n.isBlob = !n.gone && n.named && !known(n.mediaType)
		if !n.isManifest() {
			return nil
		}
	}
	if err != nil {
		return atSource(err)
	}
	return c.readSource(n, r)
}

func (c *copier) fetchThere(ctx context.Context, n *node) error {
	r, err := c.dst.Registry.GetManifest(ctx, c.dst.Repo, n.digest)
	if err != nil {
		return err
	}
	return c.read(n, r)
}

// damaged reports whether err says that content is not what its digest says. At
// the destination that is repaired.
func damaged(err error) bool {
	return errors.Is(err, ociregistry.ErrDigestInvalid) || errors.Is(err, ociregistry.ErrSizeInvalid)
}

// askType asks the source for the media type of what was read from the
// destination, if nothing else tells it. A cache may have kept it under another.
func (c *copier) askType(ctx context.Context, n *node) error {
	if n.mediaType != "" {
		return nil
	}
	n.mediaType = n.stored
	desc, err := c.src.Registry.ResolveManifest(ctx, c.src.Repo, n.digest)
	switch {
	case absent(err): // nobody knows better
		return nil
	case err != nil:
		return atSource(err)
	}
	n.mediaType = cmp.Or(desc.MediaType, n.stored)
	return nil
}

// readSource is read for what the source has. A tag of the destination is not
// moved to a page or a message that is served in place of a manifest: of what a tag
// points at, the source alone says the digest.
func (c *copier) readSource(n *node, r ociregistry.BlobReader) error {
	if err := c.read(n, r); err != nil {
		return atSource(err)
	}
	if n.byTag {
		if err := manifest.CheckNamed(n.mediaType, n.contents); err != nil {
			return atSource(err)
		}
	}
	return nil
}

// read reads the contents of n from r and closes it. Neither the size nor the
// content is taken on trust, nor is the media type.
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
	return n.parse(r.Descriptor().MediaType)
}

// parse finds out the media type of n, and what n names. The type that n was read
// with and the one that is known so far count if the contents are of that type,
// and else the one that the contents say. What is no manifest has the type that
// was known before it was read. That can be none if it is from the destination.
func (n *node) parse(served string) error {
	contents := string(n.contents)
	var invalid error
	for _, mediaType := range []string{served, n.mediaType, ""} {
		if mediaType == "" {
			mediaType = manifest.TypeOf(contents)
		}
		if !known(mediaType) {
			continue
		}
		info, err := manifest.Parse(mediaType, contents)
		if err == nil {
			n.mediaType, n.info = mediaType, info
			return nil
		}
		invalid = cmp.Or(invalid, err)
	}
	if invalid == nil && !n.there {
		n.mediaType = cmp.Or(n.mediaType, served)
		_, invalid = manifest.Parse(n.mediaType, contents)
	}
	return invalid
}

func known(mediaType string) bool {
	_, known := manifest.Known(mediaType)
	return known
}
