package ociauth

import (
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// StdTransportParams are the parameters of [NewStdTransport]. The zero value
// makes a transport that authenticates anonymously where registries want that.
type StdTransportParams struct {
	// Config has the credentials. It is asked for those of a registry at the
	// first request to it, and again when they have been refused; after an answer
	// that does not challenge, at most once a minute. If it is a
	// [RepositoryConfig], it is asked for those of the repository. Where a
	// redirect leads to, it is asked when that wants some. If it is nil, there
	// are none.
	Config Config

	// Transport makes the requests, those to token servers too. If it is nil,
	// it is [http.DefaultTransport].
	Transport http.RoundTripper

	// TokenTimeout is how long a token server may take to answer. A request that
	// takes longer fails with an error that matches [os.ErrDeadlineExceeded]. Zero
	// stands for 30 s; negative for no bound.
	TokenTimeout time.Duration

	// ClientID is the name of the client for token servers that keep account of
	// refresh tokens (RFC 6749, section 2.2). If it is empty, it is "ociauth".
	ClientID string

	// NoFallback makes refused credentials an error also for what anyone may read.
	// By default, a request that reads is sent once more without them.
	NoFallback bool

	// Logger gets one record, at level Warn, for credentials that were refused
	// when something was then read without them. If it is nil, nothing is logged.
	Logger *slog.Logger
}

const (
	defaultClientID     = "ociauth"
	defaultTokenTimeout = 30 * time.Second
)

// NewStdTransport returns a RoundTripper that authenticates requests to
// registries as their challenges ask for: see the package's documentation.
//
// RoundTrip may send a request several times. It can do so if the request has
// GetBody, or no body; else it returns the response with the status 401 (or 403 or
// 404, of a registry that does not challenge), having learnt from it, so that the
// caller can send the request anew. That is also what it returns when there are no
// credentials or the registry refuses them. A request that has an Authorization
// header already is passed on as it is.
//
// RoundTrip returns the errors of the transport below, of the Config, and of
// requests for tokens. The latter are [ociregistry.ErrUnauthorized] when the
// token server refuses the credentials, or they cannot be sent to it,
// [ociregistry.ErrDenied] when it refuses the access, and
// [ociregistry.ErrTooManyRequests]; and are [ociregistry.HTTPError]s with its
// response where there was one. Neither these errors nor the responses have the
// credentials in them.
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
	timeout    time.Duration // of token requests; negative for none

	mu         sync.Mutex
	registries map[origin]*registry // those that may want credentials
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Header.Get("Authorization") != "" || isDowngrade(req) {
		return t.base.RoundTrip(req)
	}
	return newExchange(t, req).do()
}

// CloseIdleConnections is what [http.Client.CloseIdleConnections] calls.
func (t *transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// isDowngrade reports whether a redirect led from https to req, which is plain
// HTTP. Whoever asks for a registry over https does not want its credentials to
// be seen by all.
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

// crossesOrigins reports whether a redirect led to req from another origin.
func crossesOrigins(req *http.Request) bool {
	for resp := req.Response; resp != nil; resp = resp.Request.Response {
		if resp.Request == nil || originOf(resp.Request.URL) != originOf(req.URL) {
			return true
		}
	}
	return false
}

// origin is what credentials and tokens belong to (RFC 6454, section 4).
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

// maxRegistries bounds how many registries a transport remembers. A program has
// a few; but a hostile one can redirect to any number of others.
const maxRegistries = 256

// registry returns what is known of a registry, or nil.
func (t *transport) registry(o origin) *registry {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.registries[o]
}

// addRegistry is registry for one that is to be remembered.
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
