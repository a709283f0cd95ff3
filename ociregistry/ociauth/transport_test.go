package ociauth_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

// Whatever an entry is printed or logged with, it shows no secrets.
func TestConfigEntryShowsNoSecrets(t *testing.T) {
	t.Parallel()
	entry := ociauth.ConfigEntry{RefreshToken: "SECRET1", AccessToken: "SECRET2", Username: "user", Password: "SECRET3"}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "entry", entry, "pointer", &entry)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "entry", entry, "pointer", &entry, "list", []ociauth.ConfigEntry{entry})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%t"} {
		fmt.Fprintf(&log, verb, entry)
		fmt.Fprintf(&log, verb, &entry)
		fmt.Fprintf(&log, verb, []any{struct{ E ociauth.ConfigEntry }{entry}})
	}
	qt.Check(t, qt.IsFalse(strings.Contains(log.String(), "SECRET")), qt.Commentf("%s", &log))
	qt.Check(t, qt.IsFalse(strings.Contains(log.String(), fmt.Sprintf("%x", "SECRET"))))
	qt.Check(t, qt.Equals(entry.String(), `username "user", password, refresh token, access token`))
	qt.Check(t, qt.Equals(ociauth.ConfigEntry{}.String(), "no credentials"))
}

// RoundTrip does not change the request, and closes its body even if it fails before it
// has sent anything.
func TestRoundTripLeavesRequestAndClosesBody(t *testing.T) {
	t.Parallel()
	w := bearerWorld(new(tokenServer))
	rt := newClient(w, nil).Transport
	newRequest := func() (*http.Request, *closeRecorder) {
		body := &closeRecorder{Reader: strings.NewReader("content")}
		req, err := http.NewRequestWithContext(t.Context(), "PUT", registryURL+"/v2/foo/manifests/x", body)
		qt.Assert(t, qt.IsNil(err))
		req.Header = nil
		return req, body
	}
	for _, status := range []int{http.StatusUnauthorized, http.StatusOK} {
		req, body := newRequest()
		resp, err := rt.RoundTrip(req)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(end(t, resp), status))
		qt.Check(t, qt.Equals(resp.Request, req))
		qt.Check(t, qt.IsNil(req.Header))
		qt.Check(t, qt.IsTrue(body.closed))
	}
	delete(w.hosts, "https://auth.test")
	req, body := newRequest()
	req.URL.Path = "/v2/bar/manifests/x" // needs another token
	_, err := rt.RoundTrip(req)
	qt.Check(t, qt.ErrorMatches(err, "token from auth.test: no such host.*"))
	qt.Check(t, qt.IsTrue(body.closed))
}

type closeRecorder struct {
	io.Reader
	closed bool
}

func (r *closeRecorder) Close() error {
	r.closed = true
	return nil
}

// newTokenServer returns a token server, and an HTTP server that it shares with a
// registry.
func newTokenServer(t *testing.T) (*tokenServer, *httptest.Server) {
	s := new(tokenServer)
	mux := http.NewServeMux()
	mux.Handle("/v2/", tokenRegistry(s, "/token"))
	mux.Handle("/token", s)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return s, srv
}

// A token server on the registry's own host may be reachable over one connection only.
func TestTokenRequestReusesTheConnection(t *testing.T) {
	t.Parallel()
	s, srv := newTokenServer(t)
	base := &http.Transport{MaxConnsPerHost: 1}
	client := newClient(base, nil)
	defer client.CloseIdleConnections()
	for range 3 {
		resp, err := client.Get(srv.URL + "/v2/foo/manifests/x")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(end(t, resp), http.StatusOK))
		s.revoke()
	}
}

// A registry may refuse an upload before it has read all of it.
func TestLargeUploadIsSentAgainWithNewToken(t *testing.T) {
	t.Parallel()
	s, srv := newTokenServer(t)
	client := newClient(new(http.Transport), nil)
	defer client.CloseIdleConnections()
	content := bytes.Repeat([]byte("content "), 25_000) // the server does not close the connection over it
	for range 3 {
		req, err := http.NewRequestWithContext(t.Context(), "PATCH", srv.URL+"/v2/foo/blobs/uploads/1", bytes.NewReader(content))
		qt.Assert(t, qt.IsNil(err))
		resp, err := client.Do(req)
		qt.Assert(t, qt.IsNil(err))
		got, err := io.ReadAll(resp.Body)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(resp.Body.Close()))
		qt.Check(t, qt.Equals(resp.StatusCode, http.StatusOK))
		qt.Check(t, qt.IsTrue(bytes.Equal(got, content)))
		s.revoke()
	}
}

func TestTokenRequestHasUserAgentAndClientID(t *testing.T) {
	t.Parallel()
	var agent, id string
	s := &tokenServer{answer: func(_ http.ResponseWriter, req *http.Request) bool {
		agent, id = req.UserAgent(), req.FormValue("client_id")
		return false
	}}
	client := &http.Client{Transport: ociauth.NewStdTransport(ociauth.StdTransportParams{
		Config:    config{"registry.test": {RefreshToken: "refresh"}},
		Transport: bearerWorld(s),
		ClientID:  "builder",
	})}
	req, err := http.NewRequestWithContext(t.Context(), "GET", registryURL+"/v2/foo/manifests/x", nil)
	qt.Assert(t, qt.IsNil(err))
	req.Header.Set("User-Agent", "builder/1.0")
	resp, err := client.Do(req)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(end(t, resp), http.StatusOK))
	qt.Check(t, qt.Equals(agent, "builder/1.0"))
	qt.Check(t, qt.Equals(id, "builder"))
}

// The cost beyond the transport below.
func BenchmarkCachedToken(b *testing.B) {
	benchmarkRequest(b, bearerWorld(new(tokenServer)), nil)
}

func BenchmarkBasic(b *testing.B) {
	userpass := "user:pass"
	benchmarkRequest(b, &world{hosts: map[string]http.Handler{registryURL: basicRegistry(&userpass)}}, userPass)
}

func benchmarkRequest(b *testing.B, w *world, c ociauth.Config) {
	base := &switchTransport{RoundTripper: w}
	rt := newClient(base, c).Transport
	ctx := ociauth.ContextWithRequestInfo(b.Context(), ociauth.RequestInfo{RequiredScope: ociauth.ParseScope("repository:foo:pull")})
	req, err := http.NewRequestWithContext(ctx, "GET", registryURL+"/v2/foo/manifests/x", nil)
	qt.Assert(b, qt.IsNil(err))
	req.Header.Set("Accept", "*/*")
	resp, err := rt.RoundTrip(req)
	qt.Assert(b, qt.IsNil(err))
	qt.Assert(b, qt.Equals(resp.StatusCode, http.StatusOK))
	base.RoundTripper = constant{resp}
	b.ReportAllocs()
	for b.Loop() {
		if resp, err := rt.RoundTrip(req); err != nil || resp.StatusCode != http.StatusOK {
			b.Fatal(resp, err)
		}
	}
}

// switchTransport can be made to be another.
type switchTransport struct{ http.RoundTripper }

// constant always answers the same.
type constant struct{ resp *http.Response }

func (c constant) RoundTrip(*http.Request) (*http.Response, error) { return c.resp, nil }
