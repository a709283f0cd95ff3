package ocimem

import (
	"context"
	"fmt"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// DeleteBlob implements [ociregistry.Deleter.DeleteBlob].
func (r *Registry) DeleteBlob(ctx context.Context, repo string, digest ociregistry.Digest) error {
	return opError(r.deleteBlob(ctx, repo, digest), "DeleteBlob", repo, string(digest))
}

func (r *Registry) deleteBlob(ctx context.Context, name string, digest ociregistry.Digest) error {
	if err := ociregistry.CheckRepositoryAndDigest(name, digest); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.update(name, func(repo *repository) error {
		if repo.manifests[digest] != nil {
			return ociregistry.ErrInUse
		}
		b, err := repo.blob(digest)
		if err != nil {
			return err
		}
		if (repo.blobRefs.has(digest) || repo.childRefs.has(digest)) && !r.mayBeInUse(ctx) {
			return ociregistry.ErrInUse
		}
		r.removeBlob(repo, b)
		return nil
	})
}

// removeBlob removes a blob from a repository, which is locked.
func (r *Registry) removeBlob(repo *repository, b *blob) {
	delete(repo.blobs, b.digest)
	r.usage.add(repo.name, -b.size)
	r.releaseBlob(b.content)
}

// mayBeInUse reports whether content may be deleted although manifests name it.
func (r *Registry) mayBeInUse(ctx context.Context) bool {
	return r.cfg.Sparse || ociregistry.InUseAllowed(ctx)
}

// DeleteManifest implements [ociregistry.Deleter.DeleteManifest].
func (r *Registry) DeleteManifest(ctx context.Context, repo string, digest ociregistry.Digest) error {
	return opError(r.deleteManifest(ctx, repo, digest), "DeleteManifest", repo, string(digest))
}

func (r *Registry) deleteManifest(ctx context.Context, name string, digest ociregistry.Digest) error {
	if err := ociregistry.CheckRepositoryAndDigest(name, digest); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.update(name, func(repo *repository) error {
		m, err := repo.manifest(digest)
		if err != nil {
			return err
		}
		if repo.childRefs.has(digest) && !r.mayBeInUse(ctx) {
			return ociregistry.ErrInUse
		}
		if r.cfg.ImmutableTags && m.tags != nil {
			return fmt.Errorf("%w: the manifest has tags, which are immutable", ociregistry.ErrDenied)
		}
		if r.cfg.ProtectShared && m.tags != nil && m.tags.next != nil {
			return fmt.Errorf("%w: several tags point at the manifest", ociregistry.ErrDenied)
		}
		now := r.now().UnixNano()
		info := r.removeManifest(repo, m, now)
		repo.orphan(digest, info, now)
		return nil
	})
}

// removeManifest removes a manifest and its tags from a repository, which is locked. It
// returns what the manifest named.
func (r *Registry) removeManifest(repo *repository, m *manifestEntry, now int64) manifest.Info {
	for m.tags != nil {
		repo.removeTag(m.tags, now)
	}
	r.usage.add(repo.name, -m.size())
	r.releaseBytes(m.size())
	return repo.removeManifest(m)
}

// DeleteTag implements [ociregistry.Deleter.DeleteTag].
func (r *Registry) DeleteTag(ctx context.Context, repo string, name string) error {
	return opError(r.deleteTag(ctx, repo, name), "DeleteTag", repo, name)
}

var errNoTag = fmt.Errorf("%w: tag does not exist", ociregistry.ErrManifestUnknown)

func (r *Registry) deleteTag(ctx context.Context, name, tag string) error {
	if err := ociregistry.CheckRepository(name); err != nil {
		return err
	}
	if !ociref.IsValidTag(tag) {
		return errNoTag
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.update(name, func(repo *repository) error {
		t := repo.tags[tag]
		if t == nil {
			return errNoTag
		}
		if r.cfg.ImmutableTags {
			return fmt.Errorf("%w: tags are immutable", ociregistry.ErrDenied)
		}
		repo.removeTag(t, r.now().UnixNano())
		return nil
	})
}
