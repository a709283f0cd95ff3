package ocicopy

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// ChoosesTag reports whether the rule chooses a tag, if not for Newest.
func (s *Selector) ChoosesTag(tag string) bool {
	about, _ := aboutDigest(tag)
	return !about && s.match.MatchString(tag) && (!s.rule.Tags.SemVer || semver.MatchString(tag))
}

// brings reports whether a tag may have been mirrored by the rule, as an image or
// with one.
func (s *Selector) brings(tag string) bool {
	_, cosign := aboutDigest(tag)
	return s.ChoosesTag(tag) || cosign && !s.rule.WithoutReferrers
}

// ChooseTags returns those of the tags of a repository that the rule chooses, the
// highest version first.
func (s *Selector) ChooseTags(tags []string) []string {
	var chosen []string
	for _, tag := range tags {
		if s.ChoosesTag(tag) {
			chosen = append(chosen, tag)
		}
	}
	slices.SortFunc(chosen, func(a, b string) int { return compareVersions(b, a) })
	if n := s.rule.Tags.Newest; n > 0 && n < len(chosen) {
		chosen = chosen[:n]
	}
	return chosen
}

// semver has the three numbers, of which the last ones can be missing, and the
// pre-release of a semantic version. Tags have no plus, and so no build metadata.
var semver = regexp.MustCompile(`^v?(0|[1-9][0-9]*)(?:\.(0|[1-9][0-9]*))?(?:\.(0|[1-9][0-9]*))?` +
	`(?:-((?:` + identifier + `)(?:\.(?:` + identifier + `))*))?$`)

const identifier = `0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*`

// compareVersions orders tags as [TagRule] says.
func compareVersions(a, b string) int {
	va, vb := semver.FindStringSubmatch(a), semver.FindStringSubmatch(b)
	switch {
	case va == nil && vb == nil:
		return cmp.Or(compareNatural(a, b), strings.Compare(a, b))
	case va == nil:
		return -1
	case vb == nil:
		return 1
	}
	for i := 1; i <= 3; i++ {
		if c := compareNumbers(va[i], vb[i]); c != 0 {
			return c
		}
	}
	return cmp.Or(comparePreReleases(va[4], vb[4]), cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// comparePreReleases follows section 11 of the specification: a version is above
// its pre-releases, and numbers are below other identifiers.
func comparePreReleases(a, b string) int {
	if a == "" || b == "" {
		return cmp.Compare(len(b), len(a))
	}
	return slices.CompareFunc(strings.Split(a, "."), strings.Split(b, "."), func(a, b string) int {
		na, nb := isNumber(a), isNumber(b)
		switch {
		case na && nb:
			return compareNumbers(a, b)
		case na:
			return -1
		case nb:
			return 1
		}
		return strings.Compare(a, b)
	})
}

// compareNatural compares by runs of digits and of others.
func compareNatural(a, b string) int {
	return slices.CompareFunc(runs.FindAllString(a, -1), runs.FindAllString(b, -1), func(a, b string) int {
		if isNumber(a) && isNumber(b) {
			return compareNumbers(a, b)
		}
		return strings.Compare(a, b)
	})
}

var runs = regexp.MustCompile(`[0-9]+|[^0-9]+`)

func isNumber(s string) bool { return strings.Trim(s, "0123456789") == "" }

// compareNumbers compares decimal numbers of any length.
func compareNumbers(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}
