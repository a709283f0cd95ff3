package ocibucket

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/parallel"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// A push is a push of a manifest.
type push struct {
	registry  *Registry
	repo      *repos.Repository
	ref       string
	condition ociregistry.PushCondition
	lenient   bool // content that the manifest names may be missing
	op        repostate.Op
	info      manifest.Info

	mu      sync.Mutex
	missing map[ociregistry.Digest]bool // what it names and was not there when it was looked for
}

func (r *Registry) pushManifest(ctx context.Context, name, ref string, contents []byte, mediaType string, tags []string) (desc ociregistry.Descriptor, err error) {
	checked, err := manifest.CheckPush(ctx, name, ref, contents, mediaType, tags)
	if err == nil {
		err = r.writable()
	}
	if err != nil {
		return desc, err
	}
	repo := r.repos.Open(name)
	defer repo.Release()
	p := &push{
		registry: r, repo: repo, ref: ref,
		condition: ociregistry.PushConditionFrom(ctx),
		lenient:   r.opts.Sparse || ociregistry.MissingAllowed(ctx),
		info:      checked.Info,
	}
	p.op = repostate.Op{
		Kind: repostate.PutManifest, Digest: checked.Digest, MediaType: manifest.OwnMediaType(mediaType), Size: int64(len(contents)),
		Text: checked.Contents, Tags: checked.Tags, Info: &p.info,
	}
	if err := p.commit(ctx); err != nil {
		return desc, err
	}
	return ociregistry.Descriptor{MediaType: p.op.MediaType, Digest: p.op.Digest, Size: p.op.Size}, nil
}

// pushAttempts is how often links are read that are deleted before they count.
const pushAttempts = 4

func (p *push) commit(ctx context.Context) error {
	if err := p.repo.Load(ctx); err != nil {
		return err
	}
	change := &repos.Change{Check: p.check}
	for range pushAttempts {
		err := p.know(ctx)
		if err == nil && (p.lenient || len(p.missing) == 0) {
			err = p.repo.Catalog(ctx)
		}
		if err == nil {
			err = p.repo.Commit(ctx, change)
		} else if p.repo.Pending(change) {
			err = errors.Join(objstore.ErrUnclear, err)
		}
		if !errors.Is(err, repos.ErrAgain) {
			return err
		}
		for digest := range p.names() {
			p.repo.Forget(digest)
		}
	}
	return errors.Join(objstore.ErrUnclear, repos.ErrAgain)
}

// names returns the digests of what the manifest names, and whether that may be a manifest.
func (p *push) names() map[ociregistry.Digest]bool {
	names := map[ociregistry.Digest]bool{}
	for i := range p.info.Blobs {
		names[p.info.Blobs[i].Digest] = false
	}
	for i := range p.info.Manifests {
		names[p.info.Manifests[i].Digest] = true
	}
	return names
}

// linkReaders is how many links are read at a time.
const linkReaders = 8

// know makes sure that it is known of each blob that the manifest names whether it is there.
func (p *push) know(ctx context.Context) error {
	p.missing = map[ociregistry.Digest]bool{}
	asOf := p.repo.AsOf()
	var unknown []ociregistry.Digest
	for digest, isManifest := range p.names() {
		if _, known := p.repo.Known(digest); known {
			continue
		}
		there := false
		if isManifest {
			if err := p.repo.View(func(s *repos.State) { there = s.Manifest(digest) != nil }); err != nil {
				return err
			}
		}
		switch {
		case there:
		case ociregistry.CheckDigest(digest) != nil:
			p.missing[digest] = true
		default:
			unknown = append(unknown, digest)
		}
	}
	return parallel.Each(ctx, linkReaders, unknown, func(ctx context.Context, digest ociregistry.Digest) error {
		return p.knowLink(ctx, digest, asOf)
	})
}

func (p *push) knowLink(ctx context.Context, digest ociregistry.Digest, asOf repos.AsOf) error {
	l, err := p.registry.blobs.Get(ctx, p.repo.Name(), digest)
	if err != nil && !errors.Is(err, ociregistry.ErrBlobUnknown) {
		return err
	}
	if err == nil && p.repo.KnowsDead(l.Nonce) { // who deletes it did not come further
		if err := p.registry.blobs.Bury(ctx, p.repo.Name(), digest, l); err != nil && !errors.Is(err, bucket.ErrLost) {
			return err
		}
		err = ociregistry.ErrBlobUnknown
	}
	if err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.missing[digest] = true
		return nil
	}
	p.repo.Learn(digest, repos.Known{Nonce: l.Nonce, Size: l.Size, AsOf: asOf})
	return nil
}

// check is the Check of the push's repos.Change.
func (p *push) check(b *repos.Batch) error {
	mediaType, there := b.MediaType(p.op.Digest)
	if p.condition.IfMatch != nil || p.condition.IfNoneMatch != nil {
		if err := p.condition.Check(p.current(b, there)); err != nil {
			return err
		}
	}
	if err := p.checkReferences(b); err != nil {
		return err
	}
	if err := p.checkMoves(b); err != nil {
		return err
	}
	o := p.op
	if there && mediaType == o.MediaType {
		o.Text = ""
	}
	b.Add(&o)
	return nil
}

// current returns the digest that ref resolves to, or "". A push without a ref is a push by digest.
func (p *push) current(b *repos.Batch, there bool) ociregistry.Digest {
	if call.IsTag(p.ref) {
		m := b.Tag(p.ref)
		if m == nil {
			return ""
		}
		return m.Digest
	}
	if there {
		return p.op.Digest
	}
	return ""
}

// checkReferences checks that the content that the manifest names is present and has
// the size that the manifest states.
func (p *push) checkReferences(b *repos.Batch) error {
	for i := range p.info.Blobs {
		if err := p.checkBlob(b, &p.info.Blobs[i], "blob"); err != nil {
			return err
		}
	}
	for i := range p.info.Manifests {
		ref := &p.info.Manifests[i]
		m := b.Manifest(ref.Digest)
		var err error
		if m != nil {
			err = ref.CheckSize(m.Size)
		} else {
			err = p.checkBlob(b, ref, "manifest")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *push) checkBlob(b *repos.Batch, ref *manifest.Ref, what string) error {
	l, known := b.Link(ref.Digest)
	switch {
	case known:
		return ref.CheckSize(l.Size)
	case !p.missing[ref.Digest]:
		return repos.ErrAgain
	case p.lenient || ref.Elsewhere:
		return nil
	}
	return fmt.Errorf("%w: %s %s", ociregistry.ErrManifestBlobUnknown, what, ref.Digest)
}

// checkMoves checks that tags may be moved to the manifest.
func (p *push) checkMoves(b *repos.Batch) error {
	if !p.registry.opts.ImmutableTags {
		return nil
	}
	for _, tag := range p.op.Tags {
		if m := b.Tag(tag); m != nil && m.Digest != p.op.Digest {
			return fmt.Errorf("%w: tag %s exists and is immutable", ociregistry.ErrDenied, tag)
		}
	}
	if m := b.Manifest(p.op.Digest); m != nil && m.IsTagged() && m.MediaType != p.op.MediaType {
		return fmt.Errorf("%w: the manifest's tags are immutable, and so is its media type", ociregistry.ErrDenied)
	}
	return nil
}
