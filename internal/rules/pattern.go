// Package rules has what mirrors and retention policies say about repositories and
// tags: patterns of names, rules that choose tags, and the order of versions.
package rules

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// Pattern is a pattern of repository names. It is safe for concurrent use.
type Pattern struct {
	expr    *regexp.Regexp
	literal bool
	prefix  string
}

// ParsePattern parses a pattern: elements joined by slashes, in which * stands for
// any characters. An element ** stands for any number of elements; at the end, for
// one or more. A slash at the end is short for /**. A slash at the beginning is
// ignored.
func ParsePattern(s string) (*Pattern, error) {
	pattern := strings.TrimPrefix(s, "/")
	if strings.HasSuffix(pattern, "/") {
		pattern += "**"
	}
	// A wildcard stands for what a name can have, such as an a.
	if !ociref.IsValidRepository(strings.ReplaceAll(pattern, "*", "a")) {
		return nil, fmt.Errorf("%q is not a pattern of repository names", s)
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
			return nil, fmt.Errorf("%q has a ** that is not an element of its own", s)
		default:
			expr.WriteString(strings.ReplaceAll(regexp.QuoteMeta(element), `\*`, "[^/]*"))
			if !last {
				expr.WriteString("/")
			}
		}
	}
	p := &Pattern{expr: regexp.MustCompile("^(?:" + expr.String() + ")$")}
	wild := slices.IndexFunc(elements, func(e string) bool { return strings.Contains(e, "*") })
	if wild < 0 {
		p.literal, wild = true, len(elements)
	}
	p.prefix = strings.Join(elements[:wild], "/")
	return p, nil
}

// Match reports whether p matches all of a repository's name.
func (p *Pattern) Match(repo string) bool { return p.expr.MatchString(repo) }

// Literal reports whether p has no wildcard: it matches its Prefix alone.
func (p *Pattern) Literal() bool { return p.literal }

// Prefix returns the elements before the first with a wildcard. It may be empty.
func (p *Pattern) Prefix() string { return p.prefix }
