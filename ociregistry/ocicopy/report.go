package ocicopy

import (
	"context"
	"log/slog"
)

// Outcome is what became of a part of a pass.
type Outcome string

// The outcomes.
const (
	Updated  Outcome = "updated"  // something was copied
	Same     Outcome = "same"     // the destination had everything
	Deleted  Outcome = "deleted"  // the tag was gone at the source
	Unsigned Outcome = "unsigned" // left out: ErrUnsigned
	Refused  Outcome = "refused"  // left out: ErrRefused
	Retried  Outcome = "retried"  // it failed, and will be tried again in this pass
	Failed   Outcome = "failed"   // it failed for this pass
)

// Event tells what became of an image, of the list of a repository's tags (Tag is
// empty) or of the list of a source's repositories (Repo is empty too).
type Event struct {
	Source      string
	Repo, Tag   string
	Destination string // the repository there

	Outcome Outcome
	Attempt int    // from 1
	Result  Result // of a copy
	Err     error  // why it failed or was left out
}

// Summary says what a pass did: how many tags had each outcome.
type Summary struct {
	Updated, Same, Deleted, Unsigned, Refused int

	// Incomplete is how many of those that are Updated or Same lack some of their
	// referrers: see the Missing field of [Result].
	Incomplete int

	// Failures are the events with the outcome Failed.
	Failures []Event
}

// add counts an event. Retried ones will be seen again.
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

// join adds what another pass did.
func (s *Summary) join(other Summary) {
	s.Updated += other.Updated
	s.Same += other.Same
	s.Deleted += other.Deleted
	s.Unsigned += other.Unsigned
	s.Refused += other.Refused
	s.Incomplete += other.Incomplete
	s.Failures = append(s.Failures, other.Failures...)
}

// report tells everyone who wants to know, and counts.
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
		{"repo", e.Repo},
		{"tag", e.Tag},
		{"destination", e.Destination},
		{"digest", string(e.Result.Descriptor.Digest)},
		{"made_of", string(e.Result.MadeOf)},
	} {
		if a.value != "" {
			attrs = append(attrs, slog.String(a.key, a.value))
		}
	}
	for _, missing := range e.Result.Missing {
		attrs = append(attrs, slog.Any("missing", missing.Err))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.Any("error", e.Err))
	}
	return attrs
}
