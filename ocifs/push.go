package ocifs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// push is a manifest on its way into a repository.
type push struct {
	repo      *repository
	ref       string
	condition ociregistry.PushCondition
	sparse    bool                 // what it names may be missing
	damaged   []ociregistry.Digest // what it names that was found to be so
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
		if !intact {
			if err := p.takeAgain(); err != nil {
				return err
			}
		}
	} else {
		_, err := p.repo.blobSize(o.digest, -1)
		if o.blob = err == nil; !o.blob {
			if errors.Is(err, fs.ErrNotExist) {
				err = p.take()
			}
			if err != nil {
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

// takeAgain accounts for a manifest that is known, but whose file may be missing.
func (p *push) takeAgain() error {
	p.repo.mu.RLock()
	m := p.repo.state.manifests[p.op.digest]
	p.repo.mu.RUnlock()
	if m == nil || m.blob || p.repo.isCounted(m) {
		return nil
	}
	return p.take()
}

// checkReferences checks that what the manifest names is there, and has the size
// that it says. Image indexes are known to list blobs too: build caches are pushed
// as such.
func (p *push) checkReferences(b *batch) error {
	info := p.op.info
	for i := range info.Blobs {
		if err := p.checkBlob(&info.Blobs[i], "blob"); err != nil {
			return err
		}
	}
	for i := range info.Manifests {
		if err := p.checkManifest(b, &info.Manifests[i]); err != nil {
			return err
		}
	}
	b.refers = b.refers || !p.sparse
	return nil
}

func (p *push) checkManifest(b *batch, ref *manifest.Ref) error {
	m, there := b.manifest(ref.Digest)
	switch {
	case !there:
		return p.checkBlob(ref, "manifest")
	case m.size == ref.Size || m.inMemory:
		return ref.CheckSize(m.size)
	}
	size, err := p.repo.fileSize(ref.Digest, ref.Size) // index.json may be wrong
	return p.checked(ref, "manifest", size, err)
}

func (p *push) checkBlob(ref *manifest.Ref, what string) error {
	if ociregistry.CheckDigest(ref.Digest) != nil {
		return p.checked(ref, what, 0, fs.ErrNotExist)
	}
	size, err := p.repo.blobSize(ref.Digest, ref.Size)
	return p.checked(ref, what, size, err)
}

// checked returns the error for content that was looked for with the given result.
func (p *push) checked(ref *manifest.Ref, what string, size int64, err error) error {
	switch {
	case err == nil:
		return ref.CheckSize(size)
	case slices.Contains(p.damaged, ref.Digest):
		what = "damaged " + what
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if p.sparse || ref.Elsewhere {
		return nil
	}
	return fmt.Errorf("%w: %s %s", ociregistry.ErrManifestBlobUnknown, what, ref.Digest)
}

// doubtError is for content whose file has another size than a manifest says. To
// find out which of both is wrong takes to read the file, which nobody does who
// has the journal locked.
type doubtError struct{ digest ociregistry.Digest }

func (e *doubtError) Error() string { return fmt.Sprintf("%s may be damaged", e.digest) }

// commit pushes the manifest.
func (p *push) commit(ctx context.Context) error {
	for {
		err := p.repo.commit(&change{ctx: ctx, creates: true, size: len(p.op.contents), check: p.check})
		var doubt *doubtError
		if !errors.As(err, &doubt) {
			return err
		}
		switch size, err := p.repo.soundSize(doubt.digest); {
		case errors.Is(err, fs.ErrNotExist):
			p.damaged = append(p.damaged, doubt.digest)
		case err != nil:
			return err
		default:
			if err := p.checkSizes(doubt.digest, size); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// checkSizes checks what the manifest says of content that has size bytes.
func (p *push) checkSizes(digest ociregistry.Digest, size int64) error {
	for _, refs := range [][]manifest.Ref{p.op.info.Blobs, p.op.info.Manifests} {
		for i := range refs {
			if refs[i].Digest != digest {
				continue
			}
			if err := refs[i].CheckSize(size); err != nil {
				return err
			}
		}
	}
	return nil
}

// blobSize returns the size of a blob that is to have want bytes, if that is not
// negative. If there is none, the error is [fs.ErrNotExist]. One whose file has
// another size may be damaged: the error is a doubtError.
func (repo *repository) blobSize(digest ociregistry.Digest, want int64) (int64, error) {
	repo.mu.RLock()
	text, pending := repo.state.blobs[digest]
	m := repo.state.manifests[digest]
	_, deleted := repo.state.deleted[digest]
	repo.mu.RUnlock()
	if pending {
		return int64(len(text)), nil
	}
	if deleted || m != nil && !m.blob {
		return 0, fs.ErrNotExist
	}
	return repo.fileSize(digest, want)
}

// fileSize is blobSize for what is a file, of a blob or of a manifest.
func (repo *repository) fileSize(digest ociregistry.Digest, want int64) (int64, error) {
	size, err := repo.registry.store.stat(repo.dir, digest)
	if err == nil && want >= 0 && size != want {
		err = &doubtError{digest}
	}
	return size, err
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
// they were pushed, and can be read.
func (p *push) intact() (bool, error) {
	p.repo.mu.RLock()
	m := p.repo.state.manifests[p.op.digest]
	fresh := m == nil || m.contents != "" // nil: it comes with the same batch
	p.repo.mu.RUnlock()
	if fresh {
		return true, nil
	}
	return p.repo.hasFile(m.digest, m.size)
}
