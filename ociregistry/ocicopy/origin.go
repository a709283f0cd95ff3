package ocicopy

import (
	"context"
	"fmt"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Origin is the source of a repository of a mirror. With it, a cache can serve on
// demand, by the same rules, what no pass has copied yet.
type Origin struct {
	Source     string
	Registry   ociregistry.Interface
	Repository string

	mirror *Mirror
	src    *source
	rule   *Selector
}

// Origins returns the repositories from which the content of a repository of the
// destination may come, by inverting the rules, in the order of the sources.
func (m *Mirror) Origins(dstRepo string) []Origin {
	var all []Origin
	for _, s := range m.sources {
		for _, rule := range s.rules {
			if repo, ok := rule.Source(dstRepo); ok && s.rule(repo) == rule {
				all = append(all, Origin{Source: s.Name, Registry: s.Registry, Repository: repo, mirror: m, src: s, rule: rule})
			}
		}
	}
	return all
}

// ChoosesTag reports whether the rule chooses a tag, without regard to Newest.
func (o Origin) ChoosesTag(tag string) bool { return o.rule.ChoosesTag(tag) }

// Admit returns nil if the rule and the mirror's Validate accept a manifest, which was
// asked for by tag or, if tag is empty, by digest. It does not check whether the rule
// chooses the tag. Callers should pass an index rather than its children, which need
// not be signed themselves.
//
// Errors are [ErrUnsigned] and [ErrRefused], which are also [ociregistry.ErrDenied],
// and those of the source.
func (o Origin) Admit(ctx context.Context, tag string, desc ociregistry.Descriptor) error {
	return o.mirror.admit(ctx, o.rule, Image{
		Source:     o.Source,
		Place:      Place{o.Registry, o.Repository, string(desc.Digest)},
		Tag:        tag,
		Descriptor: desc,
	}, o.Registry, nil)
}

// admit looks up signatures in reg, which is image.Place.Registry or its patient wrapper.
func (m *Mirror) admit(ctx context.Context, rule *Selector, image Image, reg ociregistry.Interface, hasTag func(string) bool) error {
	if rule.rule.OnlySigned {
		place := image.Place
		place.Registry = reg
		ok, err := signed(ctx, place, rule.rule.SignatureTypes, hasTag)
		if err != nil {
			return fmt.Errorf("signatures: %w", err)
		}
		if !ok {
			return fmt.Errorf("%w: %w", ociregistry.ErrDenied, ErrUnsigned)
		}
	}
	if m.opts.Validate != nil {
		if err := m.opts.Validate(ctx, image); err != nil {
			return fmt.Errorf("%w: %w: %w", ociregistry.ErrDenied, ErrRefused, err)
		}
	}
	return nil
}
