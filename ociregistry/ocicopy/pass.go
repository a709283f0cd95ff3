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

// pass is one pass over a source.
type pass struct {
	*Mirror
	src     *source
	summary Summary // see Mirror.report

	confirmed confirmed

	mu     sync.Mutex
	last   []task // to run after all others
	failed []task
	queued map[string]bool // repositories
}

// run works in rounds. Tasks that fail are retried in the next round, and so do not
// delay others. A source that was given up in one round is asked again in the next.
func (p *pass) run(ctx context.Context) {
	tasks := []task{{event: Event{Source: p.src.Name}, run: p.findRepositories}}
	backoff := min(p.opts.Backoff, MaxBackoff)
	for {
		p.src.reg.reset()
		drain(ctx, p.opts.ImageConcurrency, tasks, p.try)
		tasks, p.last = p.last, nil
		drain(ctx, p.opts.ImageConcurrency, tasks, p.try)
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

// try runs a task. If the task fails with a temporary error, try keeps it for the next
// round.
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
	if t.attempt < p.opts.Attempts && isTemporary(err) {
		about.Outcome = Retried
		p.mu.Lock()
		p.failed = append(p.failed, t)
		p.mu.Unlock()
	}
	p.report(ctx, &p.summary, about)
	return found
}

// permanent are the errors after which a task is not retried.
var permanent = []error{
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

// isTemporary reports whether a retry may succeed after err.
func isTemporary(err error) bool {
	return !slices.ContainsFunc(permanent, func(target error) bool { return errors.Is(err, target) })
}

// findRepositories finds the repositories to mirror. Repositories that a rule names
// without wildcards are mirrored even if the registry cannot list its repositories.
func (p *pass) findRepositories(ctx context.Context, about Event) (found []task, err error) {
	wild := false
	for _, rule := range p.src.rules {
		if rule.pattern.Literal() {
			found = p.addRepo(found, about, rule.pattern.Prefix())
		} else {
			wild = true
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

// addRepo appends the task for a repository, if a rule chooses it and it is not queued
// yet.
func (p *pass) addRepo(tasks []task, about Event, repo string) []task {
	rule := p.src.rule(repo)
	if rule == nil || p.queued[repo] {
		return tasks
	}
	p.queued[repo] = true
	about.Repository = repo
	about.Destination, _ = rule.Destination(repo)
	r := &repository{pass: p, rule: rule}
	return append(tasks, task{event: about, run: r.findTags})
}

// repository is a repository of a pass.
type repository struct {
	*pass
	rule *Selector
	has  map[string]bool // the tags that the source has
}

// findTags finds the images to mirror.
func (r *repository) findTags(ctx context.Context, about Event) (found []task, err error) {
	tags, err := ociregistry.All(r.src.reg.Tags(ctx, about.Repository, ""))
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
		r.last = append(r.last, task{event: about, run: r.findGoneTags})
		r.mu.Unlock()
	}
	slices.Reverse(found) // the last is run first
	return found, nil
}

// findGoneTags finds the tags to delete.
func (r *repository) findGoneTags(ctx context.Context, about Event) (found []task, err error) {
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

// deleteTag deletes a tag if no source has it. It asks each origin, because other rules
// may lead to the same repository, and the list without the tag may be out of date. It
// does not fall back to anonymous access, which may show fewer tags. If another source
// is known to stall, it does not wait for that source, and does not delete the tag.
func (r *repository) deleteTag(ctx context.Context, about Event) ([]task, error) {
	for _, o := range r.Origins(about.Destination) {
		if !o.rule.brings(about.Tag) {
			continue
		}
		if o.src != r.src && o.src.reg.stalled.Load() {
			return nil, fmt.Errorf("source %s: %w", o.Source, ErrStalled)
		}
		_, err := o.src.reg.ResolveTag(ociauth.ContextWithoutFallback(ctx), o.Repository, about.Tag)
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
