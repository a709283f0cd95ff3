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

// load reads and parses n, unless it has been read before.
func (c *copier) load(ctx context.Context, n *node) error {
	if n.contents != nil {
		return nil
	}
	if err := c.fetch(ctx, n); err != nil {
		return fmt.Errorf("manifest %s: %w", n.digest, err)
	}
	return nil
}

// fetch reads n from the destination if that has it, or else from the source.
func (c *copier) fetch(ctx context.Context, n *node) error {
	if n.present {
		err := c.fetchFromDestination(ctx, n)
		switch {
		case err == nil:
			return c.askType(ctx, n)
		case !absent(err) && !damaged(err):
			return atDestination(err)
		}
		n.present, n.trusted = false, false
	}
	r, err := c.src.Registry.GetManifest(ctx, c.src.Repository, n.digest)
	if errors.Is(err, ociregistry.ErrManifestUnknown) {
		n.gone = n.optional
		n.isBlob = !n.gone && n.named && !isKnown(n.mediaType)
		if !n.isManifest() {
			return nil
		}
	}
	if err != nil {
		return atSource(err)
	}
	return c.readSource(n, r)
}

func (c *copier) fetchFromDestination(ctx context.Context, n *node) error {
	r, err := c.dst.Registry.GetManifest(ctx, c.dst.Repository, n.digest)
	if err != nil {
		return err
	}
	return c.read(n, r)
}

// damaged reports whether err says that content does not match its digest. At the
// destination, such content is repaired.
func damaged(err error) bool {
	return errors.Is(err, ociregistry.ErrDigestInvalid) || errors.Is(err, ociregistry.ErrSizeInvalid)
}

// askType asks the source for the media type of a manifest that was read from the
// destination, if it is not known yet. A cache may have stored it under another one.
func (c *copier) askType(ctx context.Context, n *node) error {
	if n.mediaType != "" {
		return nil
	}
	n.mediaType = n.storedType
	desc, err := c.src.Registry.ResolveManifest(ctx, c.src.Repository, n.digest)
	switch {
	case absent(err): // the type at the destination is all there is
		return nil
	case err != nil:
		return atSource(err)
	}
	n.mediaType = cmp.Or(desc.MediaType, n.storedType)
	return nil
}

// readSource is read for manifests from the source. It refuses a page or a message in
// place of a manifest that was found by a tag alone: only the source vouches for its
// digest then.
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

// read reads the contents of n from r, and closes r. It trusts neither the size, nor the
// content, nor the media type.
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
		return fmt.Errorf("%w: the manifest has more than %d bytes", ErrLimit, limit)
	case n.digest.Algorithm().FromBytes(contents) != n.digest:
		return fmt.Errorf("%w: the content of the manifest does not match", ociregistry.ErrDigestInvalid)
	case c.manifestBytes.Add(int64(len(contents))) > maxGraph:
		return fmt.Errorf("%w: the manifests have more than %d bytes", ErrLimit, int64(maxGraph))
	}
	n.contents, n.size = contents, int64(len(contents))
	return n.parse(r.Descriptor().MediaType)
}

// parse finds out the media type of n, and what n names. It takes the first of these
// types that the contents match: the type with which n was served, the type that is
// known so far, and the type in the contents. Content that is not a manifest keeps the
// type that was known before, which may be empty if it was read from the destination.
func (n *node) parse(served string) error {
	contents := string(n.contents)
	var invalid error
	for _, mediaType := range []string{served, n.mediaType, ""} {
		if mediaType == "" {
			mediaType = manifest.TypeOf(contents)
		}
		if !isKnown(mediaType) {
			continue
		}
		info, err := manifest.Parse(mediaType, contents)
		if err == nil {
			n.mediaType, n.info = mediaType, info
			return nil
		}
		invalid = cmp.Or(invalid, err)
	}
	if invalid == nil && !n.present {
		n.mediaType = cmp.Or(n.mediaType, served)
		_, invalid = manifest.Parse(n.mediaType, contents)
	}
	return invalid
}

func isKnown(mediaType string) bool {
	_, known := manifest.Known(mediaType)
	return known
}
