package ocimem

import (
	"context"
	"iter"

	"github.com/seed-40b21970/oci/ociregistry"
)

// batchSize is how many names are read at a time, so that no lock is held while
// the caller has an element. It is a little more than a page of 100.
const batchSize = 128

// Repositories implements [ociregistry.Lister.Repositories].
func (r *Registry) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		err := batches(ctx, startAfter, func(batch []string, after string) ([]string, error) {
			r.mu.RLock()
			defer r.mu.RUnlock()
			return r.names.AppendAfter(batch, after, batchSize), nil
		}, func(name string) bool { return yield(name, nil) })
		if err != nil {
			yield("", opError(err, "Repositories", "", ""))
		}
	}
}

// Tags implements [ociregistry.Lister.Tags].
func (r *Registry) Tags(ctx context.Context, repo string, startAfter string) iter.Seq2[string, error] {
	if err := ociregistry.CheckRepository(repo); err != nil {
		return ociregistry.ErrorSeq[string](opError(err, "Tags", repo, ""))
	}
	return func(yield func(string, error) bool) {
		err := batches(ctx, startAfter, func(batch []string, after string) ([]string, error) {
			err := r.view(repo, func(repo *repository) error {
				batch = repo.tagNames.AppendAfter(batch, after, batchSize)
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
	if err := ociregistry.CheckRepositoryAndDigest(repo, digest); err != nil {
		return ociregistry.ErrorSeq[ociregistry.Descriptor](opError(err, "Referrers", repo, string(digest)))
	}
	return func(yield func(ociregistry.Descriptor, error) bool) {
		err := batches(ctx, string(ociregistry.ReferrersAfter(ctx)), func(batch []string, after string) ([]string, error) {
			r.view(repo, func(repo *repository) error {
				if set := repo.referrers[digest]; set != nil {
					batch = set.AppendAfter(batch, after, batchSize)
				}
				return nil
			})
			return batch, nil // an unknown repository has none
		}, func(referrer string) bool {
			var m *storedManifest
			r.view(repo, func(repo *repository) error {
				m = repo.manifests[ociregistry.Digest(referrer)]
				return nil
			})
			if m == nil || artifactType != "" && m.artifactType != artifactType {
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
func batches(ctx context.Context, after string, next func(batch []string, after string) ([]string, error), yield func(string) bool) error {
	batch := make([]string, 0, batchSize)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		batch, err = next(batch[:0], after)
		if err != nil {
			return err
		}
		for _, x := range batch {
			if !yield(x) {
				return nil
			}
		}
		if len(batch) < batchSize {
			return nil
		}
		after = batch[len(batch)-1]
	}
}
