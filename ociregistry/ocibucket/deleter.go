package ocibucket

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/repos"
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
	if err := r.mayWrite(ctx); err != nil {
		return err
	}
	repo := r.repos.Open(name)
	defer repo.Release()
	err := r.blobs.Look(ctx, repo, digest, func() error {
		return r.blobs.Delete(ctx, repo, digest, func(b *repos.Batch) error {
			if b.Manifest(digest) != nil || b.IsNamed(digest) && !r.mayBeInUse(ctx) {
				return ociregistry.ErrInUse
			}
			return nil
		})
	})
	if errors.Is(err, ociregistry.ErrBlobUnknown) {
		isManifest := false
		repo.View(func(s *repos.State) { isManifest = s.Manifest(digest) != nil })
		if isManifest {
			return ociregistry.ErrInUse
		}
	}
	return err
}

// mayBeInUse reports whether content may be deleted although manifests name it.
func (r *Registry) mayBeInUse(ctx context.Context) bool {
	return r.opts.Sparse || ociregistry.InUseAllowed(ctx)
}

// DeleteManifest implements [ociregistry.Deleter.DeleteManifest].
func (r *Registry) DeleteManifest(ctx context.Context, repo string, digest ociregistry.Digest) error {
	return opError(r.deleteManifest(ctx, repo, digest), "DeleteManifest", repo, string(digest))
}

func (r *Registry) deleteManifest(ctx context.Context, name string, digest ociregistry.Digest) error {
	if err := ociregistry.CheckRepositoryAndDigest(name, digest); err != nil {
		return err
	}
	return r.remove(ctx, name, byDigest(name, digest), func(b *repos.Batch) error {
		m := b.Manifest(digest)
		switch {
		case m == nil:
			return ociregistry.ErrManifestUnknown
		case b.IsNamedAsManifest(digest) && !r.mayBeInUse(ctx):
			return ociregistry.ErrInUse
		case r.opts.ImmutableTags && m.IsTagged():
			return fmt.Errorf("%w: the manifest has tags, which are immutable", ociregistry.ErrDenied)
		case r.opts.ProtectShared && m.IsShared():
			return fmt.Errorf("%w: several tags point at the manifest", ociregistry.ErrDenied)
		}
		b.Add(&repostate.Op{Kind: repostate.DeleteManifest, Digest: m.Digest})
		return nil
	}, true)
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
	return r.remove(ctx, name, byTag(name, tag), func(b *repos.Batch) error {
		if b.Tag(tag) == nil {
			return errNoTag
		}
		if r.opts.ImmutableTags {
			return fmt.Errorf("%w: tags are immutable", ociregistry.ErrDenied)
		}
		b.Add(&repostate.Op{Kind: repostate.DeleteTags, Tags: []string{tag}})
		return nil
	}, false)
}

// remove makes a change of a repository which must be there. It removes what l finds.
func (r *Registry) remove(ctx context.Context, name string, l lookup, check func(*repos.Batch) error, empties bool) error {
	if err := r.mayWrite(ctx); err != nil {
		return err
	}
	repo := r.repos.Open(name)
	defer repo.Release()
	for {
		err := repo.Commit(ctx, &repos.Change{Check: check, Empties: empties})
		if !errors.Is(err, ociregistry.ErrManifestUnknown) {
			return err
		}
		err = r.blobs.Unknown(ctx, repo, err)
		isThere := false
		repo.View(func(s *repos.State) { isThere = l.find(s) != nil })
		if !errors.Is(err, ociregistry.ErrManifestUnknown) || !isThere {
			return err
		}
		// The repository may exist by what has come meanwhile.
	}
}
