package ocigc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/internal/parallel"
	"github.com/seed-40b21970/oci/ociregistry"
)

// concurrency is the number of tags that are looked at, or deleted, at a time.
const concurrency = 8

// Retain deletes the tags that the policies of opts do not keep, in any registry. It removes
// nothing else: what the tags kept is garbage that the registry collects in its own way. The
// delays do not matter.
//
// A registry does not tell when a tag was pushed. For PushedWithin and LastPushed, Retain
// takes the latest time that the configurations of the tag's images say they were created
// at, or without one the annotation org.opencontainers.image.created. Times before 2013 are
// those of reproducible builds, and say nothing; a tag without a time counts as one that was
// just pushed. PulledWithin fails with [ociregistry.ErrUnsupported].
//
// Repositories that policies name without wildcards need not be listed by the registry. A
// tag that moves while Retain runs is kept if its time was looked at.
//
// Retain goes on after the failure of a repository or a tag, which is then among the
// Problems of the report: [ociregistry.ErrUnsupported], for instance, from a registry that
// cannot delete tags. The error says that opts are wrong, that the repositories cannot be
// listed, or that ctx has ended; the report has what was done before.
func Retain(ctx context.Context, reg ociregistry.Interface, opts *Options) (*Report, error) {
	if opts == nil {
		opts = &Options{}
	}
	selector, err := NewSelector(opts)
	if err != nil {
		return nil, err
	}
	if err := selector.checkRemote(); err != nil {
		return nil, err
	}
	r := &retention{reg: reg, opts: opts, selector: selector, now: time.Now, report: &Report{DryRun: opts.DryRun}}
	if opts.Now != nil {
		r.now = opts.Now
	}
	if repos, ok := selector.literals(); ok {
		return r.report, r.all(ctx, ociregistry.SliceSeq(repos))
	}
	return r.report, r.all(ctx, reg.Repositories(ctx, ""))
}

// checkRemote returns an error if a rule needs what no registry tells.
func (s *Selector) checkRemote() error {
	for i, p := range s.policies {
		for k, r := range p.keep {
			if r.PulledWithin > 0 {
				return fmt.Errorf("%w: policies[%d].keep[%d]: registries do not tell when tags were pulled", ociregistry.ErrUnsupported, i, k)
			}
		}
	}
	return nil
}

type retention struct {
	reg      ociregistry.Interface
	opts     *Options
	selector *Selector
	now      func() time.Time

	mu     sync.Mutex
	report *Report
}

func (r *retention) all(ctx context.Context, repos func(func(string, error) bool)) error {
	for repo, err := range repos {
		if err != nil {
			return err
		}
		if len(r.selector.policy(repo).keep) == 0 {
			continue
		}
		err := r.repository(ctx, repo)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.report.Done(r.opts, repo, err)
	}
	return ctx.Err()
}

// repository deletes the tags of a repository. Its error is about the repository as a whole.
func (r *retention) repository(ctx context.Context, repo string) error {
	names, err := ociregistry.All(r.reg.Tags(ctx, repo, ""))
	if err != nil {
		return err
	}
	tags := make([]datedTag, len(names))
	err = parallel.Do(concurrency, len(names), func(i int) (err error) {
		tags[i], err = r.date(ctx, repo, names[i])
		return err
	})
	if err != nil {
		return err
	}
	byName := make(map[string]datedTag)
	plain := make([]Tag, len(tags))
	for i, tag := range tags {
		byName[tag.Name] = tag
		plain[i] = tag.Tag
	}
	dropped := r.selector.Dropped(repo, plain, r.now())
	return parallel.Do(concurrency, len(dropped), func(i int) error {
		r.drop(ctx, repo, byName[dropped[i]])
		return ctx.Err()
	})
}

// drop deletes a tag, if it is what it was.
func (r *retention) drop(ctx context.Context, repo string, tag datedTag) {
	err := r.delete(ctx, repo, tag)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.report.Add(r.opts, Finding{Repository: repo, Kind: KindTag, Tag: tag.Name, Digest: tag.digest, Reason: NotKept, Since: tag.Pushed})
	case ctx.Err() == nil && !errors.Is(err, errMoved) && !errors.Is(err, ociregistry.ErrManifestUnknown):
		r.report.Problems = append(r.report.Problems, Problem{repo, fmt.Errorf("tag %s: %w", tag.Name, err)})
	}
}

var errMoved = errors.New("the tag has moved")

func (r *retention) delete(ctx context.Context, repo string, tag datedTag) error {
	if r.opts.DryRun {
		return nil
	}
	if tag.digest != "" {
		desc, err := r.reg.ResolveTag(ctx, repo, tag.Name)
		if err != nil {
			return err
		}
		if desc.Digest != tag.digest {
			return errMoved
		}
	}
	return r.reg.DeleteTag(ctx, repo, tag.Name)
}
