package ociregistry

import (
	"strings"

	"github.com/seed-40b21970/oci/internal/httpfield"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// Every backend checks its arguments before it does anything else. These are the common
// checks and their errors.

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

// CheckRepositoryAndDigest checks repo by [CheckRepository], and then digest by
// [CheckDigest].
func CheckRepositoryAndDigest(repo string, digest Digest) error {
	if err := CheckRepository(repo); err != nil {
		return err
	}
	return CheckDigest(digest)
}

// CheckMediaType returns an error that is [ErrManifestInvalid] unless mediaType is a
// media type, with or without parameters, as in "text/plain; charset=utf-8" (RFC 9110,
// section 8.3.1). Registries refuse malformed media types because browsers and other
// readers guess a type in place of one.
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
	if !httpfield.IsToken(mainType) || !httpfield.IsToken(subtype) || max(len(mainType), len(subtype)) > maxName ||
		len(mediaType) > maxAll || !areParameters(params) {
		return errMalformedMediaType
	}
	return nil
}

// areParameters reports whether s is a list of parameters, each after a semicolon (RFC
// 9110, section 5.6.6).
func areParameters(s string) bool {
	for s = strings.TrimLeft(s, " \t"); s != ""; s = strings.TrimLeft(s, " \t") {
		if s[0] != ';' {
			return false
		}
		s = strings.TrimLeft(s[1:], " \t")
		if s == "" || s[0] == ';' {
			continue // the grammar allows empty parameters
		}
		name, value, ok := strings.Cut(s, "=")
		n := valueLen(value)
		if !ok || !httpfield.IsToken(name) || n == 0 {
			return false
		}
		s = value[n:]
	}
	return true
}

// valueLen returns the length of the token or the quoted string at the start of s, or 0
// if there is neither (RFC 9110, sections 5.6.2 and 5.6.4).
func valueLen(s string) int {
	if !strings.HasPrefix(s, `"`) {
		return httpfield.TokenLen(s)
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

// isText reports whether c may be in a quoted string. It must be ASCII, and the only
// control character that is allowed is the tab.
func isText(c byte) bool { return c == '\t' || ' ' <= c && c <= '~' }
