package ocicopy

import (
	"context"
	"sync"

	"github.com/seed-40b21970/oci/ociregistry"
)

// admit returns nil if a manifest, asked for by tag or by digest, is admitted. It
// remembers the manifest, and those that it names if it is an index.
func (v *onDemand) admit(ctx context.Context, o Origin, tag string, desc ociregistry.Descriptor) error {
	guarded := o.rule.rule.OnlySigned || v.mirror.opts.Validate != nil
	if !guarded || tag != "" && !o.ChoosesTag(tag) { // a tag of cosign
		return nil
	}
	asked := admission{o.Repository, tag, desc.Digest}
	in, expanded := v.admitted.get(asked)
	if !in {
		if err := o.admitDemanded(ctx, tag, desc); err != nil {
			return err
		}
	}
	if !expanded && isIndex(desc.MediaType) {
		index, err := o.load(ctx, desc)
		if err != nil {
			return err
		}
		for _, child := range index.info.Manifests {
			v.admitted.add(admission{o.Repository, "", child.Digest}, false)
		}
	}
	v.admitted.add(asked, true)
	v.admitted.add(admission{o.Repository, "", desc.Digest}, true)
	return nil
}

// admitDemanded is Admit, but accepts a manifest with a subject by digest: signatures
// and other referrers are mirrored with their subject.
func (o Origin) admitDemanded(ctx context.Context, tag string, desc ociregistry.Descriptor) error {
	err := o.Admit(ctx, tag, desc)
	if tag != "" || leftOut(err) == "" {
		return err
	}
	if n, loadErr := o.load(ctx, desc); loadErr == nil && n.info.Subject != "" {
		return nil
	}
	return err
}

// load reads and parses a manifest.
func (o Origin) load(ctx context.Context, desc ociregistry.Descriptor) (*node, error) {
	c := newCopier(Place{}, Place{o.Registry, o.Repository, string(desc.Digest)}, true, nil)
	n := &node{digest: desc.Digest, mediaType: desc.MediaType}
	return n, c.load(ctx, n)
}

// admission is a manifest of a source that was admitted, by a tag or by its digest.
type admission struct {
	repo, tag string
	digest    ociregistry.Digest
}

// admissions remembers admissions, and for each of them whether the children of the
// manifest are remembered too.
type admissions struct {
	mu       sync.Mutex
	expanded map[admission]bool
}

// maxAdmissions is the maximum number of admissions to remember. When there are more,
// all are forgotten, which costs the source some requests.
const maxAdmissions = 1 << 16

func (a *admissions) get(of admission) (in, expanded bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	expanded, in = a.expanded[of]
	return in, expanded
}

func (a *admissions) add(of admission, expanded bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.expanded == nil || len(a.expanded) >= maxAdmissions {
		a.expanded = make(map[admission]bool)
	}
	a.expanded[of] = a.expanded[of] || expanded
}
