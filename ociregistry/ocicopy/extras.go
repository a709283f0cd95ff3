package ocicopy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-40b21970/oci/ociregistry"
)

// An extra is a manifest that refers to another one.
type extra struct {
	digest    ociregistry.Digest
	mediaType string
	size      int64
	tag       string // to be set at the destination, or ""
}

// cosignSuffixes end the tags that cosign makes of the digest of what it signs.
var cosignSuffixes = []string{".sig", ".att", ".sbom"}

// cosignTag returns the tag of cosign for what has a digest, without a suffix,
// or "" if there is none: made of SHA-512 it would be too long for a tag.
func cosignTag(digest ociregistry.Digest) string {
	hex, ok := strings.CutPrefix(string(digest), "sha256:")
	if !ok {
		return ""
	}
	return "sha256-" + hex
}

// aboutDigest reports whether a tag belongs to a manifest that its name is made
// of, and cosign whether it does by cosign's scheme. The other scheme is the
// referrers tag of the distribution specification, which registries and clients
// maintain by themselves.
func aboutDigest(tag string) (about, cosign bool) {
	rest, ok := strings.CutPrefix(tag, "sha256-")
	if !ok || len(rest) < 64 || strings.Trim(rest[:64], "0123456789abcdef") != "" {
		return false, false
	}
	suffix := rest[64:]
	cosign = slices.Contains(cosignSuffixes, suffix)
	return cosign || suffix == "", cosign
}

func (c *copier) wantsExtras() bool { return c.opts.Referrers || c.opts.CosignTags }

// findExtras finds what refers to n, of the kinds that are to be copied.
func (c *copier) findExtras(ctx context.Context, n *node) error {
	if c.opts.Referrers {
		if err := c.findReferrers(ctx, n); err != nil {
			return fmt.Errorf("referrers of %s: %w", n.digest, err)
		}
	}
	if tag := cosignTag(n.digest); c.opts.CosignTags && tag != "" {
		for _, suffix := range cosignSuffixes {
			if err := c.findCosign(ctx, n, tag+suffix); err != nil {
				return fmt.Errorf("tag %s: %w", tag+suffix, err)
			}
		}
	}
	return nil
}

func (c *copier) findReferrers(ctx context.Context, n *node) error {
	listed := 0
	for desc, err := range c.src.Registry.Referrers(ctx, c.src.Repo, n.digest, "") {
		listed++
		switch {
		case errors.Is(err, ociregistry.ErrUnsupported), absent(err):
			return nil
		case err != nil:
			return atSource(err)
		case listed > c.opts.MaxManifests:
			return fmt.Errorf("%w: more than %d", ErrLimit, c.opts.MaxManifests)
		case c.opts.ReferrerTypes != nil && !slices.Contains(c.opts.ReferrerTypes, desc.ArtifactType):
			continue
		}
		if err := ociregistry.CheckDigest(desc.Digest); err != nil {
			return err
		}
		n.extras = append(n.extras, extra{digest: desc.Digest, mediaType: desc.MediaType, size: desc.Size})
	}
	return nil
}

func (c *copier) findCosign(ctx context.Context, n *node, tag string) error {
	if c.opts.hasTag != nil && !c.opts.hasTag(tag) {
		return nil
	}
	desc, err := c.src.Registry.ResolveTag(ctx, c.src.Repo, tag)
	if absent(err) {
		return nil
	}
	if err != nil {
		return atSource(err)
	}
	there, err := c.dst.Registry.ResolveTag(ctx, c.dst.Repo, tag)
	if err != nil && !absent(err) {
		return atDestination(err)
	}
	if there.Digest == desc.Digest {
		tag = ""
	}
	n.extras = append(n.extras, extra{digest: desc.Digest, mediaType: desc.MediaType, size: desc.Size, tag: tag})
	return nil
}
