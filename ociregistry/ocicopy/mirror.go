package ocicopy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// The reasons why a mirror does not copy an image. Errors that wrap them also wrap
// [ociregistry.ErrDenied].
var (
	// ErrUnsigned is the error for an image without a signature where the rule has
	// OnlySigned.
	ErrUnsigned = errors.New("the image has no signature of the required types")

	// ErrRefused is the error for an image for which Validate returned an error.
	ErrRefused = errors.New("the image was refused by validation")
)

// Source is a registry to mirror from.
type Source struct {
	Name     string // identifies the source in reports and errors; must not be empty
	Registry ociregistry.Interface

	// Rules choose repositories. The first rule that matches a repository applies to
	// it. The repositories of the registry are listed only if a rule has wildcards.
	Rules []Rule

	// Stall is how long a pass waits for the source: for the answer to a call, and
	// for each next part of a list or a blob. After that, the call fails with
	// [ErrStalled]. Zero means DefaultStall. A negative value means no limit. See the
	// package documentation.
	//
	// When calls of one method have stalled three times in a row, further calls fail
	// with ErrStalled at once, until the next attempt at what failed or the next pass.
	// Calls that stall at the same time count once, and a complete answer resets the
	// count. A source that stalls therefore costs a pass no more than about three
	// times Stall for each method and each of the Attempts, however many images it has.
	Stall time.Duration
}

// MirrorOptions has the settings of a [Mirror].
type MirrorOptions struct {
	// Interval is the time from the start of one pass of Run over a source to the
	// start of the next. A pass that takes longer is followed by the next at once.
	// Zero means DefaultInterval.
	Interval time.Duration

	// Copy has the settings of each copy. The rules replace Referrers, CosignTags,
	// SkipBrokenReferrers, Platforms and DropOthers. Several copies call Progress at
	// the same time.
	Copy Options

	// ImageConcurrency is the maximum number of images of a source, or lists of its
	// tags, that are worked on at the same time. The Concurrency of Copy bounds the
	// requests for each of them. Zero means DefaultImageConcurrency.
	ImageConcurrency int

	// Attempts is the maximum number of consecutive attempts at each image or list in
	// one pass. Failures are retried after everything else. Permanent errors, such as
	// [ociregistry.ErrUnauthorized], are left to the next pass.
	// Zero means DefaultAttempts. A negative value means a single attempt.
	Attempts int

	// Backoff is the time before the second attempt. It doubles with each further one,
	// up to MaxBackoff. Zero means DefaultBackoff.
	Backoff time.Duration

	// Validate, if not nil, is called for each image that is new to the destination.
	// An image for which it returns an error is not copied. It must be safe for
	// concurrent use.
	Validate func(ctx context.Context, image Image) error

	// Report, if not nil, receives everything that a pass did. It is called by one
	// goroutine at a time, which waits for it.
	Report func(Event)

	// Logger receives changes at level Info and failures at level Warn. Nil means no
	// logging.
	Logger *slog.Logger
}

// The defaults of [MirrorOptions] and [Source], and MaxBackoff, the maximum time between
// two attempts.
const (
	DefaultInterval         = time.Hour
	DefaultStall            = 5 * time.Minute
	DefaultImageConcurrency = 4
	DefaultAttempts         = 4
	DefaultBackoff          = time.Second
	MaxBackoff              = time.Minute
)

// Image is an image, or another artifact, at a source.
type Image struct {
	Source     string // its name
	Place      Place  // Ref is the digest
	Tag        string // "" if it was asked for by digest
	Descriptor ociregistry.Descriptor
}

// Mirror keeps a registry up to date with others. It is safe for concurrent use.
type Mirror struct {
	dst     ociregistry.Interface
	sources []*source
	opts    MirrorOptions // with the defaults filled in
	shared  *shared

	reporting sync.Mutex
}

// source is a Source with its rules checked.
type source struct {
	Source
	rules []*Selector
	reg   *patient // the registry

	mu      sync.Mutex
	current *running // the pass that is in flight, or nil
}

// running is a pass in flight. Its results can be read when done is closed.
type running struct {
	done    chan struct{}
	summary Summary
	err     error
}

// NewMirror returns a mirror of sources into dst. It makes no requests. Nil opts mean
// the zero MirrorOptions.
//
// If rules are invalid, the mirror is nil and the error describes each of them.
func NewMirror(dst ociregistry.Interface, sources []Source, opts *MirrorOptions) (*Mirror, error) {
	m := &Mirror{dst: dst, shared: newShared()}
	if opts != nil {
		m.opts = *opts
	}
	m.opts.setDefaults()
	var problems []error
	names := make(map[string]bool)
	for _, s := range sources {
		if s.Name == "" || names[s.Name] {
			problems = append(problems, fmt.Errorf("source %q: the name is empty or not unique", s.Name))
		}
		names[s.Name] = true
		switch {
		case s.Stall == 0:
			s.Stall = DefaultStall
		case s.Stall < 0:
			s.Stall = math.MaxInt64
		}
		checked := &source{Source: s, reg: &patient{reg: s.Registry, bound: s.Stall}}
		for i, rule := range s.Rules {
			selector, err := NewSelector(rule)
			if err != nil {
				problems = append(problems, fmt.Errorf("source %q, rule %d: %w", s.Name, i+1, err))
			}
			checked.rules = append(checked.rules, selector)
		}
		m.sources = append(m.sources, checked)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return m, nil
}

func (o *MirrorOptions) setDefaults() {
	if o.Interval <= 0 {
		o.Interval = DefaultInterval
	}
	if o.ImageConcurrency <= 0 {
		o.ImageConcurrency = DefaultImageConcurrency
	}
	if o.Attempts == 0 {
		o.Attempts = DefaultAttempts
	}
	if o.Backoff <= 0 {
		o.Backoff = DefaultBackoff
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Run makes a pass over each source at once, and then one after each interval, until
// ctx ends. Sources do not wait for each other. Run returns the cause of the end of
// ctx, when everything that it started has ended.
func (m *Mirror) Run(ctx context.Context) error {
	var wait sync.WaitGroup
	for _, src := range m.sources {
		wait.Go(func() { m.run(ctx, src) })
	}
	<-ctx.Done()
	wait.Wait()
	return context.Cause(ctx)
}

func (m *Mirror) run(ctx context.Context, src *source) {
	ticker := time.NewTicker(m.opts.Interval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		m.passOver(ctx, src)
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// Pass makes one pass over each source: it copies what differs, and returns what it
// did.
//
// Failures are in the summary. They do not affect other images, and are not errors of
// Pass. The error is the cause of the end of ctx.
//
// There is one pass over a source at a time. A call during a pass waits for that pass,
// and both calls return its result.
func (m *Mirror) Pass(ctx context.Context) (Summary, error) {
	summaries := make([]Summary, len(m.sources))
	var wait sync.WaitGroup
	for i, src := range m.sources {
		wait.Go(func() { summaries[i] = m.passOver(ctx, src) })
	}
	wait.Wait()
	var sum Summary
	for _, s := range summaries {
		sum.merge(s)
	}
	return sum, context.Cause(ctx)
}

// passOver makes a pass over a source, or waits for the one in flight.
func (m *Mirror) passOver(ctx context.Context, src *source) Summary {
	for {
		r, mine := src.join()
		if mine {
			p := &pass{Mirror: m, src: src, queued: make(map[string]bool)}
			p.run(ctx)
			r.summary, r.err = p.summary, context.Cause(ctx)
			src.finish(r)
			return r.summary
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return Summary{}
		}
		if r.err == nil {
			return r.summary
		}
		// The caller that ran the pass has left. This one has not.
	}
}

// join returns the pass in flight or, if there is none, a new one that the caller must
// run.
func (s *source) join() (r *running, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		return s.current, false
	}
	s.current = &running{done: make(chan struct{})}
	return s.current, true
}

func (s *source) finish(r *running) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = nil
	close(r.done)
}

// rule returns the rule for a repository of the source, or nil.
func (s *source) rule(repo string) *Selector {
	for _, rule := range s.rules {
		if rule.pattern.Match(repo) {
			return rule
		}
	}
	return nil
}
