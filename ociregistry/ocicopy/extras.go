package ocicopy

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/seed-40b21970/oci/internal/rules"
	"github.com/seed-40b21970/oci/ociregistry"
)

// extra is a referrer of a manifest, listed or under cosign's tag.
type extra struct {
	Referrer
	tag string // the tag to set at the destination, or ""
}

func (c *copier) wantsExtras() bool { return c.opts.Referrers || c.opts.CosignTags }

// findExtras finds the referrers of n of the kinds that are to be copied.
func (c *copier) findExtras(ctx context.Context, n *node) error {
	if c.opts.Referrers {
		if err := c.findReferrers(ctx, n); err != nil {
			err = fmt.Errorf("referrers of %s: %w", n.digest, err)
			if !c.maySkip(ctx, err) {
				return err
			}
			n.unlisted = append(n.unlisted, Referrer{Subject: n.digest, Err: err})
		}
	}
	if tag := rules.CosignTag(n.digest); c.opts.CosignTags && tag != "" {
		for _, suffix := range rules.CosignSuffixes {
			if err := c.findCosign(ctx, n, tag+suffix); err != nil {
				err = fmt.Errorf("tag %s: %w", tag+suffix, err)
				if !c.maySkip(ctx, err) {
					return err
				}
				n.unlisted = append(n.unlisted, Referrer{Subject: n.digest, Tag: tag + suffix, Err: err})
			}
		}
	}
	return nil
}

// findReferrers lists the referrers of n. It returns any error, even
// [ociregistry.ErrUnsupported]: a missing list is not an empty list.
func (c *copier) findReferrers(ctx context.Context, n *node) error {
	listed := 0
	for desc, err := range c.src.Registry.Referrers(ctx, c.src.Repository, n.digest, "") {
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
			if err = atSource(err); !c.maySkip(ctx, err) {
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
	desc, err := c.src.Registry.ResolveTag(ctx, c.src.Repository, tag)
	if absent(err) {
		return nil
	}
	if err == nil {
		err = ociregistry.CheckDigest(desc.Digest)
	}
	if err != nil {
		return atSource(err)
	}
	there, err := c.dst.Registry.ResolveTag(ctx, c.dst.Repository, tag)
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

// maySkip reports whether the copy continues without what could not be read because of
// err. A copy that will be retried does not skip on a temporary error.
func (c *copier) maySkip(ctx context.Context, err error) bool {
	if c.opts.inner.willRetry && isTemporary(err) && !absent(err) && !damaged(err) {
		return false
	}
	return c.opts.SkipBrokenReferrers && ctx.Err() == nil && (fromSource(err) ||
		errors.Is(err, ociregistry.ErrManifestInvalid) || errors.Is(err, ociregistry.ErrManifestBlobUnknown))
}
