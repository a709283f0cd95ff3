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

// The reasons why a mirror leaves out an image. Both are errors that are also
// [ociregistry.ErrDenied].
var (
	ErrUnsigned = errors.New("the image has no signature of the types that are asked for")
	ErrRefused  = errors.New("the image was refused by validation")
)

// Source is a registry to mirror from.
type Source struct {
	Name     string // stands in reports and errors; not empty
	Registry ociregistry.Interface

	// Rules choose repositories. For each repository the first that matches
	// counts. The registry's repositories are listed only if there are rules
	// with wildcards.
	Rules []Rule

	// Stall is how long a pass waits for the source: for the answer to a call, and
	// for each next part of a list or a blob. Then what was asked for has failed,
	// with [ErrStalled]. Zero stands for DefaultStall; negative for no bound. See the
	// package documentation.
	//
	// When calls of one method have stalled three times in a row, further ones fail
	// with ErrStalled at once, until what failed is tried again or the next pass
	// begins. Those that stall at the same time count once, and an answer that came
	// in full begins the count anew. So a source that stalls costs a pass no more
	// than about three times Stall for each method, and as much for each of Retries,
	// however many images it has.
	Stall time.Duration
}

// MirrorOptions has the settings of a [Mirror].
type MirrorOptions struct {
	// Interval is the time from the start of one pass of Run over a source to the
	// start of the next. A pass that takes longer is followed by the next at once.
	// Zero stands for DefaultInterval.
	Interval time.Duration

	// Copy has the settings of each copy. Referrers, CosignTags,
	// SkipBrokenReferrers, Platforms and DropOthers are those of the rules instead.
	// Progress is called by several copies at a time.
	Copy Options

	// Images is how many images of a source, or lists of its tags, are worked on
	// at a time. Zero stands for DefaultImages.
	Images int

	// Retries is how often what failed is tried again in one pass, after
	// everything else. Zero stands for DefaultRetries; negative is never. Errors that
	// will not go away, such as [ociregistry.ErrUnauthorized], wait for the next
	// pass.
	Retries int

	// Backoff is the time before the first retry. It doubles with each, up to
	// MaxBackoff. Zero stands for DefaultBackoff.
	Backoff time.Duration

	// Validate is asked about each image that is new to the destination, if it
	// is not nil. An image for which it returns an error is not copied. It can be
	// called from several goroutines at once.
	Validate func(ctx context.Context, image Image) error

	// Report is told of everything that a pass did, if it is not nil. It is
	// called by one goroutine at a time, which waits for it.
	Report func(Event)

	// Logger is told of changes (Info) and failures (Warn). Nil is silence.
	Logger *slog.Logger
}

// The values that MirrorOptions and Sources have by default.
const (
	DefaultInterval = time.Hour
	DefaultStall    = 5 * time.Minute
	DefaultImages   = 4
	DefaultRetries  = 3
	DefaultBackoff  = time.Second
	MaxBackoff      = time.Minute
)

// Image is an image, or another artifact, at a source.
type Image struct {
	Source     string // its name
	Place      Place  // Ref is the digest
	Tag        string // "" if it is asked for by digest
	Descriptor ociregistry.Descriptor
}

// Mirror keeps a registry up to date with others. Its methods can be called from
// several goroutines at once.
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

// running is a pass over a source in flight. Its results can be read when done is closed.
type running struct {
	done    chan struct{}
	summary Summary
	err     error
}

// NewMirror returns a mirror of sources into dst. It makes no requests.
//
// The error tells every rule that is wrong; then there is no mirror.
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
			problems = append(problems, fmt.Errorf("source %q: a source needs a name of its own", s.Name))
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
	if o.Images <= 0 {
		o.Images = DefaultImages
	}
	if o.Retries == 0 {
		o.Retries = DefaultRetries
	}
	if o.Backoff <= 0 {
		o.Backoff = DefaultBackoff
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Run makes a pass over each source at once and then one at each interval, until
// ctx ends. No source waits for another. Run returns the cause of the end of ctx,
// when all that it started has ended.
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

// Pass looks at all that is to be mirrored once, and copies what differs. It
// returns what it did.
//
// What fails is in the summary; it keeps nothing else from being mirrored, and
// is no error of Pass. The error is the cause of the end of ctx.
//
// There is one pass over a source at a time: a call during another one waits for
// that, and what it did is in both summaries.
func (m *Mirror) Pass(ctx context.Context) (Summary, error) {
	summaries := make([]Summary, len(m.sources))
	var wait sync.WaitGroup
	for i, src := range m.sources {
		wait.Go(func() { summaries[i] = m.passOver(ctx, src) })
	}
	wait.Wait()
	var sum Summary
	for _, s := range summaries {
		sum.join(s)
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
			src.leave(r)
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
		// Its caller left. This one did not.
	}
}

// join returns the pass in flight, or else a new one, which is the caller's to
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

func (s *source) leave(r *running) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = nil
	close(r.done)
}

// rule returns the rule for a repository of the source, or nil.
func (s *source) rule(repo string) *Selector {
	for _, rule := range s.rules {
		if rule.pattern.MatchString(repo) {
			return rule
		}
	}
	return nil
}
