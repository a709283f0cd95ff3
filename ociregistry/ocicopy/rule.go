package ocicopy

import (
	"errors"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/rules"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// Rule says which repositories and tags of a source are mirrored, and where to.
// It can be kept as JSON.
type Rule struct {
	// Repositories is a pattern of repository names: elements joined by slashes,
	// in which * stands for any characters. An element ** stands for any number
	// of elements; at the end, for one or more. A slash at the end is short for
	// /**: fold/ matches everything below fold. A slash at the beginning is ignored.
	Repositories string `json:"repositories"`

	// Destination is a prefix for the name at the destination, joined by a slash. Empty
	// and / mean no prefix.
	Destination string `json:"destination,omitempty"`

	// Strip removes from the name the elements of the pattern before the first with a
	// wildcard.
	Strip bool `json:"strip,omitempty"`

	// Tags chooses tags. It never chooses tags that are made of a digest, as cosign
	// makes them: they belong to images.
	Tags TagRule `json:"tags,omitzero"`

	// Platforms are the platforms to mirror, in the form of [ParsePlatform]. Empty
	// means all of them.
	Platforms []string `json:"platforms,omitempty"`

	// DropOthers replaces indexes by new ones without the other platforms: see the
	// field of [Options]. It requires Platforms.
	DropOthers bool `json:"dropOthers,omitempty"`

	// OnlySigned skips images without a signature of one of SignatureTypes: see
	// [Signed].
	OnlySigned     bool     `json:"onlySigned,omitempty"`
	SignatureTypes []string `json:"signatureTypes,omitempty"`

	// WithoutReferrers copies images without their referrers and cosign's tags.
	WithoutReferrers bool `json:"withoutReferrers,omitempty"`

	// SkipBrokenReferrers skips referrers that the source cannot deliver in full: see
	// the field of [Options]. Temporary errors are retried first, like other failures in
	// a pass. Each pass tries skipped referrers again, and counts their images as
	// Incomplete in its [Summary].
	//
	// With OnlySigned, an image that is new must have a signature that can be copied. It
	// is enough that the source lists a signature where none is copied: for an index
	// that DropOthers replaces, and with WithoutReferrers. The same applies if the
	// mirror's Copy options have ReferrerTypes.
	SkipBrokenReferrers bool `json:"skipBrokenReferrers,omitempty"`

	// Delete deletes tags at the destination that the source does not have, if the rule
	// chooses them without regard to Newest. If rules of several sources lead to one
	// repository, a tag stays as long as one of the sources has it.
	Delete bool `json:"delete,omitempty"`
}

// TagRule says which tags of a repository are mirrored: those that satisfy all of its
// fields.
type TagRule struct {
	// Match is a regular expression (package regexp) that must match a part of the
	// tag. Empty matches all tags.
	Match string `json:"match,omitempty"`

	// SemVer chooses semantic versions (semver.org, 2.0.0), with or without a leading
	// v. As is usual for tags, the last one or two of the three numbers may be
	// missing, and count as 0: v1, 1.0 and 1-alpine are versions too.
	SemVer bool `json:"semver,omitempty"`

	// Newest is the maximum number of tags: those with the highest versions. Zero means
	// no limit. Semantic versions, as above, are higher than all other tags, and have
	// their own order. Other tags are compared as text in which runs of digits are
	// numbers. Of equal versions, the longest is the highest.
	Newest int `json:"newest,omitempty"`
}

// Selector is a [Rule] that has been checked. It is safe for concurrent use.
type Selector struct {
	rule      Rule
	pattern   *rules.Pattern
	tags      *rules.Tags
	dst       string
	platforms []ocispec.Platform
}

// NewSelector checks a rule. The error says what is wrong with the rule.
func NewSelector(rule Rule) (*Selector, error) {
	s := &Selector{rule: rule, dst: strings.Trim(rule.Destination, "/")}
	var err error
	if s.pattern, err = rules.ParsePattern(rule.Repositories); err != nil {
		return nil, fmt.Errorf("repositories: %w", err)
	}
	if s.tags, err = rules.NewTags(rules.TagRule(rule.Tags)); err != nil {
		return nil, fmt.Errorf("tags: %w", err)
	}
	for _, text := range rule.Platforms {
		p, err := ParsePlatform(text)
		if err != nil {
			return nil, err
		}
		s.platforms = append(s.platforms, p)
	}
	switch {
	case rule.DropOthers && len(rule.Platforms) == 0:
		return nil, errors.New("dropOthers needs platforms")
	case s.dst != "" && !ociref.IsValidRepository(s.dst):
		return nil, fmt.Errorf("destination %q is not a repository name", rule.Destination)
	case s.dst == "" && rule.Strip && s.pattern.Literal():
		return nil, errors.New("without a destination, strip leaves nothing of the name")
	}
	return s, nil
}

// Destination returns the repository to which a repository of the source is mirrored,
// and whether the rule applies to it.
func (s *Selector) Destination(repo string) (dst string, ok bool) {
	if !s.pattern.Match(repo) {
		return "", false
	}
	if s.rule.Strip {
		repo = strings.TrimPrefix(strings.TrimPrefix(repo, s.pattern.Prefix()), "/")
	}
	return join(s.dst, repo), true
}

// Source is the inverse of Destination. It returns the repository of the source that is
// mirrored to dst, and whether there can be one.
func (s *Selector) Source(dst string) (repo string, ok bool) {
	repo, ok = strings.CutPrefix(dst, s.dst)
	if s.dst != "" && repo != "" {
		if repo, ok = strings.CutPrefix(repo, "/"); !ok {
			return "", false
		}
	}
	if s.rule.Strip {
		repo = join(s.pattern.Prefix(), repo)
	}
	if back, matches := s.Destination(repo); !ok || !matches || back != dst {
		return "", false
	}
	return repo, true
}

// ChoosesTag reports whether the rule chooses a tag, without regard to Newest.
func (s *Selector) ChoosesTag(tag string) bool { return s.tags.Chooses(tag) }

// ChooseTags returns the tags that the rule chooses from the tags of a repository, the
// highest version first.
func (s *Selector) ChooseTags(tags []string) []string { return s.tags.Choose(tags) }

// brings reports whether the rule may have mirrored a tag, for itself or with an image.
func (s *Selector) brings(tag string) bool {
	if s.ChoosesTag(tag) {
		return true
	}
	_, suffix, _ := rules.Subject(tag)
	return suffix != "" && !s.rule.WithoutReferrers
}

// join joins two names, either of which may be empty.
func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "/" + b
}
