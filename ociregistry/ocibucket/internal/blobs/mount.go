package blobs

import (
	"context"
	"errors"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// Mount makes a blob of one repository one of another. It is ociregistry.ErrBlobUnknown if the first
// one does not have it.
func (s *Store) Mount(ctx context.Context, from string, to *repos.Repository, digest ociregistry.Digest) (Link, error) {
	for range attempts {
		l, err := s.Read(ctx, from, digest)
		if err != nil {
			return Link{}, err
		}
		if !s.Lives(l) {
			return Link{}, ociregistry.ErrBlobUnknown
		}
		mounted, err := s.mount(ctx, l, to, digest)
		if !errors.Is(err, errNotUsable) && !errors.Is(err, ErrTooLate) {
			return mounted, err
		}
	}
	return Link{}, ErrTooLate
}

// MountAny makes a blob that any repository has one of another.
func (s *Store) MountAny(ctx context.Context, to *repos.Repository, digest ociregistry.Digest) (Link, error) {
	var mounted Link
	found := errors.New("found")
	err := s.bucket.Each(ctx, keys.Blob(digest), func(o objstore.Info) error {
		k, ok := keys.Parse(o.Key)
		if !ok || k.Kind != keys.KindReference {
			return nil
		}
		var err error
		switch mounted, err = s.Mount(ctx, k.Repository, to, digest); {
		case err == nil:
			return found
		case errors.Is(err, ociregistry.ErrBlobUnknown), errors.Is(err, ErrTooLate):
			return nil
		}
		return err
	})
	switch {
	case errors.Is(err, found):
		return mounted, nil
	case err != nil:
		return Link{}, err
	}
	return Link{}, ociregistry.ErrBlobUnknown
}

var errNotUsable = errors.New("the bytes are being removed")

func (s *Store) mount(ctx context.Context, from Link, to *repos.Repository, digest ociregistry.Digest) (Link, error) {
	if err := to.Catalog(ctx); err != nil {
		return Link{}, err
	}
	var l formats.Link
	if from.Data != "" {
		var ok bool
		var err error
		if l, ok, err = s.use(ctx, to.Name(), digest, from.Data); err != nil {
			return Link{}, err
		}
		if !ok {
			return Link{}, errNotUsable
		}
	} else {
		l = newLink()
		l.Inline = from.Inline
		before, _, err := s.refer(ctx, to.Name(), digest, l.Reference)
		if err != nil {
			return Link{}, err
		}
		l.T0 = before
	}
	l.Size = from.Size
	return s.put(ctx, to, digest, l)
}

// Delete deletes a blob. check is the check of its delete by the state of the repository. Errors:
// ociregistry.ErrBlobUnknown, and those of check.
func (s *Store) Delete(ctx context.Context, repo *repos.Repository, digest ociregistry.Digest, check func(*repos.Batch) error) error {
	if err := repo.Load(ctx); err != nil {
		return err
	}
	recorded := "" // the reference of a link whose delete was recorded, and which somebody else has changed then
	for range attempts {
		asOf := repo.AsOf()
		l, err := s.Read(ctx, repo.Name(), digest)
		switch {
		case err != nil:
			return err
		case recorded != "" && (!s.Lives(l) || l.Reference != recorded): // by finishing this delete
			return nil
		case !s.Lives(l):
			return ociregistry.ErrBlobUnknown
		}
		err = s.DeleteLink(ctx, repo, digest, l, asOf, check)
		switch {
		case errors.Is(err, bucket.ErrLost):
			recorded = l.Reference
		case errors.Is(err, repos.ErrDeleted): // who deletes it did not come further
			err = s.Bury(ctx, repo.Name(), digest, l)
			if unlessLost(err) != nil {
				return err
			}
		case !errors.Is(err, repos.ErrAgain):
			return err
		}
	}
	return bucket.ErrLost
}

// DeleteLink deletes a link that was read when the repository was known up to asOf. It is bucket.ErrLost if the
// link has changed when its delete is recorded, and repos.ErrDeleted or repos.ErrAgain if another delete was recorded
// before.
func (s *Store) DeleteLink(ctx context.Context, repo *repos.Repository, digest ociregistry.Digest, l Link, asOf repos.AsOf, check func(*repos.Batch) error) error {
	err := repo.Commit(ctx, &repos.Change{Empties: true, Check: func(b *repos.Batch) error {
		if err := b.CheckLink(digest, l.Nonce, asOf); err != nil {
			return err
		}
		if err := check(b); err != nil {
			return err
		}
		b.DeleteLink(digest, l.Nonce)
		return nil
	}})
	if err != nil {
		return err
	}
	repo.Forget(digest)
	if err := s.Bury(ctx, repo.Name(), digest, l); err != nil {
		return err
	}
	s.bucket.Remove(ctx, keys.Reference(digest, repo.Name(), l.Reference)) // else a collection does it
	return nil
}
