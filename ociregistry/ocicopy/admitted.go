package ocicopy

import (
	"context"
	"sync"

	"github.com/seed-40b21970/oci/ociregistry"
)

// admit returns nil if the manifest that a tag points at, or one that is asked for
// by digest, is let in. It remembers that, and what an index names.
func (v *onDemand) admit(ctx context.Context, o Origin, tag string, desc ociregistry.Descriptor) error {
	guarded := o.rule.rule.OnlySigned || v.mirror.opts.Validate != nil
	if !guarded || tag != "" && !o.ChoosesTag(tag) { // a tag of cosign
		return nil
	}
	asked := admission{o.Repo, tag, desc.Digest}
	in, looked := v.admitted.get(asked)
	if !in {
		if err := o.admitDemanded(ctx, tag, desc); err != nil {
			return err
		}
	}
	if !looked && isIndex(desc.MediaType) {
		index, err := o.load(ctx, desc)
		if err != nil {
			return err
		}
		for _, child := range index.info.Manifests {
			v.admitted.add(admission{o.Repo, "", child.Digest}, false)
		}
	}
	v.admitted.add(asked, true)
	v.admitted.add(admission{o.Repo, "", desc.Digest}, true)
	return nil
}

// admitDemanded is Admit for those who may ask about a signature, or another
// manifest that is about one: these come with it.
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
	c := newCopier(Place{}, Place{o.Registry, o.Repo, string(desc.Digest)}, nil, true)
	n := &node{digest: desc.Digest, mediaType: desc.MediaType}
	return n, c.load(ctx, n)
}

// admission is a manifest of a source that was let in: by a tag, or by its digest.
type admission struct {
	repo, tag string
	digest    ociregistry.Digest
}

// admissions are those that are remembered, and of indexes whether their children
// are among them.
type admissions struct {
	mu     sync.Mutex
	looked map[admission]bool
}

// maxAdmissions bounds what is remembered. Beyond it all is forgotten, which costs
// the source some requests.
const maxAdmissions = 1 << 16

func (a *admissions) get(of admission) (in, looked bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	looked, in = a.looked[of]
	return in, looked
}

func (a *admissions) add(of admission, looked bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.looked == nil || len(a.looked) >= maxAdmissions {
		a.looked = make(map[admission]bool)
	}
	a.looked[of] = a.looked[of] || looked
}
