package ociunify

import (
	"context"
	"iter"
	"sync/atomic"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Repositories implements [ociregistry.Lister.Repositories].
func (c *Cache) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	at := target{"Repositories", "", ""}
	return hide(orKept(ctx, c, at, func(ctx context.Context, of source) iter.Seq2[string, error] {
		return c.lister(of).Repositories(ctx, startAfter)
	}))
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
	return orKept(ctx, c, at, func(ctx context.Context, of source) iter.Seq2[string, error] {
		return c.lister(of).Tags(ctx, repo, startAfter)
	})
}

// Referrers implements [ociregistry.Lister.Referrers]. The lists are kept.
func (c *Cache) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	at := target{"Referrers", repo, string(digest)}
	if err := at.byDigest(); err != nil {
		return ociregistry.ErrorSeq[ociregistry.Descriptor](err)
	}
	ctx = ociregistry.WithReferrersAfter(ctx, "") // what is kept is a list of all
	list := referrersList{Repository: repo, Digest: digest, ArtifactType: artifactType}
	return orKept(ctx, c, at, func(ctx context.Context, of source) iter.Seq2[ociregistry.Descriptor, error] {
		if of == kept {
			return c.keptReferrers(ctx, list)
		}
		return c.keepReferrers(ctx, list, c.origin.Referrers(ctx, repo, digest, artifactType))
	})
}

// source is where a list comes from.
type source int

const (
	original source = iota // of the origin
	kept                   // of the cache registry
)

func (c *Cache) lister(of source) ociregistry.Lister {
	if of == kept {
		return c.cache
	}
	return c.origin
}

// orKept returns the origin's list, or, if the origin fails to begin one, that
// which is kept. Without one, the origin's error is the error.
func orKept[T any](ctx context.Context, c *Cache, at target, list func(context.Context, source) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		l := &listing[T]{cache: c, at: at, ctx: ctx, list: list, yield: yield}
		if l.run(); l.failure != nil {
			l.yieldKept()
		}
	}
}

// listing is a list of the origin that is being read, instead of which there may be one
// that is kept.
type listing[T any] struct {
	cache *Cache
	at    target
	ctx   context.Context // the caller's
	list  func(context.Context, source) iter.Seq2[T, error]
	yield func(T, error) bool

	task    task
	more    time.Duration // for how long it is waited for if nothing is kept
	decided atomic.Bool   // by what comes first: the list begins, or is waited for no longer
	begun   bool
	failure error // why it has not begun, and is to be what is kept
}

// run yields the origin's list, if that begins.
func (l *listing[T]) run() {
	limit := l.cache.patience.wait(l.at.repo)
	if limit == 0 && l.isKept() {
		l.cache.probe(l.ctx, l.at, l.ask)
		l.failure = l.at.fail(errStalled)
		return
	}
	if limit <= 0 || limit > originIdle {
		limit = originIdle
	}
	l.more = originIdle - limit
	l.cache.watch.begin(l.ctx, &l.task)
	defer l.task.end()
	l.task.owner = l
	l.task.wait(limit)
	l.list(&l.task, original)(l.take)
}

// ask asks the origin for the beginning of the list.
func (l *listing[T]) ask(t *task) error {
	for _, err := range l.list(t, original) {
		return err
	}
	return nil
}

// take yields what the origin has returned, unless it has failed, or is too late.
func (l *listing[T]) take(x T, err error) bool {
	l.task.waited(time.Time{})
	err = l.at.stalledOr(&l.task, err)
	if !l.begun && !l.decided.CompareAndSwap(false, true) {
		err = l.at.fail(errStalled)
	}
	if !l.begun && down(err) && l.ctx.Err() == nil {
		l.failure = err
		return false
	}
	l.begun = true
	if !l.yield(x, err) {
		return false
	}
	l.task.wait(originIdle)
	return true
}

// yieldKept yields what is kept, or why there is nothing else.
func (l *listing[T]) yieldKept() {
	l.cache.warn("the origin failed; listing what is kept", l.at, l.failure)
	for x, err := range l.list(l.ctx, kept) {
		if err != nil {
			l.cache.miss(l.ctx, l.at, err)
			err = l.failure
		}
		if !l.yield(x, err) {
			return
		}
	}
}

// stalled is called when the origin has said nothing for too long. Where nothing is kept
// it may say nothing for longer.
func (l *listing[T]) stalled() {
	if l.decided.Load() {
		l.task.stop(errStalled)
		return
	}
	more := l.more
	l.more = 0
	switch {
	case more > 0 && !l.isKept():
		l.task.waitOn(more)
	case more == 0:
		l.task.stop(errStalled)
	case l.decided.CompareAndSwap(false, true):
		l.cache.patience.stalled(l.at.repo)
		l.task.stop(errStalled)
	}
}

// isKept reports whether a list is kept, which may be an empty one.
func (l *listing[T]) isKept() bool {
	for _, err := range l.list(l.ctx, kept) {
		return err == nil
	}
	return true
}
