package ociregistry

import (
	"strings"

	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// Every backend checks its arguments before any work. These are the checks, with
// the errors that all of them return.

var (
	errMalformedDigest    = NewError("badly formed digest", ErrDigestInvalid.Code(), nil)
	errMalformedMediaType = NewError("badly formed media type", ErrManifestInvalid.Code(), nil)
)

// CheckRepository returns [ErrNameInvalid] unless repo is a valid name of a
// repository (distribution specification, section "Pulling manifests").
func CheckRepository(repo string) error {
	if !ociref.IsValidRepository(repo) {
		return ErrNameInvalid
	}
	return nil
}

// CheckDigest returns an error that is [ErrDigestInvalid] unless digest is well
// formed and of a supported algorithm.
func CheckDigest(digest Digest) error {
	if !ociref.IsValidDigest(string(digest)) {
		return errMalformedDigest
	}
	return nil
}

// CheckRepositoryAndDigest makes both checks, that of the name first.
func CheckRepositoryAndDigest(repo string, digest Digest) error {
	if err := CheckRepository(repo); err != nil {
		return err
	}
	return CheckDigest(digest)
}

// CheckMediaType returns an error that is [ErrManifestInvalid] unless mediaType is
// a media type, with or without parameters, as in "text/plain; charset=utf-8"
// (RFC 9110, section 8.3.1). What names neither a type nor a subtype is taken for
// something else by whoever reads it.
func CheckMediaType(mediaType string) error {
	const (
		maxName = 127 // bytes (RFC 6838, section 4.2)
		maxAll  = 1024
	)
	name, params := mediaType, ""
	if i := strings.IndexByte(mediaType, ';'); i >= 0 {
		name, params = mediaType[:i], mediaType[i:]
	}
	mainType, subtype, _ := strings.Cut(strings.TrimRight(name, " \t"), "/")
	if !isToken(mainType) || !isToken(subtype) || max(len(mainType), len(subtype)) > maxName ||
		len(mediaType) > maxAll || !areParameters(params) {
		return errMalformedMediaType
	}
	return nil
}

// areParameters reports whether s is parameters (RFC 9110, section 5.6.6), each
// after a semicolon.
func areParameters(s string) bool {
	for s = strings.TrimLeft(s, " \t"); s != ""; s = strings.TrimLeft(s, " \t") {
		if s[0] != ';' {
			return false
		}
		s = strings.TrimLeft(s[1:], " \t")
		if s == "" || s[0] == ';' {
			continue // a parameter may be left out
		}
		name, value, ok := strings.Cut(s, "=")
		n := valueLen(value)
		if !ok || !isToken(name) || n == 0 {
			return false
		}
		s = value[n:]
	}
	return true
}

// valueLen returns the length of the token or the quoted string that s begins
// with, or 0 if there is neither (RFC 9110, sections 5.6.2 and 5.6.4).
func valueLen(s string) int {
	if !strings.HasPrefix(s, `"`) {
		n := 0
		for n < len(s) && isTokenByte(s[n]) {
			n++
		}
		return n
	}
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			i++
			if i == len(s) || !isText(s[i]) {
				return 0
			}
		case !isText(c):
			return 0
		}
	}
	return 0
}

// isText reports whether c may be in a quoted string: it is no control character
// but a tab, and of ASCII.
func isText(c byte) bool { return c == '\t' || ' ' <= c && c <= '~' }

func isToken(s string) bool {
	for i := range len(s) {
		if !isTokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}

func isTokenByte(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
