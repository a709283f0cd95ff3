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
	Referrer
	tag string // to be set at the destination, or ""
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
			err = fmt.Errorf("referrers of %s: %w", n.digest, err)
			if !c.excuses(ctx, err) {
				return err
			}
			n.unlisted = append(n.unlisted, Referrer{Subject: n.digest, Err: err})
		}
	}
	if tag := cosignTag(n.digest); c.opts.CosignTags && tag != "" {
		for _, suffix := range cosignSuffixes {
			if err := c.findCosign(ctx, n, tag+suffix); err != nil {
				err = fmt.Errorf("tag %s: %w", tag+suffix, err)
				if !c.excuses(ctx, err) {
					return err
				}
				n.unlisted = append(n.unlisted, Referrer{Subject: n.digest, Tag: tag + suffix, Err: err})
			}
		}
	}
	return nil
}

// findReferrers finds the referrers of n. Any error means that it is not known what
// there is, also [ociregistry.ErrUnsupported]: no list is not an empty list.
func (c *copier) findReferrers(ctx context.Context, n *node) error {
	listed := 0
	for desc, err := range c.src.Registry.Referrers(ctx, c.src.Repo, n.digest, "") {
		listed++
		switch {
		case err != nil:
			return atSource(err)
		case listed > c.opts.MaxManifests:
			return fmt.Errorf("%w: more than %d", ErrLimit, c.opts.MaxManifests)
		case c.opts.ReferrerTypes != nil && !slices.Contains(c.opts.ReferrerTypes, desc.ArtifactType):
			continue
		}
		if err := ociregistry.CheckDigest(desc.Digest); err != nil {
			if err = atSource(err); !c.excuses(ctx, err) {
				return err
			}
			n.unlisted = append(n.unlisted, Referrer{Subject: n.digest, Descriptor: desc, Err: err})
			continue
		}
		n.extras = append(n.extras, extra{Referrer: Referrer{Subject: n.digest, Descriptor: desc}})
	}
	return nil
}

func (c *copier) findCosign(ctx context.Context, n *node, tag string) error {
	if c.opts.inner.hasTag != nil && !c.opts.inner.hasTag(tag) {
		return nil
	}
	desc, err := c.src.Registry.ResolveTag(ctx, c.src.Repo, tag)
	if absent(err) {
		return nil
	}
	if err == nil {
		err = ociregistry.CheckDigest(desc.Digest)
	}
	if err != nil {
		return atSource(err)
	}
	there, err := c.dst.Registry.ResolveTag(ctx, c.dst.Repo, tag)
	if err != nil && !absent(err) {
		return atDestination(err)
	}
	e := extra{Referrer: Referrer{Subject: n.digest, Descriptor: desc, Tag: tag}}
	if there.Digest != desc.Digest {
		e.tag = tag
	}
	n.extras = append(n.extras, e)
	return nil
}

// excuses reports whether the copy goes on without what err keeps from being read. A
// copy that will be tried again does not, if that may help.
func (c *copier) excuses(ctx context.Context, err error) bool {
	if c.opts.inner.triedAgain && mayPass(err) && !absent(err) && !damaged(err) {
		return false
	}
	return c.opts.SkipBrokenReferrers && ctx.Err() == nil && (fromSource(err) ||
		errors.Is(err, ociregistry.ErrManifestInvalid) || errors.Is(err, ociregistry.ErrManifestBlobUnknown))
}
