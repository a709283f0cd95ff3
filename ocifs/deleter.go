package ocifs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// DeleteBlob implements [ociregistry.Deleter.DeleteBlob]. When a manifest is missing
// or cannot be read, it is not known what it names: until it is deleted, or repaired
// by a push, the error is [ociregistry.ErrInUse].
func (r *Registry) DeleteBlob(ctx context.Context, repo string, digest ociregistry.Digest) error {
	return opError(r.deleteBlob(ctx, repo, digest), "DeleteBlob", repo, string(digest))
}

func (r *Registry) deleteBlob(ctx context.Context, name string, digest ociregistry.Digest) error {
	if err := check(ctx, name, digest); err != nil {
		return err
	}
	return r.change(ctx, name, func(repo *repository) *change {
		var size int64
		var pending, named, pooled bool
		return &change{
			alone: true,
			check: func(b *batch) (err error) {
				if size, pending, err = repo.checkDeleteBlob(ctx, digest); err != nil || !pending {
					return err
				}
				_, err = r.store.fs.Lstat(blobPath(repo.dir, digest))
				if named = err == nil; err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
				_, err = r.store.statPool(digest)
				pooled = err == nil
				b.add(op{kind: opDeleteBlob, digest: digest})
				return nil
			},
			finish: func() error {
				switch {
				case !pending || named:
					// A fold has made a file of what the journal had. It goes after the
					// journal says so: until then another process counts on it.
					return r.store.remove(repo.dir, digest)
				case !pooled: // else it is accounted for as a file
					r.give(size)
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

// checkDeleteBlob checks that a blob is there and can be deleted, and returns its
// size, and whether it is in the journal.
func (repo *repository) checkDeleteBlob(ctx context.Context, digest ociregistry.Digest) (size int64, pending bool, err error) {
	sparse := repo.registry.mayBeInUse(ctx)
	if err := repo.readAll(); err != nil && !sparse {
		return 0, false, err
	}
	doubt := repo.inDoubt(func(*stored) bool { return true })
	repo.mu.RLock()
	m := repo.state.manifests[digest]
	ref := repo.state.refs[digest]
	repo.mu.RUnlock()
	if m != nil {
		return 0, false, ociregistry.ErrInUse
	}
	contents, _, err := repo.knownBlob(digest)
	if err != nil {
		return 0, false, repo.missing(err)
	}
	if size = int64(len(contents)); contents == "" {
		name := blobPath(repo.dir, digest)
		info, err := repo.registry.fs.Lstat(name)
		if err == nil {
			err = checkBlob(name, info, digest) // what is damaged can be deleted
		}
		if err != nil {
			return 0, false, repo.checkFile(err, digest, 0, -1)
		}
		size = info.Size()
	}
	switch {
	case sparse:
	case ref != nil:
		return 0, false, ociregistry.ErrInUse
	case doubt != nil:
		return 0, false, doubt
	}
	return size, contents != "", nil
}

// DeleteManifest implements [ociregistry.Deleter.DeleteManifest]. A manifest that is
// missing or cannot be read can be deleted. As long as there is an index like that,
// it is not known what it names: then the error is [ociregistry.ErrInUse] for what
// can be read.
func (r *Registry) DeleteManifest(ctx context.Context, repo string, digest ociregistry.Digest) error {
	return opError(r.deleteManifest(ctx, repo, digest), "DeleteManifest", repo, string(digest))
}

func (r *Registry) deleteManifest(ctx context.Context, name string, digest ociregistry.Digest) error {
	if err := check(ctx, name, digest); err != nil {
		return err
	}
	return r.change(ctx, name, func(repo *repository) *change {
		var m *stored
		var counted bool
		return &change{
			alone: true,
			check: func(b *batch) (err error) {
				if m, err = repo.checkDeleteManifest(ctx, digest); err != nil {
					return err
				}
				counted = !m.blob && repo.isCounted(m)
				for _, child := range repo.onlyBy(m) {
					b.add(op{kind: opPut, digest: child.digest, mediaType: child.mediaType, size: child.size})
				}
				b.add(op{kind: opDelete, digest: m.digest})
				return nil
			},
			finish: func() error {
				r.cache.remove(digest)
				if counted {
					r.give(m.size)
				}
				return nil
			},
		}
	})
}

func (repo *repository) checkDeleteManifest(ctx context.Context, digest ociregistry.Digest) (*stored, error) {
	opts := &repo.registry.opts
	sparse := repo.registry.mayBeInUse(ctx)
	if err := repo.readAll(); err != nil && !sparse {
		return nil, err
	}
	doubt := repo.inDoubt((*stored).mayNameManifests)
	repo.mu.RLock()
	m := repo.state.manifests[digest]
	ref := repo.state.refs[digest]
	named := ref != nil && ref.manifests > 0
	tagged := m != nil && m.tags != nil
	shared := tagged && m.tags.next != nil
	known := m != nil && m.read
	repo.mu.RUnlock()
	switch {
	case m == nil:
		return nil, repo.missing(ociregistry.ErrManifestUnknown)
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

// onlyBy returns the manifests that nothing but m says are manifests.
func (repo *repository) onlyBy(m *stored) []*stored {
	repo.mu.RLock()
	defer repo.mu.RUnlock()
	var children []*stored
	for _, c := range m.manifests {
		if child := repo.state.manifests[c.digest]; child != nil && child.implicit {
			children = append(children, child)
		}
	}
	return children
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
	return r.change(ctx, name, func(repo *repository) *change {
		return &change{check: func(b *batch) error {
			if b.tag(tag) == "" {
				return repo.missing(errNoTag)
			}
			if r.opts.ImmutableTags {
				return fmt.Errorf("%w: tags are immutable", ociregistry.ErrDenied)
			}
			b.add(op{kind: opUntag, tags: []string{tag}})
			return nil
		}}
	})
}

// change makes a change of a repository that exists.
func (r *Registry) change(ctx context.Context, name string, f func(*repository) *change) error {
	repo, err := r.open(name)
	if err == nil {
		err = r.writable(name)
	}
	if err != nil {
		return err
	}
	c := f(repo)
	c.ctx = ctx
	return repo.commit(c)
}
