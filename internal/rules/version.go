package rules

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// version matches a semantic version. Its groups are the three numbers, of which the
// last ones can be missing, and the pre-release. Tags have no plus sign, and
// therefore no build metadata.
var version = regexp.MustCompile(`^v?(0|[1-9][0-9]*)(?:\.(0|[1-9][0-9]*))?(?:\.(0|[1-9][0-9]*))?` +
	`(?:-((?:` + identifier + `)(?:\.(?:` + identifier + `))*))?$`)

const identifier = `0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*`

// IsVersion reports whether a tag is a semantic version (semver.org, 2.0.0), with or
// without a v before it. As is usual for tags, the last one or two of the three
// numbers can be left out, and stand for 0: v1, 1.0 and 1-alpha are versions too.
func IsVersion(tag string) bool { return version.MatchString(tag) }

// CompareVersions orders tags. Semantic versions, as [IsVersion] knows them, are in
// their order and above all other tags; these are in the order of their text, where
// a run of digits counts as a number. Of versions that are equal, the longest is the
// highest.
func CompareVersions(a, b string) int {
	va, vb := version.FindStringSubmatch(a), version.FindStringSubmatch(b)
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

// compareNatural compares runs of digits as numbers, and what is between them as
// text.
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
