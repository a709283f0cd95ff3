package ocimem

import (
	"context"
	"fmt"

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
		c, err := repo.blob(digest)
		if err != nil {
			return err
		}
		if (repo.blobRefs.has(digest) || repo.childRefs.has(digest)) && !r.mayBeInUse(ctx) {
			return ociregistry.ErrInUse
		}
		delete(repo.blobs, digest)
		r.release(c)
		return nil
	})
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
		for m.tags != nil {
			repo.removeTag(m.tags)
		}
		repo.removeManifest(m)
		r.give(m.size())
		return nil
	})
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
		repo.removeTag(t)
		return nil
	})
}
