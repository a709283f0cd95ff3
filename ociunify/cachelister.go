package ociunify

import (
	"context"
	"iter"
	"math"
	"sync/atomic"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Repositories implements [ociregistry.Lister.Repositories].
func (c *Cache) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	at := target{"Repositories", "", ""}
	return hide(orKept(ctx, c, at, func(ctx context.Context) iter.Seq2[string, error] {
		return c.origin.Repositories(ctx, startAfter)
	}, c.cache.Repositories(ctx, startAfter)))
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
	return orKept(ctx, c, at, func(ctx context.Context) iter.Seq2[string, error] {
		return c.origin.Tags(ctx, repo, startAfter)
	}, c.cache.Tags(ctx, repo, startAfter))
}

// Referrers implements [ociregistry.Lister.Referrers]. The lists are kept.
func (c *Cache) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	at := target{"Referrers", repo, string(digest)}
	if err := at.byDigest(); err != nil {
		return ociregistry.ErrorSeq[ociregistry.Descriptor](err)
	}
	ctx = ociregistry.WithReferrersAfter(ctx, "") // what is kept is a list of all
	list := referrersList{Repository: repo, Digest: digest, ArtifactType: artifactType}
	return orKept(ctx, c, at, func(ctx context.Context) iter.Seq2[ociregistry.Descriptor, error] {
		return c.keepReferrers(ctx, list, c.origin.Referrers(ctx, repo, digest, artifactType))
	}, c.keptReferrers(ctx, list))
}

// orKept returns the origin's list, or, if the origin fails to begin one, that
// which was kept. Without one, the origin's error is the error.
func orKept[T any](ctx context.Context, c *Cache, at target, origin func(context.Context) iter.Seq2[T, error], kept iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		failure := beginList(ctx, c, at, origin, kept, yield)
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

// beginList yields the origin's list. It returns an error if that has not begun, and
// the list is to be what was kept.
func beginList[T any](ctx context.Context, c *Cache, at target, origin func(context.Context) iter.Seq2[T, error], kept iter.Seq2[T, error], yield func(T, error) bool) error {
	wait := c.patience.wait(at.repo)
	if wait == 0 && isKept(kept) {
		c.probe(ctx, at, func(ctx context.Context) error {
			for _, err := range origin(ctx) {
				return err
			}
			return nil
		})
		return at.fail(errStalled)
	}
	if wait <= 0 {
		wait = math.MaxInt64
	}
	caller := ctx
	ctx, quiet := newSilence(caller, originIdle)
	defer quiet.end()
	var decided atomic.Bool // by what comes first: the list begins, or is waited for no longer
	impatient := time.AfterFunc(wait, func() {
		if isKept(kept) && decided.CompareAndSwap(false, true) {
			c.patience.stalled(at.repo)
			quiet.fail(errStalled)
		}
	})
	defer impatient.Stop()
	begun := false
	for x, err := range origin(ctx) {
		quiet.stop()
		impatient.Stop()
		err = at.stalledOr(ctx, err)
		if !begun && !decided.CompareAndSwap(false, true) {
			err = at.fail(errStalled) // it has come too late
		}
		if !begun && down(err) && caller.Err() == nil {
			return err
		}
		begun = true
		if !yield(x, err) {
			return nil
		}
		quiet.begin()
	}
	return nil
}

// isKept reports whether a list is kept, which may be an empty one.
func isKept[T any](list iter.Seq2[T, error]) bool {
	for _, err := range list {
		return err == nil
	}
	return true
}
