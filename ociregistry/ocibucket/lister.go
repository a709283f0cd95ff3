package ocibucket

import (
	"context"
	"iter"
	"slices"
	"strings"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/ordered"
	"github.com/seed-40b21970/oci/internal/parallel"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// Repositories implements [ociregistry.Lister.Repositories]. Of repositories that somebody may have left empty
// it looks whether they are; else 1,000 names cost two requests. Those that cannot be read are omitted, and
// reported to [Options.Logger].
func (r *Registry) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := r.repositories(ctx, startAfter, yield); err != nil {
			yield("", opError(err, "Repositories", "", ""))
		}
	}
}

func (r *Registry) repositories(ctx context.Context, startAfter string, yield func(string, error) bool) error {
	opts := objstore.ListOptions{Prefix: keys.AllCatalog}
	if startAfter != "" {
		opts.StartAfter = keys.Catalog(validStart(startAfter))
	}
	for {
		page, err := r.bucket.List(ctx, opts)
		if err != nil {
			return err
		}
		names := catalogNames(page, startAfter)
		marked, err := r.marked(ctx, names)
		if err != nil {
			return err
		}
		for part := range slices.Chunk(names, lookAhead) {
			if more, err := r.yieldListed(ctx, part, marked, yield); !more || err != nil {
				return err
			}
		}
		if opts.Next = page.Next; opts.Next == "" {
			return nil
		}
	}
}

// lookAhead is how many repositories are looked at, at a time and before the first of them is listed.
const lookAhead = 16

// yieldListed yields those of the names that have content.
func (r *Registry) yieldListed(ctx context.Context, names []string, marked map[string]bool, yield func(string, error) bool) (more bool, err error) {
	listed := make([]bool, len(names))
	err = parallel.Do(lookAhead, len(names), func(i int) error {
		listed[i] = !marked[names[i]] || r.isListed(ctx, names[i])
		return ctx.Err()
	})
	if err != nil {
		return false, err
	}
	for i, name := range names {
		if listed[i] && !yield(name, nil) {
			return false, nil
		}
	}
	return true, nil
}

// validStart returns what a list can start after: no key has the other bytes, and all that
// begins with what comes before them is listed.
func validStart(startAfter string) string {
	end := strings.IndexFunc(startAfter, func(r rune) bool { return r <= '!' || r > '~' })
	if end >= 0 {
		startAfter = startAfter[:end]
	}
	return startAfter[:min(len(startAfter), maxPrefix)]
}

func catalogNames(page *objstore.Page, startAfter string) (names []string) {
	for _, o := range page.Objects {
		if k, ok := keys.Parse(o.Key); ok && k.Repository > startAfter {
			names = append(names, k.Repository)
		}
	}
	return names
}

// marked returns which of the names somebody has to look at.
func (r *Registry) marked(ctx context.Context, names []string) (map[string]bool, error) {
	if len(names) == 0 {
		return nil, nil
	}
	marked := map[string]bool{}
	last := names[len(names)-1]
	opts := objstore.ListOptions{Prefix: keys.AllMarks, StartAfter: keys.Mark(names[0], "")}
	for {
		page, err := r.bucket.List(ctx, opts)
		if err != nil {
			return nil, err
		}
		name := ""
		for _, o := range page.Objects {
			if k, ok := keys.Parse(o.Key); ok {
				name = k.Repository
				marked[name] = true
			}
		}
		if opts.Next = page.Next; opts.Next == "" || name > last {
			return marked, nil
		}
	}
}

// isListed reports whether a repository is known to have content.
func (r *Registry) isListed(ctx context.Context, name string) bool {
	repo := r.repos.Open(name)
	defer repo.Release()
	exists, err := r.blobs.Exists(ctx, repo)
	if err != nil && ctx.Err() == nil {
		r.log.Warn("a repository cannot be read, and is not listed", "repository", name, "error", err)
	}
	return exists
}

// Tags implements [ociregistry.Lister.Tags].
func (r *Registry) Tags(ctx context.Context, repo string, startAfter string) iter.Seq2[string, error] {
	if err := ociregistry.CheckRepository(repo); err != nil {
		return ociregistry.ErrorSeq[string](opError(err, "Tags", repo, ""))
	}
	return func(yield func(string, error) bool) {
		if err := r.tags(ctx, repo, startAfter, yield); err != nil {
			yield("", opError(err, "Tags", repo, ""))
		}
	}
}

func (r *Registry) tags(ctx context.Context, name, startAfter string, yield func(string, error) bool) error {
	repo := r.repos.Open(name)
	defer repo.Release()
	if err := repo.Refresh(ctx); err != nil {
		return err
	}
	count := 0
	return ordered.List(ctx, startAfter, func(batch []string, after string) ([]string, error) {
		err := repo.View(func(s *repos.State) {
			batch = s.AppendTags(batch, after, ordered.BatchSize)
			count = s.Count()
		})
		if err == nil && count == 0 && after == startAfter {
			err = r.blobs.Unknown(ctx, repo, nil)
		}
		return batch, err
	}, func(tags []string) (bool, error) {
		for _, tag := range tags {
			if !yield(tag, nil) {
				return false, nil
			}
		}
		return true, nil
	})
}

// Referrers implements [ociregistry.Lister.Referrers].
func (r *Registry) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	if err := ociregistry.CheckRepositoryAndDigest(repo, digest); err != nil {
		return ociregistry.ErrorSeq[ociregistry.Descriptor](opError(err, "Referrers", repo, string(digest)))
	}
	return func(yield func(ociregistry.Descriptor, error) bool) {
		if err := r.referrers(ctx, repo, digest, artifactType, yield); err != nil {
			yield(ociregistry.Descriptor{}, opError(err, "Referrers", repo, string(digest)))
		}
	}
}

func (r *Registry) referrers(ctx context.Context, name string, digest ociregistry.Digest, artifactType string, yield func(ociregistry.Descriptor, error) bool) error {
	repo := r.repos.Open(name)
	defer repo.Release()
	if err := repo.Refresh(ctx); err != nil {
		return err
	}
	return ordered.List(ctx, string(ociregistry.ReferrersAfter(ctx)), func(batch []string, after string) ([]string, error) {
		err := repo.View(func(s *repos.State) { batch = s.AppendReferrers(batch, digest, after, ordered.BatchSize) })
		return batch, err
	}, func(referrers []string) (bool, error) {
		descs, err := r.describe(ctx, repo, referrers, artifactType)
		if err != nil {
			return false, err
		}
		for _, desc := range descs {
			if desc.Digest != "" && !yield(desc, nil) {
				return false, nil
			}
		}
		return true, nil
	})
}

// describe returns the descriptors with which manifests are listed as referrers. Those that are gone, or
// have another artifact type, are zero.
func (r *Registry) describe(ctx context.Context, repo *repos.Repository, referrers []string, artifactType string) ([]ociregistry.Descriptor, error) {
	descs := make([]ociregistry.Descriptor, len(referrers))
	err := parallel.Do(linkReaders, len(referrers), func(i int) error {
		var err error
		descs[i], err = r.referrer(ctx, repo, ociregistry.Digest(referrers[i]), artifactType)
		return err
	})
	return descs, err
}

func (r *Registry) referrer(ctx context.Context, repo *repos.Repository, digest ociregistry.Digest, artifactType string) (desc ociregistry.Descriptor, err error) {
	text := ""
	err = repo.View(func(s *repos.State) {
		if m := s.Manifest(digest); m != nil && (artifactType == "" || m.ArtifactType == artifactType) {
			desc = m.Descriptor()
			desc.ArtifactType = m.ArtifactType
			text, _ = s.Text(m.Digest)
		}
	})
	if err != nil || desc.Digest == "" {
		return desc, err
	}
	if text == "" {
		if text, err = r.text(ctx, repo, desc); err != nil {
			if ctx.Err() == nil {
				r.log.Warn("a referrer cannot be read, and is not listed", "repository", repo.Name(), "digest", digest, "error", err)
			}
			return ociregistry.Descriptor{}, ctx.Err()
		}
	}
	info, err := manifest.Parse(desc.MediaType, text)
	if err == nil {
		desc.Annotations = info.Annotations
	}
	return desc, nil
}
