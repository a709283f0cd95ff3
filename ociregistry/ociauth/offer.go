package ociauth

import (
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/seed-40b21970/oci/internal/wire"
)

// An offer has the ways to authenticate that the challenges of a response name. It
// ignores other schemes than Bearer and Basic.
type offer struct {
	bearer *bearer // nil if there is no usable one
	basic  bool
}

// bearer is a Bearer challenge: where to get a token, and for which scope (the
// distribution registry's "Token Authentication Specification").
type bearer struct {
	realm   *url.URL
	service string
	scope   Scope
}

func (o offer) isZero() bool { return o == offer{} }

// readOffer reads the challenges of the response to a request for u.
func readOffer(u *url.URL, header http.Header) offer {
	var o offer
	for _, c := range wire.ParseChallenges(header.Values("WWW-Authenticate")) {
		switch c.Scheme {
		case "basic":
			o.basic = true
		case "bearer":
			if o.bearer == nil {
				o.bearer = readBearer(u, c)
			}
		}
	}
	return o
}

// readBearer returns nil for a challenge without a usable realm. A registry behind a
// proxy may not know that clients reach it by https, and name itself by http: the realm
// is then reached by https.
func readBearer(u *url.URL, c wire.Challenge) *bearer {
	if c.Params["realm"] == "" {
		return nil
	}
	realm, err := u.Parse(c.Params["realm"])
	if err != nil || realm.Host == "" || realm.User != nil || realm.Scheme != "https" && realm.Scheme != "http" {
		return nil
	}
	realm.Fragment, realm.RawFragment = "", ""
	if u.Scheme == "https" && realm.Scheme == "http" {
		wire.KeepOrigin(realm, u)
	}
	return &bearer{realm: realm, service: c.Params["service"], scope: ParseScope(c.Params["scope"])}
}

// trusts reports whether credentials for a registry may be sent to a realm that it
// named: to any over https; over plain HTTP only on the registry's own host or where
// both are on this machine, and only if the registry itself is used over plain HTTP.
func (o origin) trusts(realm *url.URL) bool {
	if realm.Scheme == "https" {
		return true
	}
	registry := (&url.URL{Host: o.host}).Hostname()
	host := realm.Hostname()
	return o.scheme == "http" && (strings.EqualFold(host, registry) || isLoopback(host) && isLoopback(registry))
}

func isLoopback(host string) bool {
	return strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
}
