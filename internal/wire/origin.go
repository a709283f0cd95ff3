package wire

import (
	"net/url"
	"strings"
)

// KeepOrigin makes u, which the answer to a request for asked names, one of the origin
// that was asked, if it means that.
//
// Who is behind a proxy may not know that it is reached by https, or by which port:
// its own name, by http or without a port, stands for the origin that was asked. With
// another port it is another.
func KeepOrigin(u, asked *url.URL) {
	itself := strings.EqualFold(u.Hostname(), asked.Hostname()) && (u.Port() == "" || u.Port() == PortOf(asked))
	if itself && (u.Scheme == asked.Scheme || u.Scheme == "http") {
		u.Scheme, u.Host = asked.Scheme, asked.Host
	}
}

// SameOrigin reports whether two URLs are of one origin: scheme, host and port
// (RFC 6454, section 4).
func SameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && (a.Host == b.Host || strings.EqualFold(a.Hostname(), b.Hostname()) && PortOf(a) == PortOf(b))
}

// PortOf returns the port of an HTTP URL, which is its scheme's if it has none.
func PortOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "http":
		return "80"
	case u.Scheme == "https":
		return "443"
	}
	return ""
}
