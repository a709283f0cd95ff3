package ocifs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/content"
	"github.com/seed-40b21970/oci/ocifs/internal/garbage"
	"github.com/seed-40b21970/oci/ocifs/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry"
)

// push is a push of a manifest.
type push struct {
	registry  *Registry
	repo      *repos.Repository
	ref       string
	condition ociregistry.PushCondition
	sparse    bool                 // content that the manifest names may be missing
	damaged   []ociregistry.Digest // content that the manifest names and that was found damaged
	op        repostate.Op
	share     blobs.Share // of the quota
}

// check is the Check of the push's [repos.Change].
func (p *push) check(b *repos.Batch) error {
	if p.condition.IfMatch != nil || p.condition.IfNoneMatch != nil {
		if err := p.condition.Check(b.Current(p.ref, p.op.Digest)); err != nil {
			return err
		}
	}
	if err := p.checkReferences(b); err != nil {
		return err
	}
	if err := p.checkMoves(b); err != nil {
		return err
	}
	for _, tag := range p.op.Tags {
		if old := b.Tag(tag); old != "" && old != p.op.Digest {
			if err := garbage.Orphan(p.registry.store, p.repo, old); err != nil {
				return err
			}
		}
	}
	o := p.op
	mediaType, there := b.MediaType(o.Digest)
	if there {
		intact, err := p.intact()
		if err != nil {
			return err
		}
		if intact {
			o.Text = ""
		}
		if intact {
			if err := garbage.Orphan(p.registry.store, p.repo, o.Digest); err != nil {
				return err
			}
		}
		if intact && mediaType == o.MediaType && p.tagged(b) {
			return nil // nothing to do
		}
		if !intact {
			if err := p.reserveAgain(); err != nil {
				return err
			}
		}
	} else {
		added, _ := b.Blob(o.Digest)
		_, err := p.registry.blobSize(p.repo, o.Digest, -1)
		if o.Blob = added || err == nil; !o.Blob {
			if errors.Is(err, fs.ErrNotExist) {
				err = p.reserve()
			}
			if err != nil {
				return err
			}
		}
	}
	b.Add(o)
	return nil
}

func (p *push) reserve() error {
	if p.share.Size() > 0 {
		return nil // check was called before
	}
	return p.share.Reserve(p.op.Size)
}

// reserveAgain reserves bytes for a known manifest whose file may be missing.
func (p *push) reserveAgain() error {
	var m *repostate.Manifest
	p.repo.View(func(s *repostate.State) { m = s.Manifest(p.op.Digest) })
	if m == nil || m.Blob || p.registry.counter().IsCounted(p.repo, m) {
		return nil
	}
	return p.reserve()
}

// checkReferences checks that the content that the manifest names is present and has
// the size that the manifest states. An image index may list blobs too: build caches
// are pushed in this form.
func (p *push) checkReferences(b *repos.Batch) error {
	info := p.op.Info
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
	if !p.sparse {
		b.Refer()
	}
	return nil
}

func (p *push) checkManifest(b *repos.Batch, ref *manifest.Ref) error {
	m, there := b.Manifest(ref.Digest)
	switch {
	case !there:
		return p.checkBlob(ref, "manifest")
	case m.Size == ref.Size || m.InMemory:
		return ref.CheckSize(m.Size)
	}
	size, err := p.registry.fileSize(p.repo, ref.Digest, ref.Size) // index.json may be wrong
	return p.checked(ref, "manifest", size, err)
}

func (p *push) checkBlob(ref *manifest.Ref, what string) error {
	if ociregistry.CheckDigest(ref.Digest) != nil {
		return p.checked(ref, what, 0, fs.ErrNotExist)
	}
	size, err := p.registry.blobSize(p.repo, ref.Digest, ref.Size)
	return p.checked(ref, what, size, err)
}

// checked returns the error for a reference, given the result of looking for its
// content.
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

// doubtError means that the file of some content does not have the size that a
// manifest states. To find out which of them is wrong, the file must be read, which
// must not happen while the journal is locked.
type doubtError struct{ digest ociregistry.Digest }

func (e *doubtError) Error() string { return fmt.Sprintf("%s may be damaged", e.digest) }

// commit pushes the manifest.
func (p *push) commit(ctx context.Context) error {
	for {
		err := p.repo.Commit(&repos.Change{Ctx: ctx, Creates: true, Size: len(p.op.Text), Check: p.check})
		var doubt *doubtError
		if !errors.As(err, &doubt) {
			return err
		}
		switch size, err := content.IntactSize(p.repo, doubt.digest); {
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

// checkSizes checks the sizes that the manifest states for content that has size
// bytes.
func (p *push) checkSizes(digest ociregistry.Digest, size int64) error {
	for _, refs := range [][]manifest.Ref{p.op.Info.Blobs, p.op.Info.Manifests} {
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

// blobSize returns the size of a blob, which must have want bytes unless want is
// negative. If there is no such blob, the error is [fs.ErrNotExist]. If its file has
// another size, it may be damaged, and the error is a doubtError.
func (r *Registry) blobSize(repo *repos.Repository, digest ociregistry.Digest, want int64) (int64, error) {
	switch b := repo.Blob(digest); {
	case b.InText:
		return int64(len(b.Text)), nil
	case !b.InFile:
		return 0, fs.ErrNotExist
	}
	return r.fileSize(repo, digest, want)
}

// fileSize is blobSize for the file of a blob or a manifest.
func (r *Registry) fileSize(repo *repos.Repository, digest ociregistry.Digest, want int64) (int64, error) {
	size, err := r.store.Stat(repo.Dir, digest)
	if err == nil && want >= 0 && size != want {
		err = &doubtError{digest}
	}
	return size, err
}

// checkMoves checks that the tags may point at the manifest.
func (p *push) checkMoves(b *repos.Batch) error {
	if !p.registry.opts.ImmutableTags {
		return nil
	}
	for _, tag := range p.op.Tags {
		if old := b.Tag(tag); old != "" && old != p.op.Digest {
			return fmt.Errorf("%w: tag %s exists and is immutable", ociregistry.ErrDenied, tag)
		}
	}
	mediaType, there := b.MediaType(p.op.Digest)
	if there && mediaType != p.op.MediaType && p.isTagged() {
		return fmt.Errorf("%w: the manifest's tags are immutable, and so is its media type", ociregistry.ErrDenied)
	}
	return nil
}

// isTagged reports whether any tag points at the manifest.
func (p *push) isTagged() (tagged bool) {
	p.repo.View(func(s *repostate.State) {
		m := s.Manifest(p.op.Digest)
		tagged = m != nil && m.IsTagged()
	})
	return tagged
}

// tagged reports whether all tags of the push point at the manifest, since just now.
func (p *push) tagged(b *repos.Batch) bool {
	for _, tag := range p.op.Tags {
		if b.Tag(tag) != p.op.Digest || !p.isYoung(tag) {
			return false
		}
	}
	return true
}

// isYoung reports whether a tag was set just now, so that setting it again is no change.
func (p *push) isYoung(tag string) bool {
	var set int64
	p.repo.View(func(s *repostate.State) { set = s.TagTime(tag) })
	clock := &p.registry.store.Clock
	return clock.Now().UnixNano()-set <= int64(clock.Grain/2)
}

// intact reports whether the contents of a known manifest are present, readable and
// undamaged.
func (p *push) intact() (bool, error) {
	var m *repostate.Manifest
	inMemory := true
	p.repo.View(func(s *repostate.State) {
		if m = s.Manifest(p.op.Digest); m != nil { // else it comes with the same batch
			inMemory = m.Text != ""
		}
	})
	if inMemory {
		return true, nil
	}
	return content.IsReadable(p.repo, m.Digest, m.Size)
}
