package ociauth_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

// world is a transport to hosts without a network. It logs the requests that it sees,
// such as
//
//	GET https://registry.test/v2/ Bearer t1 200
//
// with the credentials in clear and, for a POST to a token server, the form.
type world struct {
	hosts map[string]http.Handler // by scheme and host

	mu  sync.Mutex
	log []string
}

func (w *world) RoundTrip(req *http.Request) (*http.Response, error) {
	host := w.hosts[req.URL.Scheme+"://"+req.URL.Host]
	if host == nil {
		return nil, fmt.Errorf("no such host: %s://%s", req.URL.Scheme, req.URL.Host)
	}
	line := req.Method + " " + req.URL.String()
	if req.Method == http.MethodPost && req.Header.Get("Content-Type") == "application/x-www-form-urlencoded" {
		data, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		line += " " + string(data)
		req = req.Clone(req.Context())
		req.Body = io.NopCloser(strings.NewReader(string(data)))
	}
	if auth := req.Header.Get("Authorization"); auth != "" {
		line += " " + readable(auth)
	}
	rec := httptest.NewRecorder()
	host.ServeHTTP(rec, req)
	if req.Body != nil {
		req.Body.Close()
	}
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, fmt.Sprintf("%s %d", line, rec.Code))
	resp := rec.Result()
	resp.Request = req
	return resp, nil
}

// onlyRegistry returns a world that has nothing but the registry.
func onlyRegistry(h http.Handler) *world {
	return &world{hosts: map[string]http.Handler{registryURL: h}}
}

// readable returns an Authorization header with Basic credentials in clear.
func readable(auth string) string {
	encoded, ok := strings.CutPrefix(auth, "Basic ")
	if !ok {
		return auth
	}
	data, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return "bad " + auth
	}
	return "Basic " + string(data)
}

// take returns the log since the last take.
func (w *world) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	log := w.log
	w.log = nil
	return log
}

// wantLog checks the log since the last take.
func (w *world) wantLog(t testing.TB, want ...string) {
	t.Helper()
	qt.Check(t, qt.DeepEquals(w.take(), want))
}

// tokenServer is a realm that issues the tokens t1, t2 and so on.
type tokenServer struct {
	fields string                                              // of its answers, besides the token
	answer func(w http.ResponseWriter, req *http.Request) bool // reports whether it has answered
	name   string                                              // of the token's field, if not "token"

	mu     sync.Mutex
	tokens map[string]ociauth.Scope // the valid ones, with their scopes
	n      int
}

func (s *tokenServer) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if s.answer != nil && s.answer(w, req) {
		return
	}
	req.ParseForm()
	scope := ociauth.ParseScope(strings.Join(req.Form["scope"], " "))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	token := fmt.Sprintf("t%d", s.n)
	if s.tokens == nil {
		s.tokens = make(map[string]ociauth.Scope)
	}
	s.tokens[token] = scope
	name := "token"
	if s.name != "" {
		name = s.name
	}
	fmt.Fprintf(w, `{%q:%q%s}`, name, token, s.fields)
}

// before makes s call f before it answers.
func (s *tokenServer) before(f func(req *http.Request)) {
	answer := s.answer
	s.answer = func(w http.ResponseWriter, req *http.Request) bool {
		f(req)
		return answer != nil && answer(w, req)
	}
}

// revoke revokes all tokens.
func (s *tokenServer) revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens = nil
}

// allows reports whether a request's token is valid for a scope.
func (s *tokenServer) allows(req *http.Request, scope string) bool {
	token, _ := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	defer s.mu.Unlock()
	granted, ok := s.tokens[token]
	return ok && granted.Contains(ociauth.ParseScope(scope))
}

// challenged echoes the body of a request that allow accepts, and challenges others.
type challenged struct {
	allow     func(*http.Request) bool
	challenge func(*http.Request) []string
}

func (c challenged) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if c.allow(req) {
		if req.Body != nil {
			data, _ := io.ReadAll(req.Body)
			w.Write(data)
		}
		return
	}
	w.Header()["Www-Authenticate"] = c.challenge(req)
	w.WriteHeader(http.StatusUnauthorized)
	io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`)
}

// The hosts of most tests.
const (
	registryURL = "https://registry.test"
	realmURL    = "https://auth.test/token"
)

// bearerWorld returns a world whose registry wants tokens from the realm. A path such as
// /v2/foo/manifests/x needs repository:foo:pull, or pull,push for other methods
// than GET.
func bearerWorld(s *tokenServer) *world {
	return &world{hosts: map[string]http.Handler{
		registryURL:         tokenRegistry(s, realmURL),
		"https://auth.test": s,
	}}
}

func tokenRegistry(s *tokenServer, realm string) http.Handler {
	return challenged{
		allow: func(req *http.Request) bool { return s.allows(req, neededScope(req)) },
		challenge: func(req *http.Request) []string {
			challenge := fmt.Sprintf("Bearer realm=%q,service=%q", realm, "registry.test")
			if scope := neededScope(req); scope != "" {
				challenge += fmt.Sprintf(",scope=%q", scope)
			}
			return []string{challenge}
		},
	}
}

func neededScope(req *http.Request) string {
	path := strings.TrimPrefix(req.URL.Path, "/v2/")
	for _, sep := range []string{"/blobs/", "/manifests/", "/tags/"} {
		if repo, _, ok := strings.Cut(path, sep); ok {
			if req.Method == http.MethodGet || req.Method == http.MethodHead {
				return "repository:" + repo + ":pull"
			}
			return "repository:" + repo + ":pull,push"
		}
	}
	return ""
}

// basicRegistry accepts one username and password, in the form user:pass.
func basicRegistry(userpass *string) http.Handler {
	return challenged{
		allow:     func(req *http.Request) bool { return readable(req.Header.Get("Authorization")) == "Basic "+*userpass },
		challenge: func(*http.Request) []string { return []string{`Basic realm="registry"`} },
	}
}

// config gives one entry for each host.
type config map[string]ociauth.ConfigEntry

func (c config) EntryForRegistry(host string) (ociauth.ConfigEntry, error) { return c[host], nil }

// configFunc is a Config that calls a function.
type configFunc func(host string) (ociauth.ConfigEntry, error)

func (f configFunc) EntryForRegistry(host string) (ociauth.ConfigEntry, error) { return f(host) }

var userPass = config{"registry.test": {Username: "user", Password: "pass"}}

// newClient returns a client that does not follow redirects.
func newClient(w http.RoundTripper, c ociauth.Config) *http.Client {
	return &http.Client{
		Transport:     ociauth.NewStdTransport(ociauth.StdTransportParams{Config: c, Transport: w}),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// get gets a path of the registry, and returns the status.
func get(t testing.TB, client *http.Client, path string) int {
	t.Helper()
	resp, err := client.Get(registryURL + path)
	qt.Assert(t, qt.IsNil(err))
	return end(t, resp)
}

// getAtOnce gets a manifest of each of the repositories in many goroutines, in a bubble
// of synctest. It checks that all requests succeed.
func getAtOnce(t testing.TB, client *http.Client, repos ...string) {
	t.Helper()
	const each = 8
	var ok atomic.Int32
	for range each {
		for _, repo := range repos {
			go func() {
				if get(t, client, "/v2/"+repo+"/manifests/x") == http.StatusOK {
					ok.Add(1)
				}
			}()
		}
	}
	time.Sleep(time.Minute)
	qt.Check(t, qt.Equals(int(ok.Load()), each*len(repos)))
}

// end reads a response to its end, and returns the status.
func end(t testing.TB, resp *http.Response) int {
	t.Helper()
	_, err := io.ReadAll(resp.Body)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(resp.Body.Close()))
	qt.Check(t, qt.Equals(resp.Request.Header.Get("Authorization"), ""))
	return resp.StatusCode
}

// count returns how often a line is in a log.
func count(log []string, line string) int {
	n := 0
	for _, l := range log {
		if l == line {
			n++
		}
	}
	return n
}

// respond answers with a status and JSON. It returns true.
func respond(w http.ResponseWriter, status int, body any) bool {
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
	return true
}

const tokenForFoo = "GET https://auth.test/token?scope=repository%3Afoo%3Apull&service=registry.test"

// do makes a request with a context, and returns the status.
func do(t testing.TB, ctx context.Context, client *http.Client, method, path string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, registryURL+path, nil)
	qt.Assert(t, qt.IsNil(err))
	resp, err := client.Do(req)
	qt.Assert(t, qt.IsNil(err))
	return end(t, resp)
}
