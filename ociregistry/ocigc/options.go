package ocigc

import (
	"context"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// DefaultDelay is how long garbage stays if [Options] do not say.
const DefaultDelay = time.Hour

// Collector is a registry that collects its own garbage.
type Collector interface {
	ociregistry.Interface

	// GC removes garbage. It can run while the registry is in use, and several calls of
	// it can run at once. Nil opts are the zero Options.
	//
	// A repository that cannot be collected does not keep others from it: it is among
	// the Problems of the report. The error says that opts are wrong, or that ctx has
	// ended. In the latter case the report has what was done before.
	GC(ctx context.Context, opts *Options) (*Report, error)
}

// Options say what to collect. The zero Options collect blobs that no manifest names and
// upload sessions that nobody continues.
type Options struct {
	// Delay is how long garbage stays: see the documentation of the package. Zero means
	// DefaultDelay. A negative value means no delay, and is right only if nobody
	// pushes.
	Delay time.Duration

	// Untagged and Dangling are those of a [Policy] for the repositories that none of
	// Policies matches. Their tags are all kept.
	Untagged, Dangling bool

	// Policies are the policies for repositories. The first that matches a repository
	// holds.
	Policies []Policy

	// DryRun reports what would be removed, and removes nothing.
	DryRun bool

	// Finding, if not nil, is called for each thing that is removed. The Report has then
	// no Findings, of which there may be millions.
	Finding func(Finding)

	// Progress, if not nil, is called after each repository. Calls of Finding and of
	// Progress do not overlap.
	Progress func(Progress)

	// Now returns the time. Nil means [time.Now].
	Now func() time.Time
}

// Policy says what is kept in the repositories that it matches.
type Policy struct {
	// Repositories are patterns of repository names, of which one must match: elements
	// joined by slashes, in which * stands for any characters. An element ** stands for
	// any number of elements; at the end, for one or more. A slash at the end is short
	// for /**. A slash at the beginning is ignored. Empty matches all repositories.
	Repositories []string

	// Untagged removes manifests without a subject that no tag, index or manifest keeps.
	// UntaggedDelay is how long they stay. Zero means the Delay of the Options. A
	// negative value means no delay.
	Untagged      bool
	UntaggedDelay time.Duration

	// Dangling removes referrers, tagged or not, whose subject is not in the repository.
	// DanglingDelay is how long they stay. Zero means the Delay of the Options. A
	// negative value means no delay.
	//
	// A repository that has the signatures of images in another one needs a policy
	// without Dangling.
	Dangling      bool
	DanglingDelay time.Duration

	// Keep are rules, of which one must hold for a tag to be kept. Empty keeps all tags.
	// The other tags are deleted, and the delay of their manifests counts from then.
	//
	// Tags whose names are made of a digest, as cosign makes them, are kept whatever the
	// rules say: they belong to other manifests, and Dangling removes them.
	Keep []TagRule
}

// TagRule says which tags of a repository are kept: those that satisfy all of its fields.
type TagRule struct {
	// Match is a regular expression (package regexp) that must match a part of the tag.
	// Empty matches all tags.
	Match string

	// SemVer chooses semantic versions (semver.org, 2.0.0), with or without a leading v.
	// As is usual for tags, the last one or two of the three numbers may be missing, and
	// count as 0.
	SemVer bool

	// PushedWithin chooses tags that were pushed within this time, or of which nobody
	// knows when they were. Zero or less means any time.
	PushedWithin time.Duration

	// PulledWithin chooses tags whose manifest was pulled within this time, by the tag
	// or by its digest. Requests without a body are no pulls, nor are inspections (see
	// [ociregistry.WithInspection]). Zero or less means any time.
	PulledWithin time.Duration

	// Newest is the maximum number of tags: those with the highest versions, of the tags
	// for which the fields above hold. Semantic versions are higher than all other tags,
	// and have their own order. Other tags are compared as text in which runs of digits
	// are numbers. Zero means no limit.
	Newest int

	// LastPushed is the maximum number of tags: those that were pushed last, of the
	// tags for which the fields above hold. Zero means no limit.
	LastPushed int
}

// Tag is a tag of a repository, for [Selector.Dropped].
type Tag struct {
	Name   string
	Pushed time.Time // when it was last set; zero if nobody knows
	Pulled time.Time // when its manifest was last pulled; zero if it never was
}
