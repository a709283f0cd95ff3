package ocicopy

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// Rule says which repositories and tags of a source are mirrored, and where to.
// It can be kept as JSON.
type Rule struct {
	// Repositories is a pattern of repository names: elements joined by slashes,
	// in which * stands for any characters. An element ** stands for any number
	// of elements; at the end, for one or more. A slash at the end is short for
	// /**, so that fold/ is all that is below fold. A slash at the beginning says
	// nothing.
	Repositories string `json:"repositories"`

	// Destination is put before the name of the repository, with a slash
	// between. Empty and / are nothing.
	Destination string `json:"destination,omitempty"`

	// Strip takes from the name the elements that the pattern begins with, up to
	// the first with a wildcard.
	Strip bool `json:"strip,omitempty"`

	// Tags chooses tags. Those made of the digest of what they are about, as
	// cosign makes them, are never chosen: they belong to images.
	Tags TagRule `json:"tags,omitzero"`

	// Platforms are those to mirror, in the form of [ParsePlatform]. None is all.
	Platforms []string `json:"platforms,omitempty"`

	// DropOthers makes new indexes, of other digests, without the other platforms:
	// see the field of [Options]. It needs Platforms.
	DropOthers bool `json:"dropOthers,omitempty"`

	// OnlySigned leaves out images that have none of SignatureTypes: see
	// [Signed].
	OnlySigned     bool     `json:"onlySigned,omitempty"`
	SignatureTypes []string `json:"signatureTypes,omitempty"`

	// WithoutReferrers leaves out the referrers of images and the tags of
	// cosign, which otherwise come with them.
	WithoutReferrers bool `json:"withoutReferrers,omitempty"`

	// SkipBrokenReferrers mirrors images without those of their referrers that the
	// source cannot give in full: see the field of [Options]. Where that may pass, it
	// is tried again before, as often as anything that fails in a pass. What is left
	// out is looked for again in each pass, and counted as Incomplete in its
	// [Summary]. With OnlySigned, an image that is new needs one signature that is
	// whole. That the source lists one is enough where none is copied: for an index that
	// DropOthers replaces, and with WithoutReferrers. So it is where ReferrerTypes says
	// what a mirror copies.
	SkipBrokenReferrers bool `json:"skipBrokenReferrers,omitempty"`

	// Delete deletes tags at the destination that the rule chooses, whatever
	// Newest says, and that the source does not have. Where rules of several
	// sources lead to one repository, a tag stays as long as one of them has it.
	Delete bool `json:"delete,omitempty"`
}

// TagRule says which tags of a repository are mirrored: those for which all of
// it holds.
type TagRule struct {
	// Match is a regular expression (package regexp) that matches a part of the
	// tag. Empty matches all.
	Match string `json:"match,omitempty"`

	// SemVer chooses semantic versions (semver.org, 2.0.0), with or without a v
	// before them. As is usual for tags, the last one or two of the three numbers
	// can be left out, and stand for 0: v1, 1.0 and 1-alpine are versions too.
	SemVer bool `json:"semver,omitempty"`

	// Newest is how many of the tags are mirrored, if it is not zero: those of
	// the highest versions. Semantic versions, as above, are in their order and
	// above all others; these are in the order of their text, where a run of digits
	// counts as a number. Of versions that are equal, the longest is the highest.
	Newest int `json:"newest,omitempty"`
}

// Selector is a [Rule] that has been checked. Its methods can be called from
// several goroutines at once.
type Selector struct {
	rule      Rule
	pattern   *regexp.Regexp
	literal   bool   // the pattern has no wildcard
	lead      string // the elements before the first wildcard
	dst       string
	match     *regexp.Regexp
	platforms []ocispec.Platform
}

// NewSelector checks a rule. The error says what is wrong with it.
func NewSelector(rule Rule) (*Selector, error) {
	s := &Selector{rule: rule, dst: strings.Trim(rule.Destination, "/")}
	if err := s.setPattern(rule.Repositories); err != nil {
		return nil, err
	}
	var err error
	if s.match, err = regexp.Compile(rule.Tags.Match); err != nil {
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
	case rule.Tags.Newest < 0:
		return nil, errors.New("tags: newest is negative")
	case s.dst != "" && !ociref.IsValidRepository(s.dst):
		return nil, fmt.Errorf("destination %q is no repository name", rule.Destination)
	case s.dst == "" && rule.Strip && s.literal:
		return nil, errors.New("without a destination, strip leaves nothing of the name")
	}
	return s, nil
}

func (s *Selector) setPattern(pattern string) error {
	pattern = strings.TrimPrefix(pattern, "/")
	if strings.HasSuffix(pattern, "/") {
		pattern += "**"
	}
	// A wildcard stands for what a name can have, such as an a.
	if !ociref.IsValidRepository(strings.ReplaceAll(pattern, "*", "a")) {
		return fmt.Errorf("repositories: %q is no pattern of repository names", s.rule.Repositories)
	}
	elements := strings.Split(pattern, "/")
	var expr strings.Builder
	for i, element := range elements {
		last := i == len(elements)-1
		switch {
		case element == "**" && last:
			expr.WriteString(".+")
		case element == "**":
			expr.WriteString("(?:[^/]+/)*")
		case strings.Contains(element, "**"):
			return fmt.Errorf("repositories: %q has a ** that is no element of its own", s.rule.Repositories)
		default:
			expr.WriteString(strings.ReplaceAll(regexp.QuoteMeta(element), `\*`, "[^/]*"))
			if !last {
				expr.WriteString("/")
			}
		}
	}
	wild := slices.IndexFunc(elements, func(e string) bool { return strings.Contains(e, "*") })
	s.literal = wild < 0
	if s.literal {
		wild = len(elements)
	}
	s.lead = strings.Join(elements[:wild], "/")
	s.pattern = regexp.MustCompile("^(?:" + expr.String() + ")$")
	return nil
}

// Destination returns the repository that a repository of the source is mirrored
// to, and whether it is.
func (s *Selector) Destination(repo string) (dst string, ok bool) {
	if !s.pattern.MatchString(repo) {
		return "", false
	}
	if s.rule.Strip {
		repo = strings.TrimPrefix(strings.TrimPrefix(repo, s.lead), "/")
	}
	return join(s.dst, repo), true
}

// Source is the inverse of Destination: it returns the repository of the source
// that is mirrored to dst, and whether there can be one.
func (s *Selector) Source(dst string) (repo string, ok bool) {
	repo, ok = strings.CutPrefix(dst, s.dst)
	if s.dst != "" && repo != "" {
		if repo, ok = strings.CutPrefix(repo, "/"); !ok {
			return "", false
		}
	}
	if s.rule.Strip {
		repo = join(s.lead, repo)
	}
	if back, matches := s.Destination(repo); !ok || !matches || back != dst {
		return "", false
	}
	return repo, true
}

// join joins two names, either of which may be empty.
func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "/" + b
}
