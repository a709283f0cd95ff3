package ocifs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// push is a manifest on its way into a repository.
type push struct {
	repo      *repository
	ref       string
	condition ociregistry.PushCondition
	sparse    bool // what it names may be missing
	op        op
	taken     int64 // bytes that were accounted for
}

// check is the check of its [change].
func (p *push) check(b *batch) error {
	if p.condition.IfMatch != nil || p.condition.IfNoneMatch != nil {
		if err := p.condition.Check(b.current(p.ref, p.op.digest)); err != nil {
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
	mediaType, there := b.mediaType(o.digest)
	if there {
		intact, err := p.intact()
		if err != nil {
			return err
		}
		if intact {
			o.contents = ""
		}
		if intact && mediaType == o.mediaType && p.tagged(b) {
			return nil // all is as it should be
		}
	} else {
		has, _, err := p.repo.hasBlob(o.digest, -1)
		if err != nil {
			return err
		}
		o.blob = has
		if !has {
			if err := p.take(); err != nil {
				return err
			}
		}
	}
	b.add(o)
	return nil
}

func (p *push) take() error {
	if p.taken > 0 {
		return nil // this is checked a second time
	}
	if err := p.repo.registry.take(p.op.size); err != nil {
		return err
	}
	p.taken = p.op.size
	return nil
}

// checkReferences checks that what the manifest names is there. Image indexes
// are known to list blobs too: build caches are pushed as such.
func (p *push) checkReferences(b *batch) error {
	if p.sparse {
		return nil
	}
	info := p.op.info
	for i := range info.Blobs {
		if ref := &info.Blobs[i]; !ref.Elsewhere {
			if err := p.checkBlob(ref, "blob"); err != nil {
				return err
			}
		}
	}
	for i := range info.Manifests {
		ref := &info.Manifests[i]
		if ref.Elsewhere || p.hasManifest(b, ref.Digest) {
			continue
		}
		if err := p.checkBlob(ref, "manifest"); err != nil {
			return err
		}
	}
	b.refers = true
	return nil
}

func (p *push) checkBlob(ref *manifest.Ref, what string) error {
	err := ociregistry.CheckDigest(ref.Digest)
	if err == nil {
		has, doubt, err := p.repo.hasBlob(ref.Digest, ref.Size)
		if err != nil || has {
			return err
		}
		if doubt {
			return &doubtError{ref.Digest}
		}
	}
	return fmt.Errorf("%w: %s %s", ociregistry.ErrManifestBlobUnknown, what, ref.Digest)
}

// doubtError is for a blob whose file has another size than a manifest says. To
// find out which of both is wrong takes to read the file, which nobody does who
// has the journal locked.
type doubtError struct{ digest ociregistry.Digest }

func (e *doubtError) Error() string { return fmt.Sprintf("blob %s may be damaged", e.digest) }

// commit pushes the manifest.
func (p *push) commit(ctx context.Context) error {
	for {
		err := p.repo.commit(&change{ctx: ctx, creates: true, size: len(p.op.contents), check: p.check})
		var doubt *doubtError
		if !errors.As(err, &doubt) {
			return err
		}
		sound, err := p.repo.isSound(doubt.digest)
		switch {
		case err != nil:
			return err
		case !sound:
			return fmt.Errorf("%w: %w", ociregistry.ErrManifestBlobUnknown, doubt)
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// hasBlob reports whether there is a blob. One whose file has not the given size,
// if that is not -1, may be damaged: unless it is known not to be, there is doubt.
func (repo *repository) hasBlob(digest ociregistry.Digest, size int64) (has, doubt bool, err error) {
	repo.mu.RLock()
	_, pending := repo.state.blobs[digest]
	m := repo.state.manifests[digest]
	_, deleted := repo.state.deleted[digest]
	repo.mu.RUnlock()
	if pending {
		return true, false, nil
	}
	if deleted || m != nil && !m.blob {
		return false, false, nil
	}
	n, err := repo.registry.store.stat(repo.dir, digest)
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	if err != nil || size < 0 || size == n {
		return err == nil, false, err
	}
	has, _, err = repo.isKnownSound(digest)
	return has, !has, err
}

// hasManifest reports whether there is a manifest, in the state or in b.
func (p *push) hasManifest(b *batch, digest ociregistry.Digest) bool {
	_, there := b.mediaType(digest)
	return there
}

// checkMoves checks that the tags may be pointed at the manifest.
func (p *push) checkMoves(b *batch) error {
	if !p.repo.registry.opts.ImmutableTags {
		return nil
	}
	for _, tag := range p.op.tags {
		if old := b.tag(tag); old != "" && old != p.op.digest {
			return fmt.Errorf("%w: tag %s exists and is immutable", ociregistry.ErrDenied, tag)
		}
	}
	mediaType, there := b.mediaType(p.op.digest)
	if there && mediaType != p.op.mediaType && p.isTagged() {
		return fmt.Errorf("%w: the manifest's tags are immutable, and so is its media type", ociregistry.ErrDenied)
	}
	return nil
}

// isTagged reports whether some tag points at the manifest.
func (p *push) isTagged() (tagged bool) {
	p.repo.mu.RLock()
	defer p.repo.mu.RUnlock()
	m := p.repo.state.manifests[p.op.digest]
	return m != nil && m.tags != nil
}

// tagged reports whether all tags of the push point at the manifest.
func (p *push) tagged(b *batch) bool {
	for _, tag := range p.op.tags {
		if b.tag(tag) != p.op.digest {
			return false
		}
	}
	return true
}

// intact reports whether the contents of a manifest that is known are there as
// they were pushed.
func (p *push) intact() (bool, error) {
	p.repo.mu.RLock()
	m := p.repo.state.manifests[p.op.digest]
	fresh := m == nil || m.contents != "" // nil: it comes with the same batch
	p.repo.mu.RUnlock()
	if fresh {
		return true, nil
	}
	_, err := p.repo.foundFile(m.digest, m.size)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
