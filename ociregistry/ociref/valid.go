package ociref

import (
	// Link the hashes, so that a valid digest can be verified: go-digest panics on an
	// algorithm whose hash is not linked into the program.
	_ "crypto/sha256"
	_ "crypto/sha512"
	"strings"
)

const (
	maxRepository = 255 // bytes
	maxTag        = 128 // bytes
	maxDigest     = 255 // bytes, far beyond any hash; digests go into headers

	sha256Hex = 64  // hexadecimal digits
	sha512Hex = 128 // hexadecimal digits
)

// IsValidRepository reports whether s is a valid repository name: one or more
// path elements joined by slashes. An element is made of lower-case letters
// and digits, with separators between them: one period, one or two
// underscores, or any number of hyphens. This is the grammar of <name> in the
// OCI distribution specification, "Pulling manifests".
//
// A name is at most 255 bytes long. The specification sets no limit, but notes that many
// clients allow at most 255 characters for host, slash and name together. The host is not
// known here, and one registry can have several. So this limit refuses only the names that
// such clients cannot use with any host. It also keeps each path element within the usual
// limit of file names.
func IsValidRepository(s string) bool {
	return repositoryProblem(s) == ""
}

// IsValidTag reports whether s is a valid tag: 1 to 128 letters, digits,
// underscores, periods and hyphens, of which the first is neither a period nor a hyphen
// (OCI distribution specification, "Pulling manifests").
func IsValidTag(s string) bool {
	return tagProblem(s) == ""
}

// IsValidDigest reports whether s is a digest with a supported algorithm: "sha256:" and 64,
// or "sha512:" and 128 lower-case hexadecimal digits (OCI image specification, "Digests").
//
// Digests with other algorithms are not valid, even if they match the grammar of the
// specification. This includes sha384, which go-digest knows but the specification does
// not register, so that other programs need not be able to verify it.
//
// A valid digest can be verified. Unlike go-digest's own check, the result does not depend
// on whether the hash is linked into the program, because this package links it.
func IsValidDigest(s string) bool {
	return digestProblem(s) == ""
}

// IsDigest reports whether s is a digest with any algorithm, of at most 255 bytes. It must
// match the grammar of the OCI image specification, "Digests", and must be valid if its
// algorithm is supported. A manifest may name content by a digest that cannot be verified
// here. To ask for content by a digest, [IsValidDigest] must be true.
func IsDigest(s string) bool {
	if IsValidDigest(s) {
		return true
	}
	algorithm, encoded, _ := strings.Cut(s, ":")
	if algorithm == "sha256" || algorithm == "sha512" || len(s) > maxDigest {
		return false
	}
	separated := true
	for _, c := range []byte(algorithm) {
		switch {
		case isLower(c) || isDigit(c):
			separated = false
		case !separated && strings.IndexByte("+._-", c) >= 0:
			separated = true
		default:
			return false
		}
	}
	for _, c := range []byte(encoded) {
		if !isLower(c) && !isUpper(c) && !isDigit(c) && c != '=' && c != '_' && c != '-' {
			return false
		}
	}
	return !separated && encoded != ""
}

// The functions below return what is wrong with a name, as a phrase that follows the name
// in a message, or "" if it is valid. The phrases are constants, so that no check
// allocates.

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

// separatorLen returns the length of the separator at the start of s, which is not empty,
// or 0 if there is none.
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

// lowerHex tells which bytes are lower-case hexadecimal digits. A table is fast, which
// matters because a manifest may name thousands of digests.
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
