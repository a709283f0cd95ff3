package ociref

import (
	"fmt"
	"strings"
)

// ReferrersTag returns the tag under which clients keep the list of referrers of the
// manifest with digest d, in a registry without the referrers API (OCI distribution
// specification, "Referrers Tag Schema").
//
// The digest can have any algorithm, supported or not, but must match the grammar of the
// OCI image specification, "Digests". The result is a valid tag. Two digests can have the
// same tag, because it consists of at most the first 32 characters of the algorithm and 64
// of the encoded part.
func ReferrersTag(d Digest) (string, error) {
	algorithm, encoded, _ := strings.Cut(string(d), ":")
	if !isAlgorithm(algorithm) || !isEncoded(encoded) {
		return "", fmt.Errorf("no referrers tag for digest %s: it is not of the form algorithm:encoded", quote(string(d)))
	}
	tag := []byte(algorithm[:min(len(algorithm), 32)] + "-" + encoded[:min(len(encoded), 64)])
	for i, c := range tag {
		if !isTagByte(c) {
			tag[i] = '-'
		}
	}
	return string(tag), nil
}

// isAlgorithm reports whether s can be the name of a digest algorithm: lower-case letters
// and digits, with single separators between them.
func isAlgorithm(s string) bool {
	separated := true // the next character cannot be a separator
	for i := range len(s) {
		switch c := s[i]; {
		case isLower(c) || isDigit(c):
			separated = false
		case !separated && (c == '+' || c == '.' || c == '_' || c == '-'):
			separated = true
		default:
			return false
		}
	}
	return !separated
}

// isEncoded reports whether s can be the encoded part of a digest with an unknown
// algorithm.
func isEncoded(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isLower(c) && !isUpper(c) && !isDigit(c) && c != '=' && c != '_' && c != '-' {
			return false
		}
	}
	return s != ""
}
