// Package httpfield has the grammar of the values of HTTP fields (RFC 9110, section 5.6),
// as far as several packages parse it. It imports no other package of this module, so that
// all of them can import it.
package httpfield

import "strings"

// IsToken reports whether s is a token (RFC 9110, section 5.6.2).
func IsToken(s string) bool { return s != "" && TokenLen(s) == len(s) }

// TokenLen returns the length in bytes of the token at the start of s, or 0 if there is
// none (RFC 9110, section 5.6.2).
func TokenLen(s string) int {
	n := 0
	for n < len(s) && isTokenByte(s[n]) {
		n++
	}
	return n
}

func isTokenByte(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
