package ociunify

import (
	"context"
	"iter"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Repositories implements [ociregistry.Lister.Repositories].
func (c *Cache) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	at := target{"Repositories", "", ""}
	return hide(orKept(ctx, c, at, c.origin.Repositories(ctx, startAfter), c.cache.Repositories(ctx, startAfter)))
}

// hide leaves out the repository with the cache's records.
func hide(repos iter.Seq2[string, error]) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for repo, err := range repos {
			if repo != stateRepo && !yield(repo, err) {
				return
			}
		}
	}
}

// Tags implements [ociregistry.Lister.Tags].
func (c *Cache) Tags(ctx context.Context, repo string, startAfter string) iter.Seq2[string, error] {
	at := target{"Tags", repo, ""}
	if err := at.checkRepo(); err != nil {
		return ociregistry.ErrorSeq[string](err)
	}
	if err := at.visible(); err != nil {
		return ociregistry.ErrorSeq[string](err)
	}
	return orKept(ctx, c, at, c.origin.Tags(ctx, repo, startAfter), c.cache.Tags(ctx, repo, startAfter))
}

// Referrers implements [ociregistry.Lister.Referrers]. The lists are kept.
func (c *Cache) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	at := target{"Referrers", repo, string(digest)}
	if err := at.byDigest(); err != nil {
		return ociregistry.ErrorSeq[ociregistry.Descriptor](err)
	}
	list := referrersList{Repository: repo, Digest: digest, ArtifactType: artifactType}
	origin := c.keepReferrers(ctx, list, c.origin.Referrers(ctx, repo, digest, artifactType))
	return orKept(ctx, c, at, origin, c.keptReferrers(ctx, list))
}

// orKept returns the origin's list, or, if the origin fails to begin one, that
// which was kept. Without one, the origin's error is the error.
func orKept[T any](ctx context.Context, c *Cache, at target, origin, kept iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var failure error
		begun := false
		for x, err := range origin {
			if !begun && down(err) && ctx.Err() == nil {
				failure = err
				break
			}
			begun = true
			if !yield(x, err) {
				return
			}
		}
		if failure == nil {
			return
		}
		c.warn("the origin failed; listing what is kept", at, failure)
		for x, err := range kept {
			if err != nil {
				c.miss(ctx, at, err)
				err = failure
			}
			if !yield(x, err) {
				return
			}
		}
	}
}
