package ocicopy

import (
	"context"
	"errors"
	"log/slog"
)

// Outcome is the result of a part of a pass.
type Outcome string

// The outcomes.
const (
	Updated  Outcome = "updated"  // something was copied
	Same     Outcome = "same"     // the destination had everything
	Deleted  Outcome = "deleted"  // the tag was deleted, because the source no longer has it
	Unsigned Outcome = "unsigned" // not copied: ErrUnsigned
	Refused  Outcome = "refused"  // not copied: ErrRefused
	Retried  Outcome = "retried"  // failed, and will be retried in this pass
	Failed   Outcome = "failed"   // failed for the last time in this pass
)

// Event is the outcome for an image, for the list of a repository's tags (Tag is empty)
// or for the list of a source's repositories (Repository is empty too).
type Event struct {
	Source          string
	Repository, Tag string
	Destination     string // the repository at the destination

	Outcome Outcome
	Attempt int    // starts at 1
	Result  Result // of the copy, if there was one
	Err     error  // why it failed or was not copied
}

// Summary is the result of a pass: the number of tags with each outcome.
type Summary struct {
	Updated, Same, Deleted, Unsigned, Refused int

	// Incomplete is the number of Updated and Same images that lack some of their
	// referrers: see the Missing field of [Result].
	Incomplete int

	// Failures are the events with the outcome Failed.
	Failures []Event
}

// add counts an event. Those with the outcome Retried are followed by another one.
func (s *Summary) add(e Event) {
	if len(e.Result.Missing) > 0 && (e.Outcome == Updated || e.Outcome == Same) {
		s.Incomplete++
	}
	switch e.Outcome {
	case Updated:
		s.Updated++
	case Same:
		s.Same++
	case Deleted:
		s.Deleted++
	case Unsigned:
		s.Unsigned++
	case Refused:
		s.Refused++
	case Failed:
		s.Failures = append(s.Failures, e)
	}
}

// merge adds the result of another pass.
func (s *Summary) merge(other Summary) {
	s.Updated += other.Updated
	s.Same += other.Same
	s.Deleted += other.Deleted
	s.Unsigned += other.Unsigned
	s.Refused += other.Refused
	s.Incomplete += other.Incomplete
	s.Failures = append(s.Failures, other.Failures...)
}

// report counts an event, calls Report and logs.
func (m *Mirror) report(ctx context.Context, into *Summary, e Event) {
	m.reporting.Lock()
	defer m.reporting.Unlock()
	into.add(e)
	if m.opts.Report != nil {
		m.opts.Report(e)
	}
	level := slog.LevelInfo
	switch {
	case e.Err != nil, len(e.Result.Missing) > 0:
		level = slog.LevelWarn
	case e.Outcome == Same:
		level = slog.LevelDebug
	}
	m.opts.Logger.LogAttrs(ctx, level, "mirror", e.attrs()...)
}

func (e Event) attrs() []slog.Attr {
	attrs := []slog.Attr{slog.String("outcome", string(e.Outcome)), slog.String("source", e.Source)}
	for _, a := range []struct{ key, value string }{
		{"repository", e.Repository},
		{"tag", e.Tag},
		{"destination", e.Destination},
		{"digest", string(e.Result.Descriptor.Digest)},
		{"madeOf", string(e.Result.MadeOf)},
	} {
		if a.value != "" {
			attrs = append(attrs, slog.String(a.key, a.value))
		}
	}
	var errs []error
	for _, missing := range e.Result.Missing {
		errs = append(errs, missing.Err)
	}
	if len(errs) > 0 {
		attrs = append(attrs, slog.Int("missing", len(errs)))
	}
	if err := errors.Join(append(errs, e.Err)...); err != nil {
		attrs = append(attrs, slog.Any("error", err))
	}
	return attrs
}
