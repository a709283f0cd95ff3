package ocigc

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/internal/rules"
)

// Selector is [Options] that have been checked, for registries that apply them. It is safe
// for concurrent use.
type Selector struct {
	delay    time.Duration
	policies []policy
}

type policy struct {
	Policy
	patterns []*rules.Pattern // none matches all
	keep     []tagRule
}

type tagRule struct {
	TagRule
	names *rules.Tags // chooses by all fields but those about time
}

// NewSelector checks the policies and delays of opts, which may be nil. The error says which
// policy is wrong, and where.
func NewSelector(opts *Options) (*Selector, error) {
	if opts == nil {
		opts = &Options{}
	}
	s := &Selector{delay: orDelay(opts.Delay, DefaultDelay)}
	for i, p := range opts.Policies {
		compiled, err := compile(p)
		if err != nil {
			return nil, fmt.Errorf("policies[%d].%w", i, err)
		}
		s.policies = append(s.policies, compiled)
	}
	s.policies = append(s.policies, policy{Policy: Policy{Untagged: opts.Untagged, Dangling: opts.Dangling}})
	for i := range s.policies {
		p := &s.policies[i]
		p.UntaggedDelay, p.DanglingDelay = orDelay(p.UntaggedDelay, s.delay), orDelay(p.DanglingDelay, s.delay)
	}
	return s, nil
}

// orDelay returns delay, or another one if it is zero. Without a delay it returns -1.
func orDelay(delay, other time.Duration) time.Duration {
	switch {
	case delay == 0:
		return other
	case delay < 0:
		return -1
	}
	return delay
}

func compile(p Policy) (policy, error) {
	compiled := policy{Policy: p}
	for i, text := range p.Repositories {
		pattern, err := rules.ParsePattern(text)
		if err != nil {
			return policy{}, fmt.Errorf("repositories[%d]: %w", i, err)
		}
		compiled.patterns = append(compiled.patterns, pattern)
	}
	for i, r := range p.Keep {
		rule, err := compileTagRule(r)
		if err != nil {
			return policy{}, fmt.Errorf("keep[%d]: %w", i, err)
		}
		compiled.keep = append(compiled.keep, rule)
	}
	return compiled, nil
}

func compileTagRule(r TagRule) (tagRule, error) {
	if r.LastPushed < 0 {
		return tagRule{}, errors.New("lastPushed is negative")
	}
	names, err := rules.NewTags(rules.TagRule{Match: r.Match, SemVer: r.SemVer, Newest: r.Newest})
	return tagRule{r, names}, err
}

// Delay returns how long blobs and upload sessions stay. If it is negative, there is no
// delay.
func (s *Selector) Delay() time.Duration { return s.delay }

// Policy returns the policy that holds for a repository. Its delays are never zero: if one
// is negative, there is no delay.
func (s *Selector) Policy(repo string) Policy { return s.policy(repo).Policy }

func (s *Selector) policy(repo string) *policy {
	return &s.policies[slices.IndexFunc(s.policies, func(p policy) bool { return p.matches(repo) })]
}

func (p *policy) matches(repo string) bool {
	return len(p.patterns) == 0 ||
		slices.ContainsFunc(p.patterns, func(pattern *rules.Pattern) bool { return pattern.Match(repo) })
}

// Dropped returns the names of those of the tags of a repository that its policy does not
// keep, in their order.
func (s *Selector) Dropped(repo string, tags []Tag, now time.Time) []string {
	p := s.policy(repo)
	if len(p.keep) == 0 {
		return nil
	}
	kept := make(map[string]bool)
	for i := range p.keep {
		p.keep[i].markKept(kept, tags, now)
	}
	var dropped []string
	for _, tag := range tags {
		if _, _, ofDigest := rules.Subject(tag.Name); !ofDigest && !kept[tag.Name] {
			dropped = append(dropped, tag.Name)
		}
	}
	return dropped
}

// markKept adds to kept the tags that the rule chooses.
func (r *tagRule) markKept(kept map[string]bool, tags []Tag, now time.Time) {
	var names []string
	pushed := make(map[string]time.Time)
	for _, tag := range tags {
		if r.isTimely(tag, now) {
			names = append(names, tag.Name)
			pushed[tag.Name] = tag.Pushed
		}
	}
	names = r.names.Choose(names)
	if r.LastPushed > 0 && len(names) > r.LastPushed {
		slices.SortStableFunc(names, func(a, b string) int { return compareTimes(pushed[b], pushed[a]) })
		names = names[:r.LastPushed]
	}
	for _, name := range names {
		kept[name] = true
	}
}

func (r *tagRule) isTimely(tag Tag, now time.Time) bool {
	if r.PushedWithin > 0 && !tag.Pushed.IsZero() && now.Sub(tag.Pushed) > r.PushedWithin {
		return false
	}
	return r.PulledWithin <= 0 || !tag.Pulled.IsZero() && now.Sub(tag.Pulled) <= r.PulledWithin
}

// compareTimes orders times. One that nobody knows is after all others, so that its tag is
// kept.
func compareTimes(a, b time.Time) int {
	switch {
	case a.IsZero() && b.IsZero():
		return 0
	case a.IsZero():
		return 1
	case b.IsZero():
		return -1
	}
	return a.Compare(b)
}

// needsPushed reports whether the policy must know when a tag was pushed.
func (p *policy) needsPushed(tag string) bool {
	return slices.ContainsFunc(p.keep, func(r tagRule) bool {
		return (r.PushedWithin > 0 || r.LastPushed > 0) && r.names.Chooses(tag)
	})
}

// literals returns the repositories that the policies which drop tags match, if these have no
// wildcards.
func (s *Selector) literals() (repos []string, all bool) {
	for i := range s.policies {
		p := &s.policies[i]
		if len(p.keep) == 0 {
			continue
		}
		if len(p.patterns) == 0 {
			return nil, false
		}
		for _, pattern := range p.patterns {
			if !pattern.Literal() {
				return nil, false
			}
			repos = append(repos, pattern.Prefix())
		}
	}
	slices.SortFunc(repos, strings.Compare)
	return slices.Compact(repos), true
}
