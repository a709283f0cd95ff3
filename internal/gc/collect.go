package gc

import (
	"context"
	"iter"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

// Backend is a registry that [Collect] collects.
type Backend interface {
	// Repositories is that of the registry.
	Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error]

	// Enumerate returns what a repository has. It returns nil if the repository is gone.
	Enumerate(ctx context.Context, name string) (*Repository, error)

	// Sweep removes what a plan has, in its order and a few things at a time, if it is
	// still garbage. It calls found for each thing that it removed.
	Sweep(ctx context.Context, p *Plan, found func(ocigc.Finding)) error

	// EndUploads ends the upload sessions to which nobody has written since a time, or in
	// a dry run only finds them.
	EndUploads(ctx context.Context, since time.Time, dryRun bool, found func(ocigc.Finding)) error
}

// Collect does what [ocigc.Collector] says of its method GC.
func Collect(ctx context.Context, b Backend, opts *ocigc.Options) (*ocigc.Report, error) {
	if opts == nil {
		opts = &ocigc.Options{}
	}
	selector, err := ocigc.NewSelector(opts)
	if err != nil {
		return nil, err
	}
	now := time.Now
	if opts.Now != nil {
		now = opts.Now
	}
	report := &ocigc.Report{DryRun: opts.DryRun}
	found := func(f ocigc.Finding) { report.Add(opts, f) }
	since := now().Add(-max(selector.Delay(), 0))
	if err := b.EndUploads(ctx, since, opts.DryRun, found); err != nil {
		return report, err
	}
	for name, err := range b.Repositories(ctx, "") {
		if err != nil {
			return report, err
		}
		err := collect(ctx, b, name, selector, now(), opts.DryRun, found)
		if ctx.Err() != nil {
			return report, ctx.Err()
		}
		report.Done(opts, name, err)
	}
	return report, ctx.Err()
}

func collect(ctx context.Context, b Backend, name string, selector *ocigc.Selector, now time.Time, dryRun bool, found func(ocigc.Finding)) error {
	r, err := b.Enumerate(ctx, name)
	switch {
	case err != nil || r == nil:
		return err
	case r.Unreadable != nil:
		return r.Unreadable
	}
	p := Decide(r, selector, now)
	if dryRun {
		p.each(found)
		return nil
	}
	return b.Sweep(ctx, p, found)
}

// each calls found for everything in the plan.
func (p *Plan) each(found func(ocigc.Finding)) {
	for _, i := range p.DropTags {
		found(p.Tag(i, ocigc.NotKept))
	}
	tags := p.tagsOfGarbage()
	for _, group := range p.Groups {
		for _, i := range group {
			for _, tag := range tags[i] {
				found(p.Tag(tag, ocigc.SubjectGone))
			}
			found(p.Manifest(i))
		}
	}
	for _, i := range p.FreeBlobs {
		found(p.Blob(i))
	}
}

// tagsOfGarbage returns the tags that go with their manifests.
func (p *Plan) tagsOfGarbage() map[int][]int {
	position := make(map[ociregistry.Digest]int)
	for _, group := range p.Groups {
		for _, i := range group {
			position[p.Manifests[i].Digest] = i
		}
	}
	dropped := make(map[int]bool)
	for _, i := range p.DropTags {
		dropped[i] = true
	}
	tags := make(map[int][]int)
	for i, tag := range p.Tags {
		if m, ok := position[tag.Manifest]; ok && !dropped[i] {
			tags[m] = append(tags[m], i)
		}
	}
	return tags
}

// Tag returns the finding for a tag.
func (p *Plan) Tag(i int, reason ocigc.Reason) ocigc.Finding {
	tag := &p.Tags[i]
	return ocigc.Finding{Repository: p.Name, Kind: ocigc.KindTag, Tag: tag.Name, Digest: tag.Manifest, Reason: reason, Since: timeOf(tag.Pushed)}
}

// Manifest returns the finding for a manifest that is garbage.
func (p *Plan) Manifest(i int) ocigc.Finding {
	m := &p.Manifests[i]
	reason := ocigc.Untagged
	if p.isReferrer(p.facts[i]) {
		reason = ocigc.SubjectGone
	}
	return ocigc.Finding{Repository: p.Name, Kind: ocigc.KindManifest, Digest: m.Digest, Size: m.Size, Reason: reason, Since: timeOf(p.facts[i].Time)}
}

// Blob returns the finding for a blob.
func (p *Plan) Blob(i int) ocigc.Finding {
	b := &p.Blobs[i]
	return ocigc.Finding{Repository: p.Name, Kind: ocigc.KindBlob, Digest: b.Digest, Size: b.Size, Reason: ocigc.Unnamed, Since: timeOf(b.Time)}
}
