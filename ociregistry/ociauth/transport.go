package ociauth

import (
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// StdTransportParams are the parameters of [NewStdTransport]. The zero value
// authenticates anonymously where a registry wants that.
type StdTransportParams struct {
	// Config knows the credentials. The transport asks it for those of a registry
	// before the first request to that registry, and again after they were refused;
	// after a response without a challenge, at most once a minute. If Config is a
	// [RepositoryConfig], the transport asks for the credentials of the repository.
	// For the target of a redirect, the transport asks only after a challenge.
	// Nil means no credentials.
	Config Config

	// Transport makes the requests, also those to token servers. Nil means
	// [http.DefaultTransport].
	Transport http.RoundTripper

	// TokenTimeout bounds the time that a token server takes to answer. A request
	// that takes longer fails with an error that matches [os.ErrDeadlineExceeded].
	// Zero means 30 seconds. A negative value means no limit.
	TokenTimeout time.Duration

	// ClientID is the client's name for token servers that record who holds a
	// refresh token (RFC 6749, section 2.2). Empty means "ociauth".
	ClientID string

	// NoFallback makes refused credentials an error, even for public content. By
	// default, the transport sends a request that reads once more without them.
	NoFallback bool

	// Logger receives one record, at level Warn, when credentials were refused and
	// something was then read without them. Nil means no logging.
	Logger *slog.Logger
}

const (
	defaultClientID     = "ociauth"
	defaultTokenTimeout = 30 * time.Second
)

// ErrNoAuth is returned by no function. It is here so that programs compile that were written
// for cuelabs.dev/go/oci/ociregistry, which does not return it either: a request for which there are
// no credentials gets the registry's response, whose status is 401.
//
// Deprecated: Look at the status of the response, or for [ociregistry.ErrUnauthorized].
var ErrNoAuth = errors.New("no authorization token available to add to request")

// NewStdTransport returns a RoundTripper that authenticates requests to registries
// by meeting their challenges, as the package documentation describes.
//
// RoundTrip may send a request several times, if the request has GetBody or no body.
// Otherwise it learns from the response with status 401 (403 or 404 from a registry
// that does not challenge) and returns it, so that the caller can send the request
// anew. It also returns that response when there are no credentials, or the registry
// refuses them. It passes on a request that already has an Authorization header as it
// is.
//
// RoundTrip returns the errors of the underlying transport, of the Config, and of
// token requests. The last match [ociregistry.ErrUnauthorized] if the token server
// refuses the credentials or cannot be trusted with them, [ociregistry.ErrDenied] if
// it refuses the access, and [ociregistry.ErrTooManyRequests]; they are
// [ociregistry.HTTPError]s with the token server's response if there was one. Neither
// these errors nor the responses contain credentials.
func NewStdTransport(p StdTransportParams) http.RoundTripper {
	t := &transport{
		config:     p.Config,
		base:       p.Transport,
		clientID:   p.ClientID,
		noFallback: p.NoFallback,
		logger:     p.Logger,
		timeout:    p.TokenTimeout,
		registries: make(map[origin]*registry),
	}
	if t.base == nil {
		t.base = http.DefaultTransport
	}
	if t.clientID == "" {
		t.clientID = defaultClientID
	}
	if t.logger == nil {
		t.logger = slog.New(slog.DiscardHandler)
	}
	if t.timeout == 0 {
		t.timeout = defaultTokenTimeout
	}
	return t
}

type transport struct {
	config     Config
	base       http.RoundTripper
	clientID   string
	noFallback bool
	logger     *slog.Logger
	timeout    time.Duration // for token requests; negative for none

	mu         sync.Mutex
	registries map[origin]*registry // that may want credentials
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Header.Get("Authorization") != "" || isDowngrade(req) {
		return t.base.RoundTrip(req)
	}
	return newExchange(t, req).do()
}

// CloseIdleConnections closes those of the underlying transport, for
// [http.Client.CloseIdleConnections].
func (t *transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// isDowngrade reports whether redirects led from https to req, which is plain HTTP.
// A user who names a registry by https does not want its credentials sent in clear.
func isDowngrade(req *http.Request) bool {
	if req.URL.Scheme != "http" {
		return false
	}
	for resp := req.Response; resp != nil && resp.Request != nil; resp = resp.Request.Response {
		if resp.Request.URL.Scheme == "https" {
			return true
		}
	}
	return false
}

// crossesOrigins reports whether redirects led to req from another origin.
func crossesOrigins(req *http.Request) bool {
	for resp := req.Response; resp != nil; resp = resp.Request.Response {
		if resp.Request == nil || originOf(resp.Request.URL) != originOf(req.URL) {
			return true
		}
	}
	return false
}

// An origin owns credentials and tokens (RFC 6454, section 4).
type origin struct {
	scheme string
	host   string // in lower case, with the port unless it is the scheme's own
}

func originOf(u *url.URL) origin {
	o := origin{scheme: u.Scheme, host: strings.ToLower(u.Host)}
	switch o.scheme {
	case "https":
		o.host = strings.TrimSuffix(o.host, ":443")
	case "http":
		o.host = strings.TrimSuffix(o.host, ":80")
	}
	return o
}

// maxRegistries bounds how many registries a transport remembers. A program uses a
// few, but a hostile registry can redirect to any number of others.
const maxRegistries = 256

// registry returns the state for a registry, or nil.
func (t *transport) registry(o origin) *registry {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.registries[o]
}

// addRegistry returns the state for a registry, and adds it if there is none.
func (t *transport) addRegistry(o origin) *registry {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.registries[o]
	if r == nil {
		if len(t.registries) >= maxRegistries {
			for other := range t.registries {
				delete(t.registries, other)
				break
			}
		}
		r = newRegistry(t, o)
		t.registries[o] = r
	}
	return r
}
