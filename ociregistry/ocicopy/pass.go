package ocicopy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

// pass is one look at all that a source has to mirror.
type pass struct {
	*Mirror
	src     *source
	summary Summary // see Mirror.report

	confirmed confirmed

	mu     sync.Mutex
	last   []task // to be run when all else has been
	failed []task
	queued map[string]bool // repositories
}

// run works in rounds. What fails in one is tried again in the next, so that it
// holds up nothing else. A source that was given up is asked again in each round.
func (p *pass) run(ctx context.Context) {
	tasks := []task{{event: Event{Source: p.src.Name}, run: p.source}}
	backoff := min(p.opts.Backoff, MaxBackoff)
	for {
		p.src.reg.anew()
		drain(ctx, p.opts.Images, tasks, p.try)
		tasks, p.last = p.last, nil
		drain(ctx, p.opts.Images, tasks, p.try)
		tasks, p.failed = p.failed, nil
		if len(tasks) == 0 {
			return
		}
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
			return
		}
		backoff = min(2*backoff, MaxBackoff)
	}
}

// try runs a task, and keeps it for the next round if that may help.
func (p *pass) try(ctx context.Context, t task) []task {
	t.attempt++
	about := t.event
	about.Attempt = t.attempt
	found, err := t.run(ctx, about)
	if err == nil || ctx.Err() != nil {
		return found
	}
	about.Err = err
	about.Outcome = Failed
	if t.attempt <= p.opts.Retries && mayPass(err) {
		about.Outcome = Retried
		p.mu.Lock()
		p.failed = append(p.failed, t)
		p.mu.Unlock()
	}
	p.report(ctx, &p.summary, about)
	return found
}

// lasting are the errors that a retry does not help against.
var lasting = []error{
	ociregistry.ErrUnauthorized,
	ociregistry.ErrDenied,
	ociregistry.ErrUnsupported,
	ociregistry.ErrNameInvalid,
	ociregistry.ErrNameUnknown,
	ociregistry.ErrManifestInvalid,
	ociregistry.ErrManifestUnknown,
	ociregistry.ErrManifestBlobUnknown,
	ErrLimit,
}

// mayPass reports whether err may be gone when the same is tried again.
func mayPass(err error) bool {
	return !slices.ContainsFunc(lasting, func(target error) bool { return errors.Is(err, target) })
}

// source finds the repositories to mirror. Those that a rule names are mirrored
// also when the registry cannot list what it has.
func (p *pass) source(ctx context.Context, about Event) (found []task, err error) {
	wild := false
	for _, rule := range p.src.rules {
		wild = wild || !rule.literal
		if rule.literal {
			found = p.addRepo(found, about, rule.lead)
		}
	}
	if !wild {
		return found, nil
	}
	for repo, err := range p.src.reg.Repositories(ctx, "") {
		if err != nil {
			return found, err
		}
		found = p.addRepo(found, about, repo)
	}
	return found, nil
}

// addRepo appends the task for a repository, if it is to be mirrored and not
// queued yet.
func (p *pass) addRepo(tasks []task, about Event, repo string) []task {
	rule := p.src.rule(repo)
	if rule == nil || p.queued[repo] {
		return tasks
	}
	p.queued[repo] = true
	about.Repo = repo
	about.Destination, _ = rule.Destination(repo)
	r := &repository{pass: p, rule: rule}
	return append(tasks, task{event: about, run: r.tags})
}

// repository is a repository of a pass.
type repository struct {
	*pass
	rule *Selector
	has  map[string]bool // the tags that the source has
}

// tags finds the images to mirror.
func (r *repository) tags(ctx context.Context, about Event) (found []task, err error) {
	tags, err := ociregistry.All(r.src.reg.Tags(ctx, about.Repo, ""))
	if err != nil {
		return nil, err
	}
	r.has = make(map[string]bool, len(tags))
	for _, tag := range tags {
		r.has[tag] = true
	}
	for _, tag := range r.rule.ChooseTags(tags) {
		image := about
		image.Tag = tag
		found = append(found, task{event: image, run: r.image})
	}
	if r.rule.rule.Delete {
		r.mu.Lock()
		r.last = append(r.last, task{event: about, run: r.gone})
		r.mu.Unlock()
	}
	slices.Reverse(found) // the last is run first
	return found, nil
}

// gone finds the tags to delete.
func (r *repository) gone(ctx context.Context, about Event) (found []task, err error) {
	tags, err := ociregistry.All(r.dst.Tags(ctx, about.Destination, ""))
	if err != nil && !absent(err) {
		return nil, err
	}
	for _, tag := range tags {
		if r.rule.brings(tag) && !r.has[tag] {
			image := about
			image.Tag = tag
			found = append(found, task{event: image, run: r.deleteTag})
		}
	}
	return found, nil
}

// deleteTag deletes a tag that is gone wherever it may have come from: other
// rules can lead to the same repository, and the list that did not have it may
// be out of date. Nor is it gone because those do not see it whose credentials were
// refused. A source that is known to stall is not waited for: what it has is not
// known.
func (r *repository) deleteTag(ctx context.Context, about Event) ([]task, error) {
	for _, o := range r.Origins(about.Destination) {
		if !o.rule.brings(about.Tag) {
			continue
		}
		if o.src != r.src && o.src.reg.stalled.Load() {
			return nil, fmt.Errorf("source %s: %w", o.Source, ErrStalled)
		}
		_, err := o.src.reg.ResolveTag(ociauth.ContextWithoutFallback(ctx), o.Repo, about.Tag)
		if !absent(err) {
			return nil, err
		}
	}
	err := r.dst.DeleteTag(ctx, about.Destination, about.Tag)
	if err != nil && !absent(err) {
		return nil, err
	}
	about.Outcome = Deleted
	r.report(ctx, &r.summary, about)
	return nil, nil
}
