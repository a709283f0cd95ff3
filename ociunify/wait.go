package ociunify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

const (
	// defaultOriginWait is what CacheOptions.OriginWait stands for by default.
	defaultOriginWait = 10 * time.Second

	// stallMemory is for how long after a stall nobody waits for the origin who can
	// be served without it.
	stallMemory = 30 * time.Second

	// originIdle is how long an origin may say nothing when there is nothing to serve
	// instead. It is longer than what clients of registries wait for on their own.
	originIdle = 5 * time.Minute
)

// errStalled is for an origin that says nothing for too long. It is a failure, as
// other errors that are no answer.
var errStalled = fmt.Errorf("the origin does not answer: %w", os.ErrDeadlineExceeded)

// stalledOr returns err, or errStalled if that is why ctx has ended.
func (t target) stalledOr(ctx context.Context, err error) error {
	if err != nil && context.Cause(ctx) == errStalled {
		return t.fail(errStalled)
	}
	return err
}

// begun returns what ask returns, or errStalled if that takes longer than limit, which
// is none if it is negative. What is then read of it may take any time.
func begun[T any](ctx context.Context, w *watch, at target, limit time.Duration, ask func(context.Context) (T, error)) (v T, err error) {
	if limit < 0 {
		return ask(ctx)
	}
	t := new(task)
	w.begin(ctx, t)
	before := t.wait(limit)
	v, err = ask(t)
	t.waited(before)
	if err != nil {
		defer t.end()
		return v, at.stalledOr(t, err)
	}
	var unread func() // closes what there is still to read; nil if there is nothing
	switch x := any(v).(type) {
	case ociregistry.BlobReader:
		x = onClose(x, t.end)
		v, unread = x.(T), func() { x.Close() }
	case interface {
		onClose(func())
		close()
	}:
		x.onClose(t.end)
		unread = x.close
	default:
		t.end()
	}
	if unread != nil && context.Cause(t) == errStalled { // reading would fail, and not say why
		unread()
		var none T
		return none, at.fail(errStalled)
	}
	return v, nil
}

// patience knows how long to wait for an origin if there is something to serve
// instead. Where the origin has stalled, by the name of the repository, it is not
// waited for again for a while, but asked in the background by one call at a time.
// An origin may be several, and so a stall elsewhere only makes the wait short.
type patience struct {
	limit time.Duration // negative is no limit

	mu     sync.Mutex
	stalls map[string]*stall
	latest time.Time // when all stalls are forgotten
}

type stall struct {
	until   time.Time // when calls wait again
	probing bool
}

// impatient is by how many times the wait is shorter if the origin stalls elsewhere.
const impatient = 10

// wait returns for how long a call about a repository may wait. It is 0 if the call is
// to be served without the origin.
func (p *patience) wait(repo string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if s := p.stalls[repo]; s != nil && (s.probing || now.Before(s.until)) {
		return 0
	}
	delete(p.stalls, repo)
	if now.Before(p.latest) {
		return p.limit / impatient
	}
	return p.limit
}

// beginProbe reports whether the caller is to ask the origin about a repository for
// which it stalled. It must call endProbe then.
func (p *patience) beginProbe(repo string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stalls[repo]
	if s == nil || s.probing {
		return false
	}
	s.probing = true
	return true
}

// endProbe notes how a probe ended. If the origin has answered, all is well again.
func (p *patience) endProbe(repo string, answered bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if answered {
		clear(p.stalls)
		p.latest = time.Time{}
		return
	}
	p.add(repo)
}

// stalled notes that the origin has stalled.
func (p *patience) stalled(repo string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.add(repo)
}

// add notes a stall. The lock is held.
func (p *patience) add(repo string) {
	if p.stalls == nil || len(p.stalls) >= maxRemembered {
		p.stalls = make(map[string]*stall)
	}
	p.latest = time.Now().Add(stallMemory)
	p.stalls[repo] = &stall{until: p.latest}
}

// orStalled returns what ask returns, which asks the origin about something that is
// kept, or soon errStalled. The task has then ended.
func orStalled[T any](c *Cache, t *task, at target, ask func(*task) (T, error)) (v T, err error) {
	if c.patience.limit < 0 {
		return ask(t)
	}
	limit := c.patience.wait(at.repo)
	if limit == 0 {
		c.probe(t, at, func(t *task) error {
			_, err := ask(t)
			return err
		})
		return v, at.fail(errStalled)
	}
	before := t.wait(limit)
	v, err = ask(t)
	t.waited(before)
	if err = at.stalledOr(t, err); errors.Is(err, errStalled) {
		c.patience.stalled(at.repo)
	}
	return v, err
}

// probe asks the origin in the background, unless another call does.
func (c *Cache) probe(ctx context.Context, at target, ask func(*task) error) {
	if !c.patience.beginProbe(at.repo) {
		return
	}
	if c.begin() != nil {
		c.patience.endProbe(at.repo, false)
		return
	}
	t := c.detach(ctx)
	go func() {
		defer c.working.Done()
		defer t.end()
		t.wait(c.patience.limit)
		err := at.stalledOr(t, ask(t))
		c.patience.endProbe(at.repo, !errors.Is(err, errStalled) && t.Err() == nil)
	}()
}
