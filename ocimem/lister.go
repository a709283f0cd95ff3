package ocimem

import (
	"context"
	"iter"

	"github.com/seed-40b21970/oci/internal/ordered"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Repositories implements [ociregistry.Lister.Repositories].
func (r *Registry) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		err := ordered.List(ctx, startAfter, func(batch []string, after string) ([]string, error) {
			r.mu.RLock()
			defer r.mu.RUnlock()
			return r.names.AppendAfter(batch, after, ordered.BatchSize), nil
		}, func(names []string) (bool, error) { return yieldAll(names, yield), nil })
		if err != nil {
			yield("", opError(err, "Repositories", "", ""))
		}
	}
}

// yieldAll reports whether the caller wants more.
func yieldAll(names []string, yield func(string, error) bool) bool {
	for _, name := range names {
		if !yield(name, nil) {
			return false
		}
	}
	return true
}

// Tags implements [ociregistry.Lister.Tags].
func (r *Registry) Tags(ctx context.Context, repo string, startAfter string) iter.Seq2[string, error] {
	if err := ociregistry.CheckRepository(repo); err != nil {
		return ociregistry.ErrorSeq[string](opError(err, "Tags", repo, ""))
	}
	return func(yield func(string, error) bool) {
		err := ordered.List(ctx, startAfter, func(batch []string, after string) ([]string, error) {
			err := r.view(repo, func(repo *repository) error {
				batch = repo.tagNames.AppendAfter(batch, after, ordered.BatchSize)
				return nil
			})
			if after != startAfter {
				return batch, nil // if the repository is gone now, so are its tags
			}
			return batch, err
		}, func(tags []string) (bool, error) { return yieldAll(tags, yield), nil })
		if err != nil {
			yield("", opError(err, "Tags", repo, ""))
		}
	}
}

// Referrers implements [ociregistry.Lister.Referrers].
func (r *Registry) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	if err := ociregistry.CheckRepositoryAndDigest(repo, digest); err != nil {
		return ociregistry.ErrorSeq[ociregistry.Descriptor](opError(err, "Referrers", repo, string(digest)))
	}
	return func(yield func(ociregistry.Descriptor, error) bool) {
		err := ordered.List(ctx, string(ociregistry.ReferrersAfter(ctx)), func(batch []string, after string) ([]string, error) {
			r.view(repo, func(repo *repository) error {
				if set := repo.referrers[digest]; set != nil {
					batch = set.AppendAfter(batch, after, ordered.BatchSize)
				}
				return nil
			})
			return batch, nil // an unknown repository has no referrers
		}, func(referrers []string) (bool, error) {
			for _, referrer := range referrers {
				var m *manifestEntry
				r.view(repo, func(repo *repository) error {
					m = repo.manifests[ociregistry.Digest(referrer)]
					return nil
				})
				if m == nil || artifactType != "" && m.artifactType != artifactType {
					continue // it was deleted in the meantime, or has another type
				}
				if !yield(m.referrer(), nil) {
					return false, nil
				}
			}
			return true, nil
		})
		if err != nil {
			yield(ociregistry.Descriptor{}, opError(err, "Referrers", repo, string(digest)))
		}
	}
}
