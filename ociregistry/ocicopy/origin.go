package ocicopy

import (
	"context"
	"fmt"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Origin is where a repository of a mirror comes from. With it, a cache can
// serve on demand, by the same rules, what no pass has copied yet.
type Origin struct {
	Source   string
	Registry ociregistry.Interface
	Repo     string

	mirror *Mirror
	src    *source
	rule   *Selector
}

// Origins returns where the content of a repository of the destination may come
// from, by the rules inverted, in the order of the sources.
func (m *Mirror) Origins(dstRepo string) []Origin {
	var all []Origin
	for _, s := range m.sources {
		for _, rule := range s.rules {
			if repo, ok := rule.Source(dstRepo); ok && s.rule(repo) == rule {
				all = append(all, Origin{Source: s.Name, Registry: s.Registry, Repo: repo, mirror: m, src: s, rule: rule})
			}
		}
	}
	return all
}

// ChoosesTag reports whether the rule chooses a tag, if not for Newest.
func (o Origin) ChoosesTag(tag string) bool { return o.rule.ChoosesTag(tag) }

// Admit returns nil if the rule and the mirror's Validate let in the manifest
// that a tag points at, or one that is asked for by digest, with an empty tag. It
// does not look at the tag itself. Ask it about an index rather than about its
// children: these need not be signed one by one.
//
// Errors: [ErrUnsigned] and [ErrRefused], which are also [ociregistry.ErrDenied];
// and those of the source.
func (o Origin) Admit(ctx context.Context, tag string, desc ociregistry.Descriptor) error {
	return o.mirror.admit(ctx, o.rule, Image{
		Source:     o.Source,
		Place:      Place{o.Registry, o.Repo, string(desc.Digest)},
		Tag:        tag,
		Descriptor: desc,
	}, o.Registry, nil)
}

// admit asks for signatures at reg, which is image.Place.Registry or waits for it.
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
