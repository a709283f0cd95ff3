package ociunify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
)

const (
	// defaultOriginWait is the default of CacheOptions.OriginWait.
	defaultOriginWait = 10 * time.Second

	// stallMemory is for how long after a stall calls that can be served without the
	// origin do not wait for it.
	stallMemory = 30 * time.Second

	// originIdle is how long to wait for an origin that sends nothing when nothing is
	// kept. Clients of registries usually wait less.
	originIdle = 5 * time.Minute
)

// errStalled is the error for an origin that sends nothing for too long. Like other
// errors that are not an answer, it counts as a failure of the origin.
var errStalled = fmt.Errorf("the origin does not answer: %w", os.ErrDeadlineExceeded)

// stalledOr returns err, or errStalled if that is the cause of the end of ctx.
func stalledOr(ctx context.Context, at call.Call, err error) error {
	if err != nil && context.Cause(ctx) == errStalled {
		return at.Wrap(errStalled)
	}
	return err
}

// withinLimit returns the result of ask, or errStalled if ask takes longer than limit. A
// negative limit means no limit. Reading the result may take any time.
func withinLimit[T any](ctx context.Context, w *watch, at call.Call, limit time.Duration, ask func(context.Context) (T, error)) (v T, err error) {
	if limit < 0 {
		return ask(ctx)
	}
	t := new(task)
	w.start(ctx, t)
	before := t.wait(limit)
	v, err = ask(t)
	t.waited(before)
	if err != nil {
		defer t.end()
		return v, stalledOr(t, at, err)
	}
	var unread func() // closes the result, if it is something to read
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
	if unread != nil && context.Cause(t) == errStalled { // reading would fail with another error
		unread()
		var none T
		return none, at.Wrap(errStalled)
	}
	return v, nil
}

// patience knows how long to wait for an origin when something is kept. After a stall,
// calls about the same repository do not wait for a while, and one of them at a time
// asks the origin in the background. Calls about other repositories wait less, but do
// wait: the origin may consist of several registries.
type patience struct {
	limit time.Duration // negative is no limit

	mu     sync.Mutex
	stalls map[string]*stall
	latest time.Time // when all stalls are over
}

type stall struct {
	until   time.Time // when calls wait again
	probing bool
}

// stallDivisor divides the wait if the origin has stalled for another repository.
const stallDivisor = 10

// wait returns how long a call about a repository may wait for the origin. Zero means
// that the call should be served without it.
func (p *patience) wait(repo string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if s := p.stalls[repo]; s != nil && (s.probing || now.Before(s.until)) {
		return 0
	}
	delete(p.stalls, repo)
	if now.Before(p.latest) {
		return p.limit / stallDivisor
	}
	return p.limit
}

// beginProbe reports whether the caller should ask the origin about a repository for
// which it has stalled. If so, the caller must call endProbe.
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

// endProbe notes the end of a probe. If the origin has answered, it forgets all stalls.
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

// stalled notes that the origin has stalled for a repository.
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

// orStalled returns the result of ask, which asks the origin about something that is
// kept, or errStalled after a short wait. In that case the task has ended.
func orStalled[T any](c *Cache, t *task, at call.Call, ask func(*task) (T, error)) (v T, err error) {
	if c.patience.limit < 0 {
		return ask(t)
	}
	limit := c.patience.wait(at.Repository)
	if limit == 0 {
		c.probe(t, at, func(t *task) error {
			_, err := ask(t)
			return err
		})
		return v, at.Wrap(errStalled)
	}
	before := t.wait(limit)
	v, err = ask(t)
	t.waited(before)
	if err = stalledOr(t, at, err); errors.Is(err, errStalled) {
		c.patience.stalled(at.Repository)
	}
	return v, err
}

// probe asks the origin in the background, unless another probe of the repository is
// under way.
func (c *Cache) probe(ctx context.Context, at call.Call, ask func(*task) error) {
	if !c.patience.beginProbe(at.Repository) {
		return
	}
	if c.startWork() != nil {
		c.patience.endProbe(at.Repository, false)
		return
	}
	t := c.detach(ctx)
	go func() {
		defer c.working.Done()
		defer t.end()
		t.wait(c.patience.limit)
		err := stalledOr(t, at, ask(t))
		c.patience.endProbe(at.Repository, !errors.Is(err, errStalled) && t.Err() == nil)
	}()
}
