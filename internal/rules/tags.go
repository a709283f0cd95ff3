package rules

import (
	"errors"
	"regexp"
	"slices"
)

// TagRule chooses tags of a repository: those for which all of it holds. The tags
// that [Subject] knows are never chosen: they belong to other manifests.
type TagRule struct {
	// Match is a regular expression that matches a part of the tag. Empty
	// matches all tags.
	Match string

	// SemVer chooses the tags for which [IsVersion] returns true.
	SemVer bool

	// Newest is the number of tags to choose: those that are the highest by
	// [CompareVersions]. Zero means no limit.
	Newest int
}

// Tags is a [TagRule] that has been checked. It is safe for concurrent use.
type Tags struct {
	rule  TagRule
	match *regexp.Regexp
}

// NewTags checks a rule. The error says what is wrong with it.
func NewTags(rule TagRule) (*Tags, error) {
	match, err := regexp.Compile(rule.Match)
	if err != nil {
		return nil, err
	}
	if rule.Newest < 0 {
		return nil, errors.New("newest is negative")
	}
	return &Tags{rule, match}, nil
}

// Chooses reports whether the rule chooses a tag, without regard to Newest.
func (t *Tags) Chooses(tag string) bool {
	if _, _, ok := Subject(tag); ok {
		return false
	}
	return t.match.MatchString(tag) && (!t.rule.SemVer || IsVersion(tag))
}

// Choose returns those of the tags of a repository that the rule chooses, the
// highest version first.
func (t *Tags) Choose(tags []string) []string {
	var chosen []string
	for _, tag := range tags {
		if t.Chooses(tag) {
			chosen = append(chosen, tag)
		}
	}
	slices.SortFunc(chosen, func(a, b string) int { return CompareVersions(b, a) })
	if n := t.rule.Newest; n > 0 && n < len(chosen) {
		chosen = chosen[:n]
	}
	return chosen
}
