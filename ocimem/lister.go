package ocimem

import (
	"context"
	"iter"

	"github.com/seed-40b21970/oci/ociregistry"
)

// A list is read in batches, with no lock held while the caller has an element.
// The first batch is small, for those who stop soon.
const (
	minBatch = 16
	maxBatch = 1024
)

// Repositories implements [ociregistry.Lister.Repositories].
func (r *Registry) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		err := batches(ctx, startAfter, func(batch []string, after string, n int) ([]string, error) {
			r.mu.RLock()
			defer r.mu.RUnlock()
			return r.names.AppendAfter(batch, after, n), nil
		}, func(name string) bool { return yield(name, nil) })
		if err != nil {
			yield("", opError(err, "Repositories", "", ""))
		}
	}
}

// Tags implements [ociregistry.Lister.Tags].
func (r *Registry) Tags(ctx context.Context, repo string, startAfter string) iter.Seq2[string, error] {
	if err := checkRepo(repo); err != nil {
		return ociregistry.ErrorSeq[string](opError(err, "Tags", repo, ""))
	}
	return func(yield func(string, error) bool) {
		err := batches(ctx, startAfter, func(batch []string, after string, n int) ([]string, error) {
			err := r.view(repo, func(repo *repository) error {
				batch = repo.tagNames.AppendAfter(batch, after, n)
				return nil
			})
			if after != startAfter {
				return batch, nil // if the repository is gone now, so are its tags
			}
			return batch, err
		}, func(tag string) bool { return yield(tag, nil) })
		if err != nil {
			yield("", opError(err, "Tags", repo, ""))
		}
	}
}

// Referrers implements [ociregistry.Lister.Referrers].
func (r *Registry) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	if err := checkRepoAndDigest(repo, digest); err != nil {
		return ociregistry.ErrorSeq[ociregistry.Descriptor](opError(err, "Referrers", repo, string(digest)))
	}
	return func(yield func(ociregistry.Descriptor, error) bool) {
		err := batches(ctx, "", func(batch []string, after string, n int) ([]string, error) {
			r.view(repo, func(repo *repository) error {
				if set := repo.referrers[digest]; set != nil {
					batch = set.AppendAfter(batch, after, n)
				}
				return nil
			})
			return batch, nil // an unknown repository has none
		}, func(referrer string) bool {
			m, err := r.manifest(ctx, repo, ociregistry.Digest(referrer))
			if err != nil || artifactType != "" && m.info.ArtifactType != artifactType {
				return true // deleted meanwhile, or of another type
			}
			return yield(m.referrer(), nil)
		})
		if err != nil {
			yield(ociregistry.Descriptor{}, opError(err, "Referrers", repo, string(digest)))
		}
	}
}

// batches calls yield for the strings that next returns, batch by batch.
func batches(ctx context.Context, after string, next func(batch []string, after string, n int) ([]string, error), yield func(string) bool) error {
	var batch []string
	for n := minBatch; ; n = min(2*n, maxBatch) {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		batch, err = next(batch[:0], after, n)
		if err != nil {
			return err
		}
		for _, x := range batch {
			if !yield(x) {
				return nil
			}
		}
		if len(batch) < n {
			return nil
		}
		after = batch[len(batch)-1]
	}
}
