package ociunify

import (
	"context"
	"iter"
	"sync/atomic"
	"time"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Repositories implements [ociregistry.Lister.Repositories].
func (c *Cache) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	at := call.New("Repositories", "", "")
	return hide(orKept(ctx, c, at, func(ctx context.Context, from source) iter.Seq2[string, error] {
		return c.lister(from).Repositories(ctx, startAfter)
	}))
}

// hide omits the repository with the records of the cache.
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
	at := call.New("Tags", repo, "")
	if err := at.CheckRepository(); err != nil {
		return ociregistry.ErrorSeq[string](err)
	}
	if err := checkVisible(at); err != nil {
		return ociregistry.ErrorSeq[string](err)
	}
	return orKept(ctx, c, at, func(ctx context.Context, from source) iter.Seq2[string, error] {
		return c.lister(from).Tags(ctx, repo, startAfter)
	})
}

// Referrers implements [ociregistry.Lister.Referrers]. The lists are kept.
func (c *Cache) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	at := call.New("Referrers", repo, string(digest))
	if err := checkDigest(at); err != nil {
		return ociregistry.ErrorSeq[ociregistry.Descriptor](err)
	}
	ctx = ociregistry.WithReferrersAfter(ctx, "") // what is kept is a list of all
	list := referrersList{Repository: repo, Digest: digest, ArtifactType: artifactType}
	return orKept(ctx, c, at, func(ctx context.Context, from source) iter.Seq2[ociregistry.Descriptor, error] {
		if from == fromCache {
			return c.keptReferrers(ctx, list)
		}
		return c.keepReferrers(ctx, list, c.origin.Referrers(ctx, repo, digest, artifactType))
	})
}

// source says where a list comes from.
type source int

const (
	fromOrigin source = iota
	fromCache
)

func (c *Cache) lister(from source) ociregistry.Lister {
	if from == fromCache {
		return c.cache
	}
	return c.origin
}

// orKept returns the origin's list, or the list that is kept if the origin fails
// before the first element. If none is kept, the error is the origin's.
func orKept[T any](ctx context.Context, c *Cache, at call.Call, list func(context.Context, source) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		l := &listing[T]{cache: c, at: at, ctx: ctx, list: list, yield: yield}
		if l.run(); l.failure != nil {
			l.yieldKept()
		}
	}
}

// listing reads a list from the origin, or else the list that is kept.
type listing[T any] struct {
	cache *Cache
	at    call.Call
	ctx   context.Context // the caller's
	list  func(context.Context, source) iter.Seq2[T, error]
	yield func(T, error) bool

	task    task
	more    time.Duration // the further time to wait if nothing is kept
	decided atomic.Bool   // set by what comes first: the first element or the end of the wait
	begun   bool
	failure error // why the list has not begun, and the one that is kept takes its place
}

// run yields the origin's list, if it begins.
func (l *listing[T]) run() {
	limit := l.cache.patience.wait(l.at.Repository)
	if limit == 0 && l.isKept() {
		l.cache.probe(l.ctx, l.at, l.ask)
		l.failure = l.at.Wrap(errStalled)
		return
	}
	if limit <= 0 || limit > originIdle {
		limit = originIdle
	}
	l.more = originIdle - limit
	l.cache.watch.start(l.ctx, &l.task)
	defer l.task.end()
	l.task.owner = l
	l.task.wait(limit)
	l.list(&l.task, fromOrigin)(l.receive)
}

// ask asks the origin for the beginning of the list.
func (l *listing[T]) ask(t *task) error {
	for _, err := range l.list(t, fromOrigin) {
		return err
	}
	return nil
}

// receive yields what the origin returned, unless the origin failed or is too late.
func (l *listing[T]) receive(x T, err error) bool {
	l.task.waited(time.Time{})
	err = stalledOr(&l.task, l.at, err)
	if !l.begun && !l.decided.CompareAndSwap(false, true) {
		err = l.at.Wrap(errStalled)
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

// yieldKept yields the list that is kept, or else the origin's error.
func (l *listing[T]) yieldKept() {
	l.cache.warn("the origin failed; listing what is kept", l.at, l.failure)
	for x, err := range l.list(l.ctx, fromCache) {
		if err != nil {
			l.cache.miss(l.ctx, l.at, err)
			err = l.failure
		}
		if !l.yield(x, err) {
			return
		}
	}
}

// stalled is called when the origin has sent nothing for too long. If nothing is kept,
// it gives the origin more time.
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
		l.cache.patience.stalled(l.at.Repository)
		l.task.stop(errStalled)
	}
}

// isKept reports whether a list is kept, even if it is empty.
func (l *listing[T]) isKept() bool {
	for _, err := range l.list(l.ctx, fromCache) {
		return err == nil
	}
	return true
}
