package usage

import (
	"context"
	"errors"

	"github.com/seed-40b21970/oci/internal/parallel"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/tally"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// readers is how many repositories, and how many links of one, are read at a time.
const readers = 16

// lookAtDoubts looks at all that is in doubt.
func (r *Reporter) lookAtDoubts(ctx context.Context) error {
	doubts := r.tally.Doubts()
	if len(doubts) == 0 {
		return nil
	}
	var names []string
	for name := range doubts {
		names = append(names, name)
	}
	errs := make([]error, len(names))
	parallel.Do(readers, len(names), func(i int) error {
		if errs[i] = r.lookAt(ctx, names[i], doubts[names[i]]); errs[i] != nil {
			r.tally.Return(names[i], doubts[names[i]])
		}
		return nil
	})
	return errors.Join(errs...)
}

func (r *Reporter) lookAt(ctx context.Context, name string, d *tally.Doubt) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	repo := r.repos.Open(name)
	defer repo.Release()
	if d.All {
		return r.count(ctx, repo)
	}
	if d.Manifests {
		if err := r.lookAtManifests(ctx, repo); err != nil {
			return err
		}
	}
	var digests []ociregistry.Digest
	for digest := range d.Blobs {
		digests = append(digests, digest)
	}
	return parallel.Each(ctx, readers, digests, func(ctx context.Context, digest ociregistry.Digest) error {
		s := r.tally.Begin(name, digest)
		size, there, err := r.size(ctx, repo, digest)
		switch {
		case err != nil:
			s.Fail()
		case there:
			s.Has(size)
		default:
			s.HasNot()
		}
		return err
	})
}

func (r *Reporter) lookAtManifests(ctx context.Context, repo *repos.Repository) error {
	err := repo.Refresh(ctx)
	if err == nil {
		err = repo.View(func(s *repos.State) { r.tally.Manifests(repo.Name(), s.Number(), s.Bytes()) })
	}
	return r.unlessDamaged(repo, err)
}

// unlessDamaged returns an error, unless it is that of a damaged object.
func (r *Reporter) unlessDamaged(repo *repos.Repository, err error) error {
	if !errors.Is(err, bucket.ErrDamaged) {
		return err
	}
	r.log.Warn("what is damaged is not counted", "repository", repo.Name(), "error", err)
	return nil
}

// size returns the size of a blob, and whether the repository has it.
func (r *Reporter) size(ctx context.Context, repo *repos.Repository, digest ociregistry.Digest) (size int64, there bool, err error) {
	l, err := r.blobs.Read(ctx, repo.Name(), digest)
	if err != nil {
		return 0, false, r.unlessDamaged(repo, err)
	}
	return l.Size, r.blobs.Lives(l) && !repo.KnowsDead(l.Nonce), nil
}

// count counts a repository.
func (r *Reporter) count(ctx context.Context, repo *repos.Repository) error {
	r.tally.StartCount(repo.Name())
	if err := r.lookAtManifests(ctx, repo); err != nil {
		return err
	}
	found, unknown, err := r.links(ctx, repo)
	if err != nil {
		return err
	}
	sizes := make([]int64, len(unknown))
	err = parallel.Do(readers, len(unknown), func(i int) error {
		size, there, err := r.size(ctx, repo, unknown[i])
		if sizes[i] = size; !there {
			sizes[i] = -1
		}
		return err
	})
	if err != nil {
		return err
	}
	for i, size := range sizes {
		if size >= 0 {
			found[formats.LinkIDOf(unknown[i])] = size
		}
	}
	r.tally.EndCount(repo.Name(), found)
	return nil
}

// links returns the blobs of a repository, with the sizes that manifests say they have, and those of which
// somebody has to look how large they are, and whether they are there.
func (r *Reporter) links(ctx context.Context, repo *repos.Repository) (found map[formats.LinkID]int64, unknown []ociregistry.Digest, err error) {
	found = map[formats.LinkID]int64{}
	dead := map[ociregistry.Digest]bool{}
	repo.View(func(s *repos.State) { s.EachDead(func(digest ociregistry.Digest) { dead[digest] = true }) })
	err = r.bucket.Each(ctx, keys.Links(repo.Name()), func(o objstore.Info) error {
		k, ok := keys.Parse(o.Key)
		if !ok || o.Size == formats.DeadLinkSize {
			return nil
		}
		size := int64(-1)
		repo.View(func(s *repos.State) { size = s.NamedSize(k.Digest) })
		if size < 0 || dead[k.Digest] {
			unknown = append(unknown, k.Digest)
		} else {
			found[formats.LinkIDOf(k.Digest)] = size
		}
		return nil
	})
	return found, unknown, err
}

// names returns the names of a repository and of all below it, as the catalog has them.
func (r *Reporter) names(ctx context.Context, prefix string) (names []string, err error) {
	lists := []string{keys.AllCatalog}
	if prefix != "" {
		lists = []string{keys.Catalog(prefix), keys.AllCatalog + prefix + "/"}
	}
	for _, list := range lists {
		err := r.bucket.Each(ctx, list, func(o objstore.Info) error {
			if k, ok := keys.Parse(o.Key); ok {
				names = append(names, k.Repository)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return names, nil
}
