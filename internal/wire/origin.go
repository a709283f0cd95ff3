package wire

import (
	"net/url"
	"strings"
)

// KeepOrigin changes u, a URL in the response to a request for asked, to the origin of
// asked if it names the same host.
//
// A server behind a proxy may not know that clients reach it by https, or by which port:
// its own name, with http or without a port, stands for the origin that was asked. With
// another port it is another origin.
func KeepOrigin(u, asked *url.URL) {
	sameHost := strings.EqualFold(u.Hostname(), asked.Hostname()) && (u.Port() == "" || u.Port() == PortOf(asked))
	if sameHost && (u.Scheme == asked.Scheme || u.Scheme == "http") {
		u.Scheme, u.Host = asked.Scheme, asked.Host
	}
}

// SameOrigin reports whether two URLs have the same origin: scheme, host and port
// (RFC 6454, section 4).
func SameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && (a.Host == b.Host || strings.EqualFold(a.Hostname(), b.Hostname()) && PortOf(a) == PortOf(b))
}

// PortOf returns the port of an HTTP URL, by default that of its scheme.
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
