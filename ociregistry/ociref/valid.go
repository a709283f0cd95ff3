package ociref

import (
	// A digest that is valid here can be verified: go-digest panics on an
	// algorithm whose hash is not linked into the program.
	_ "crypto/sha256"
	_ "crypto/sha512"
	"strings"
)

const (
	maxRepository = 255 // bytes
	maxTag        = 128 // bytes

	sha256Hex = 64  // hexadecimal digits
	sha512Hex = 128 // hexadecimal digits
)

// IsValidRepository reports whether s is a valid repository name: one or more
// path elements joined by slashes. An element is made of lower-case letters
// and digits, with separators between them: one period, one or two
// underscores, or any number of hyphens. This is the grammar of <name> in the
// OCI distribution specification, "Pulling manifests".
//
// A name is at most 255 bytes long. The specification sets no limit, but notes
// that many clients allow at most 255 characters for host, slash and name
// together. The host is not known here (one registry can have several), so
// this refuses the names that are out of reach for those clients whatever the
// host is. It also keeps each path element within the usual limit of a file
// name.
func IsValidRepository(s string) bool {
	return repositoryProblem(s) == ""
}

// IsValidTag reports whether s is a valid tag: 1 to 128 letters, digits,
// underscores, periods and hyphens, of which the first is neither period nor
// hyphen (OCI distribution specification, "Pulling manifests").
func IsValidTag(s string) bool {
	return tagProblem(s) == ""
}

// IsValidDigest reports whether s is a digest by a supported algorithm:
// "sha256:" and 64, or "sha512:" and 128 lower-case hexadecimal digits
// (OCI image specification, "Digests").
//
// Digests by other algorithms are not valid, even if they match the
// specification's grammar. That goes for sha384 as well, which go-digest
// knows: the specification does not register it, so other programs need not
// be able to read what was stored by it.
//
// A valid digest can be verified: unlike go-digest's own check, this does not
// depend on the hash being linked into the program, because this package
// links it.
func IsValidDigest(s string) bool {
	return digestProblem(s) == ""
}

// The functions below return what is wrong with a name, as a phrase to follow
// it in a message, or "" if it is valid. The phrases are constants, so that no
// check allocates.

func repositoryProblem(name string) string {
	if name == "" {
		return "is empty"
	}
	if len(name) > maxRepository {
		return "is longer than 255 bytes"
	}
	for more := true; more; {
		var elem string
		elem, name, more = strings.Cut(name, "/")
		if problem := elementProblem(elem); problem != "" {
			return problem
		}
	}
	return ""
}

// elementProblem checks one path element of a repository name.
func elementProblem(elem string) string {
	if elem == "" {
		return "has an empty path element"
	}
	i := 0
	for {
		start := i
		for i < len(elem) && (isLower(elem[i]) || isDigit(elem[i])) {
			i++
		}
		if i == start {
			break
		}
		if i == len(elem) {
			return ""
		}
		n := separatorLen(elem[i:])
		if n == 0 {
			break
		}
		i += n
	}
	switch {
	case i == len(elem), separatorLen(elem[i:]) > 0:
		return "needs a lower-case letter or digit before and after each '.', '_', '__' or run of '-'"
	case isUpper(elem[i]):
		return "has an upper-case letter"
	default:
		return "has a character other than a-z, 0-9, '.', '_', '-' and '/'"
	}
}

// separatorLen returns the length of the separator that s begins with, or 0
// if it does not begin with one. The string s is not empty.
func separatorLen(s string) int {
	switch s[0] {
	case '.':
		return 1
	case '_':
		if strings.HasPrefix(s, "__") {
			return 2
		}
		return 1
	case '-':
		n := 1
		for n < len(s) && s[n] == '-' {
			n++
		}
		return n
	}
	return 0
}

func tagProblem(tag string) string {
	if tag == "" {
		return "is empty"
	}
	if len(tag) > maxTag {
		return "is longer than 128 bytes"
	}
	if tag[0] == '.' || tag[0] == '-' {
		return "begins with a period or hyphen"
	}
	for i := range len(tag) {
		if !isTagByte(tag[i]) {
			return "has a character other than letters, digits, '_', '.' and '-'"
		}
	}
	return ""
}

func digestProblem(digest string) string {
	algorithm, encoded, ok := strings.Cut(digest, ":")
	if !ok {
		return "is not of the form algorithm:encoded"
	}
	switch algorithm {
	case "sha256":
		if !isHex(encoded, sha256Hex) {
			return "does not have 64 lower-case hexadecimal digits after its algorithm"
		}
	case "sha512":
		if !isHex(encoded, sha512Hex) {
			return "does not have 128 lower-case hexadecimal digits after its algorithm"
		}
	default:
		return "has an algorithm other than sha256 and sha512"
	}
	return ""
}

// isHex reports whether s consists of n lower-case hexadecimal digits.
func isHex(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for i := range len(s) {
		if !lowerHex[s[i]] {
			return false
		}
	}
	return true
}

// lowerHex has the lower-case hexadecimal digits. Digests are checked often: a
// manifest may name thousands.
var lowerHex = [256]bool{
	'0': true, '1': true, '2': true, '3': true, '4': true, '5': true, '6': true, '7': true, '8': true, '9': true,
	'a': true, 'b': true, 'c': true, 'd': true, 'e': true, 'f': true,
}

// isTagByte reports whether c can be in a tag, after the first character.
func isTagByte(c byte) bool {
	return isLower(c) || isUpper(c) || isDigit(c) || c == '_' || c == '.' || c == '-'
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }
