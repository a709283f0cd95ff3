package ocifs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/garbage"
	"github.com/seed-40b21970/oci/ocifs/internal/refs"
	"github.com/seed-40b21970/oci/ocifs/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// DeleteBlob implements [ociregistry.Deleter.DeleteBlob]. The references of a
// manifest that is missing or unreadable are unknown, unless they were known before. Until it is deleted, or
// repaired by a push, the error is [ociregistry.ErrInUse].
func (r *Registry) DeleteBlob(ctx context.Context, repo string, digest ociregistry.Digest) error {
	return opError(r.deleteBlob(ctx, repo, digest), "DeleteBlob", repo, string(digest))
}

func (r *Registry) deleteBlob(ctx context.Context, name string, digest ociregistry.Digest) error {
	if err := check(ctx, name, digest); err != nil {
		return err
	}
	return r.change(ctx, name, func(repo *repos.Repository) *repos.Change {
		var size int64
		var pending, named, pooled bool
		return &repos.Change{
			Exclusive: true,
			Check: func(b *repos.Batch) (err error) {
				if size, pending, err = r.checkDeleteBlob(ctx, repo, digest); err != nil || !pending {
					return err
				}
				_, err = r.fs.Lstat(blobs.Path(repo.Dir, digest))
				if named = err == nil; err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
				_, err = r.store.StatPool(digest)
				pooled = err == nil
				b.Add(repostate.Op{Kind: repostate.DeleteBlob, Digest: digest})
				return nil
			},
			Finish: func() error {
				switch {
				case !pending:
					err := r.store.Remove(repo.Dir, digest)
					if err == nil {
						repo.AddBytes(-size)
					}
					return err
				case named:
					// A fold has made a file of the blob in the journal. Remove it only
					// after the journal says so: until then another process relies on it.
					return r.store.Remove(repo.Dir, digest)
				case !pooled: // otherwise it is accounted for as a file
					r.quota.Release(size)
				}
				return nil
			},
		}
	})
}

// mayBeInUse reports whether content may be deleted although manifests name it.
func (r *Registry) mayBeInUse(ctx context.Context) bool {
	return r.opts.Sparse || ociregistry.InUseAllowed(ctx)
}

// checkDeleteBlob checks that a blob is present and can be deleted. It returns its
// size, and whether the journal has it.
func (r *Registry) checkDeleteBlob(ctx context.Context, repo *repos.Repository, digest ociregistry.Digest) (size int64, pending bool, err error) {
	sparse := r.mayBeInUse(ctx)
	if err := refs.ReadWhole(repo); err != nil && !sparse {
		return 0, false, err
	}
	doubt := refs.InDoubt(repo, func(*repostate.Manifest) bool { return true })
	var manifest, named bool
	repo.View(func(s *repostate.State) { manifest, named = s.Manifest(digest) != nil, s.IsNamed(digest) })
	if manifest {
		return 0, false, ociregistry.ErrInUse
	}
	contents, _, err := knownBlob(repo, digest)
	if err != nil {
		return 0, false, repo.Missing(err)
	}
	if size = int64(len(contents)); contents == "" {
		if size, err = r.store.StatAny(repo.Dir, digest); err != nil { // a damaged blob can be deleted
			return 0, false, checkFile(repo, err, digest, 0, -1)
		}
	}
	switch {
	case sparse:
	case named:
		return 0, false, ociregistry.ErrInUse
	case doubt != nil:
		return 0, false, doubt
	}
	return size, contents != "", nil
}

// DeleteManifest implements [ociregistry.Deleter.DeleteManifest]. A manifest that is
// missing or unreadable can be deleted. The references of an index in that state are
// unknown: as long as there is one, the error for readable manifests is
// [ociregistry.ErrInUse].
func (r *Registry) DeleteManifest(ctx context.Context, repo string, digest ociregistry.Digest) error {
	return opError(r.deleteManifest(ctx, repo, digest), "DeleteManifest", repo, string(digest))
}

func (r *Registry) deleteManifest(ctx context.Context, name string, digest ociregistry.Digest) error {
	if err := check(ctx, name, digest); err != nil {
		return err
	}
	return r.change(ctx, name, func(repo *repos.Repository) *repos.Change {
		var m *repostate.Manifest
		var counted bool
		return &repos.Change{
			Exclusive: true,
			Check: func(b *repos.Batch) (err error) {
				if m, err = r.checkDeleteManifest(ctx, repo, digest); err != nil {
					return err
				}
				if err := garbage.OrphanAll(r.store, repo, m); err != nil {
					return err
				}
				counted = !m.Blob && r.counter().IsCounted(repo, m)
				var children []*repostate.Manifest // that nothing but m says are manifests
				repo.View(func(s *repostate.State) { children = s.OnlyNamedBy(m) })
				for _, child := range children {
					b.Add(repostate.Op{Kind: repostate.PutManifest, Digest: child.Digest, MediaType: child.MediaType, Size: child.Size})
				}
				b.Add(repostate.Op{Kind: repostate.DeleteManifest, Digest: m.Digest})
				return nil
			},
			Finish: func() error {
				if counted {
					r.quota.Release(m.Size)
				}
				return nil
			},
		}
	})
}

func (r *Registry) checkDeleteManifest(ctx context.Context, repo *repos.Repository, digest ociregistry.Digest) (*repostate.Manifest, error) {
	opts := &r.opts
	sparse := r.mayBeInUse(ctx)
	if err := refs.ReadWhole(repo); err != nil && !sparse {
		return nil, err
	}
	doubt := refs.InDoubt(repo, (*repostate.Manifest).MayNameManifests)
	var m *repostate.Manifest
	var named, tagged, shared, known bool
	repo.View(func(s *repostate.State) {
		if m = s.Manifest(digest); m != nil {
			named, tagged, shared, known = s.IsNamedAsManifest(digest), m.IsTagged(), m.IsShared(), m.IsRead()
		}
	})
	switch {
	case m == nil:
		return nil, repo.Missing(ociregistry.ErrManifestUnknown)
	case named && !sparse:
		return nil, ociregistry.ErrInUse
	case tagged && opts.ImmutableTags:
		return nil, fmt.Errorf("%w: the manifest has tags, which are immutable", ociregistry.ErrDenied)
	case shared && opts.ProtectShared:
		return nil, fmt.Errorf("%w: several tags point at the manifest", ociregistry.ErrDenied)
	case known && doubt != nil && !sparse:
		return nil, doubt
	}
	return m, nil
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
	return r.change(ctx, name, func(repo *repos.Repository) *repos.Change {
		return &repos.Change{Check: func(b *repos.Batch) error {
			digest := b.Tag(tag)
			if digest == "" {
				return repo.Missing(errNoTag)
			}
			if r.opts.ImmutableTags {
				return fmt.Errorf("%w: tags are immutable", ociregistry.ErrDenied)
			}
			if err := garbage.Orphan(r.store, repo, digest); err != nil {
				return err
			}
			b.Add(repostate.Op{Kind: repostate.DeleteTags, Tags: []string{tag}})
			return nil
		}}
	})
}

// change changes a repository that exists.
func (r *Registry) change(ctx context.Context, name string, f func(*repos.Repository) *repos.Change) error {
	repo, err := r.repos.Open(name)
	if err != nil {
		return err
	}
	defer repo.Release()
	if err := r.writable(name); err != nil {
		return err
	}
	c := f(repo)
	c.Ctx = ctx
	return repo.Commit(c)
}
