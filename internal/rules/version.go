package rules

import (
	"cmp"
	"strings"
)

// Version is a tag that was parsed to be compared. It is small, since lists can be long.
type Version struct {
	tag  string
	ends [3]int32 // where the numbers end in tag; those that are left out end at 0
	pre  int32    // where the pre-release begins; 0 if there is none
	is   bool     // it is a semantic version
}

// ParseVersion parses a tag, which need not be a version. Tags have no plus sign, and
// therefore no build metadata.
func ParseVersion(tag string) Version {
	v := Version{tag: tag}
	at := start(tag)
	for i := range v.ends {
		if i > 0 {
			if at == len(tag) || tag[at] != '.' {
				break
			}
			at++
		}
		n := digits(tag[at:])
		if n == 0 || n > 1 && tag[at] == '0' {
			return v
		}
		at += n
		v.ends[i] = int32(at)
	}
	if at == len(tag) {
		v.is = true
	} else if tag[at] == '-' && isPreRelease(tag[at+1:]) {
		v.is, v.pre = true, int32(at+1)
	}
	return v
}

// start returns where the first number begins.
func start(tag string) int {
	if strings.HasPrefix(tag, "v") {
		return 1
	}
	return 0
}

// number returns the i-th number, or "" if it is left out.
func (v *Version) number(i int) string {
	switch {
	case v.ends[i] == 0:
		return ""
	case i == 0:
		return v.tag[start(v.tag):v.ends[0]]
	}
	return v.tag[v.ends[i-1]+1 : v.ends[i]]
}

// preRelease returns the pre-release, or "" if there is none.
func (v *Version) preRelease() string {
	if v.pre == 0 {
		return ""
	}
	return v.tag[v.pre:]
}

// String returns the tag.
func (v Version) String() string { return v.tag }

// maxKey is the number in a key that stands for all that are as large or larger.
const maxKey = 1<<20 - 1

// Key returns a number below 1<<62 by which most versions can be compared: of two with
// different keys, that with the larger one is the higher.
func (v Version) Key() uint64 {
	if !v.is {
		return v.textKey()
	}
	key, large := uint64(1), false
	for i := range v.ends {
		n := uint64(0)
		if !large { // what follows a large number does not count
			for _, c := range []byte(v.number(i)) {
				n = min(10*n+uint64(c-'0'), maxKey)
			}
		}
		large = large || n == maxKey
		key = key<<20 | n
	}
	return key
}

// textKey returns the first seven bytes up to a number. All numbers at the beginning are alike.
func (v Version) textKey() (key uint64) {
	first := v.tag
	if i := strings.IndexAny(first, "0123456789"); i == 0 {
		first = "0"
	} else if i > 0 {
		first = first[:i]
	}
	for i := range 7 {
		key <<= 8
		if i < len(first) {
			key |= uint64(first[i])
		}
	}
	return key
}

// Compare is [CompareVersions] for tags that are parsed.
func (v Version) Compare(w Version) int {
	switch {
	case !v.is && !w.is:
		return cmp.Or(compareNatural(v.tag, w.tag), strings.Compare(v.tag, w.tag))
	case !v.is:
		return -1
	case !w.is:
		return 1
	}
	for i := range v.ends {
		if c := compareNumbers(v.number(i), w.number(i)); c != 0 {
			return c
		}
	}
	return cmp.Or(comparePreReleases(v.preRelease(), w.preRelease()), cmp.Compare(len(v.tag), len(w.tag)), strings.Compare(v.tag, w.tag))
}

// IsVersion reports whether a tag is a semantic version (semver.org, 2.0.0), with or
// without a v before it. As is usual for tags, the last one or two of the three
// numbers can be left out, and stand for 0: v1, 1.0 and 1-alpha are versions too.
func IsVersion(tag string) bool { return ParseVersion(tag).is }

// CompareVersions orders tags. Semantic versions, as [IsVersion] knows them, are in
// their order and above all other tags; these are in the order of their text, where
// a run of digits counts as a number. Of versions that are equal, the longest is the
// highest.
func CompareVersions(a, b string) int { return ParseVersion(a).Compare(ParseVersion(b)) }

// isPreRelease reports whether s is a list of identifiers with dots between them: numbers
// without leading zeros, and words of letters, digits and hyphens.
func isPreRelease(s string) bool {
	for id := range strings.SplitSeq(s, ".") {
		if id == "" || isNumber(id) && len(id) > 1 && id[0] == '0' {
			return false
		}
		for i := range len(id) {
			c := id[i]
			if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
				return false
			}
		}
	}
	return true
}

// comparePreReleases follows section 11 of the specification: a version is above
// its pre-releases, and numbers are below other identifiers.
func comparePreReleases(a, b string) int {
	if a == "" || b == "" {
		return cmp.Compare(len(b), len(a))
	}
	for a != "" && b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		if c := compareIdentifiers(x, y); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b)) // one of them has no more identifiers
}

func compareIdentifiers(a, b string) int {
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
}

// compareNatural compares runs of digits as numbers, and what is between them as
// text.
func compareNatural(a, b string) int {
	for a != "" && b != "" {
		var x, y string
		x, a = cutRun(a)
		y, b = cutRun(b)
		c := strings.Compare(x, y)
		if isNumber(x) && isNumber(y) {
			c = compareNumbers(x, y)
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b)) // one of them has no more runs
}

// cutRun cuts the digits, or all that are not, at the beginning of s.
func cutRun(s string) (run, rest string) {
	n := digits(s)
	if n == 0 {
		if n = strings.IndexAny(s, "0123456789"); n < 0 {
			n = len(s)
		}
	}
	return s[:n], s[n:]
}

// digits returns the number of digits at the beginning of s.
func digits(s string) int {
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return n
}

func isNumber(s string) bool { return digits(s) == len(s) }

// compareNumbers compares decimal numbers of any length.
func compareNumbers(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}
