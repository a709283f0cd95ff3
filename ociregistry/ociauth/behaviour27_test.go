package ociauth_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

func TestBehaviour27_NoChallenge(t *testing.T) {
	t.Parallel()
	w := &world{hosts: map[string]http.Handler{registryURL: http.NotFoundHandler()}}
	var asked []string
	client := newClient(w, configFunc(func(host string) (ociauth.ConfigEntry, error) {
		asked = append(asked, host)
		return ociauth.ConfigEntry{}, nil
	}))
	for range 2 {
		qt.Check(t, qt.Equals(get(t, client, "/v2/foo/manifests/x"), http.StatusNotFound))
		w.wantLog(t, "GET https://registry.test/v2/foo/manifests/x 404")
	}
	qt.Check(t, qt.DeepEquals(asked, []string{"registry.test"}))
}

// What is sent for two requests, one after the other.
func TestBehaviour27_Flows(t *testing.T) {
	t.Parallel()
	const (
		manifest = "https://registry.test/v2/foo/manifests/x"
		token    = "https://auth.test/token?scope=repository%3Afoo%3Apull&service=registry.test"
		bearer   = `Bearer realm="https://auth.test/token",service="registry.test",scope="repository:foo:pull"`
		form     = "POST https://auth.test/token client_id=ociauth&grant_type=refresh_token&refresh_token=refresh&scope=repository%3Afoo%3Apull&service=registry.test"
	)
	tests := []struct {
		name       string
		challenges []string
		entry      ociauth.ConfigEntry
		server     *tokenServer
		want       []string
	}{{
		name:       "anonymous, refused",
		challenges: []string{`Basic realm="registry"`},
		want:       []string{"GET " + manifest + " 401", "GET " + manifest + " 401"},
	}, {
		name:       "Basic",
		challenges: []string{`Basic realm="registry"`},
		entry:      ociauth.ConfigEntry{Username: "user", Password: "pass"},
		want: []string{
			"GET " + manifest + " 401",
			"GET " + manifest + " Basic user:pass 200",
			"GET " + manifest + " Basic user:pass 200",
		},
	}, {
		name:       "Bearer, anonymous",
		challenges: []string{bearer},
		want: []string{
			"GET " + manifest + " 401",
			"GET " + token + " 200",
			"GET " + manifest + " Bearer t1 200",
			"GET " + manifest + " Bearer t1 200",
		},
	}, {
		name:       "Bearer, access_token",
		challenges: []string{bearer},
		server:     &tokenServer{name: "access_token"},
		want: []string{
			"GET " + manifest + " 401",
			"GET " + token + " 200",
			"GET " + manifest + " Bearer t1 200",
			"GET " + manifest + " Bearer t1 200",
		},
	}, {
		name:       "Bearer with a password",
		challenges: []string{bearer},
		entry:      ociauth.ConfigEntry{Username: "user", Password: "pass"},
		want: []string{
			"GET " + manifest + " 401",
			"GET " + token + " Basic user:pass 200",
			"GET " + manifest + " Bearer t1 200",
			"GET " + manifest + " Bearer t1 200",
		},
	}, {
		name:       "identity token",
		challenges: []string{bearer},
		entry:      ociauth.ConfigEntry{RefreshToken: "refresh", Username: "user", Password: "pass"},
		want: []string{
			"GET " + manifest + " 401",
			form + " 200",
			"GET " + manifest + " Bearer t1 200",
			"GET " + manifest + " Bearer t1 200",
		},
	}, {
		name:       "registry token",
		challenges: []string{bearer},
		entry:      ociauth.ConfigEntry{AccessToken: "static", Username: "user", Password: "pass"},
		want: []string{
			"GET " + manifest + " Bearer static 200",
			"GET " + manifest + " Bearer static 200",
		},
	}, {
		name:       "several challenges in one header",
		challenges: []string{"Negotiate, Basic realm=\"a, b\", " + bearer},
		entry:      ociauth.ConfigEntry{Username: "user", Password: "pass"},
		want: []string{
			"GET " + manifest + " 401",
			"GET " + token + " Basic user:pass 200",
			"GET " + manifest + " Bearer t1 200",
			"GET " + manifest + " Bearer t1 200",
		},
	}, {
		name:       "several headers",
		challenges: []string{"NTLM", bearer, `Basic realm="x"`},
		want: []string{
			"GET " + manifest + " 401",
			"GET " + token + " 200",
			"GET " + manifest + " Bearer t1 200",
			"GET " + manifest + " Bearer t1 200",
		},
	}, {
		name:       "a Bearer that cannot be used beside a Basic",
		challenges: []string{`Bearer service="x", Bearer realm="ftp://a/b", Bearer realm="https://user@auth.test/token", Basic realm="x"`},
		entry:      ociauth.ConfigEntry{Username: "user", Password: "pass"},
		want: []string{
			"GET " + manifest + " 401",
			"GET " + manifest + " Basic user:pass 200",
			"GET " + manifest + " Basic user:pass 200",
		},
	}, {
		name:       "a relative realm",
		challenges: []string{`Bearer realm="/token",service="registry.test",scope="repository:foo:pull"`},
		entry:      ociauth.ConfigEntry{Username: "user", Password: "pass"},
		want: []string{
			"GET " + manifest + " 401",
			"GET https://registry.test/token?scope=repository%3Afoo%3Apull&service=registry.test Basic user:pass 200",
			"GET " + manifest + " Bearer t1 200",
			"GET " + manifest + " Bearer t1 200",
		},
	}, {
		name:       "a realm with a query, no service, no scope",
		challenges: []string{`Bearer realm="https://auth.test/token?account=x#frag"`},
		want: []string{
			"GET " + manifest + " 401",
			"GET https://auth.test/token?account=x&scope=repository%3Afoo%3Apull 200",
			"GET " + manifest + " Bearer t1 200",
			"GET " + manifest + " Bearer t1 200",
		},
	}, {
		name:       "nothing that can be met",
		challenges: []string{"Negotiate", "Digest realm=x"},
		entry:      ociauth.ConfigEntry{Username: "user", Password: "pass"},
		want:       []string{"GET " + manifest + " 401", "GET " + manifest + " 401"},
	}}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := test.server
			if s == nil {
				s = new(tokenServer)
			}
			registry := challenged{
				allow: func(req *http.Request) bool {
					return s.allows(req, "repository:foo:pull") ||
						req.Header.Get("Authorization") == "Bearer static" ||
						readable(req.Header.Get("Authorization")) == "Basic user:pass" && strings.Contains(test.challenges[0], "Basic")
				},
				challenge: func(*http.Request) []string { return test.challenges },
			}
			mux := http.NewServeMux()
			mux.Handle("/v2/", registry)
			mux.Handle("/token", s)
			w := &world{hosts: map[string]http.Handler{registryURL: mux, "https://auth.test": s}}
			client := newClient(w, config{"registry.test": test.entry})
			get(t, client, "/v2/foo/manifests/x")
			get(t, client, "/v2/foo/manifests/x")
			w.wantLog(t, test.want...)
		})
	}
}

func TestBehaviour27_Lifetime(t *testing.T) {
	t.Parallel()
	tests := []struct {
		fields string
		lives  time.Duration
	}{
		{``, time.Minute},
		{`,"expires_in":300`, 5 * time.Minute},
		{`,"expires_in":"300"`, 5 * time.Minute},
		{`,"expires_in":299.5`, 299*time.Second + 500*time.Millisecond},
		{`,"expires_in":2`, 2 * time.Second},
		{`,"expires_in":0`, time.Minute},
		{`,"expires_in":-5`, time.Minute},
		{`,"expires_in":null`, time.Minute},
		{`,"expires_in":"soon"`, time.Minute},
		{`,"expires_in":{}`, time.Minute},
		{`,"expires_in":1e300`, 24 * time.Hour},
		{`,"expires_in":300,"issued_at":"1999-01-01T00:00:00Z"`, 5 * time.Minute},
	}
	for _, test := range tests {
		t.Run(test.fields, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &tokenServer{fields: test.fields}
				client := newClient(bearerWorld(s), nil)
				margin := min(test.lives/10, 30*time.Second)
				get(t, client, "/v2/foo/manifests/x")
				time.Sleep(test.lives - margin - time.Millisecond)
				get(t, client, "/v2/foo/manifests/x")
				qt.Check(t, qt.Equals(s.n, 1))
				time.Sleep(time.Millisecond)
				get(t, client, "/v2/foo/manifests/x")
				qt.Check(t, qt.Equals(s.n, 2))
			})
		})
	}
}

// A token that has expired is replaced before the registry says so.
func TestBehaviour27_RequestsAfterExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := bearerWorld(new(tokenServer))
		client := newClient(w, userPass)
		get(t, client, "/v2/foo/manifests/x")
		w.take()
		time.Sleep(time.Hour)
		get(t, client, "/v2/foo/manifests/x")
		w.wantLog(t,
			"GET https://auth.test/token?scope=repository%3Afoo%3Apull&service=registry.test Basic user:pass 200",
			"GET https://registry.test/v2/foo/manifests/x Bearer t2 200")
	})
}

func TestBehaviour27_TokenErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status int
		body   string
		want   string // of the message
		is     error  // or nil for none of the sentinels
	}{
		{401, ``, `token from auth.test: 401 Unauthorized: unauthorized: authentication required`, ociregistry.ErrUnauthorized},
		{401, `{"details":"incorrect username or password"}`, `token from auth.test: 401 Unauthorized: unauthorized: incorrect username or password`, ociregistry.ErrUnauthorized},
		{400, `{"error":"invalid_grant","error_description":"gone"}`, `token from auth.test: 400 Bad Request: unauthorized: invalid_grant: gone`, ociregistry.ErrUnauthorized},
		{400, `{"error":"invalid_request"}`, `token from auth.test: 400 Bad Request: invalid_request`, nil},
		{403, `{"errors":[{"code":"DENIED","message":"not yours"}]}`, `token from auth.test: 403 Forbidden: denied: not yours`, ociregistry.ErrDenied},
		{429, `{"message":"slow\ndown\u0007"}`, `token from auth.test: 429 Too Many Requests: toomanyrequests: slow down `, ociregistry.ErrTooManyRequests},
		{503, `<html>down</html>`, `token from auth.test: 503 Service Unavailable`, nil},
		{500, `{"message":"` + strings.Repeat("x", 1000) + `"}`, `token from auth.test: 500 Internal Server Error: ` + strings.Repeat("x", 256), nil},
		{401, `{"message":"the password hunter2 is wrong","details":"bad"}`, `token from auth.test: 401 Unauthorized: unauthorized: bad`, ociregistry.ErrUnauthorized},
		{200, `{}`, `token from auth.test: the answer has no token, or a malformed one`, nil},
		{200, `{"token":"a\r\nX: y"}`, `token from auth.test: the answer has no token, or a malformed one`, nil},
		{200, `{"token":123}`, `token from auth.test: the answer is not the JSON of a token`, nil},
		{200, `<html>`, `token from auth.test: the answer is not the JSON of a token`, nil},
		{200, `{"token":"` + strings.Repeat("x", 128<<10) + `"}`, `token from auth.test: the answer is larger than 131072 bytes`, nil},
	}
	for _, test := range tests {
		s := &tokenServer{answer: func(w http.ResponseWriter, req *http.Request) bool {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(test.status)
			w.Write([]byte(test.body))
			return true
		}}
		client := newClient(bearerWorld(s), config{"registry.test": {Username: "user", Password: "hunter2"}})
		_, err := client.Get(registryURL + "/v2/foo/manifests/x")
		qt.Assert(t, qt.IsNotNil(err))
		qt.Check(t, qt.Equals(errors.Unwrap(err).Error(), test.want))
		for _, sentinel := range []error{ociregistry.ErrUnauthorized, ociregistry.ErrDenied, ociregistry.ErrTooManyRequests} {
			qt.Check(t, qt.Equals(errors.Is(err, sentinel), sentinel == test.is), qt.Commentf("%v: %v", err, sentinel))
		}
		var herr ociregistry.HTTPError
		qt.Assert(t, qt.Equals(errors.As(err, &herr), test.status != 200))
		if herr != nil {
			qt.Check(t, qt.Equals(herr.StatusCode(), test.status))
			qt.Check(t, qt.Equals(herr.Response().Header.Get("Retry-After"), "7"))
			qt.Check(t, qt.IsNil(herr.Response().Request))
		}
	}
}

// A token server that cannot be reached is no refusal.
func TestBehaviour27_TokenServerGone(t *testing.T) {
	t.Parallel()
	w := bearerWorld(new(tokenServer))
	delete(w.hosts, "https://auth.test")
	_, err := newClient(w, userPass).Get(registryURL + "/v2/foo/manifests/x")
	qt.Check(t, qt.ErrorMatches(err, `Get "https://registry.test/v2/foo/manifests/x": token from auth.test: no such host: https://auth.test`))
	w.wantLog(t, "GET https://registry.test/v2/foo/manifests/x 401")
}

// A request that has credentials already is the caller's business.
func TestBehaviour27_OwnAuthorization(t *testing.T) {
	t.Parallel()
	w := bearerWorld(new(tokenServer))
	req, err := http.NewRequestWithContext(t.Context(), "GET", registryURL+"/v2/foo/manifests/x", nil)
	qt.Assert(t, qt.IsNil(err))
	req.Header.Set("Authorization", "Bearer own")
	resp, err := newClient(w, userPass).Do(req)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(resp.Body.Close()))
	qt.Check(t, qt.Equals(resp.StatusCode, http.StatusUnauthorized))
	w.wantLog(t, "GET https://registry.test/v2/foo/manifests/x Bearer own 401")
}

func TestBehaviour27_ConfigFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("the keychain is locked")
	w := bearerWorld(new(tokenServer))
	client := newClient(w, configFunc(func(string) (ociauth.ConfigEntry, error) { return ociauth.ConfigEntry{}, broken }))
	for range 2 {
		_, err := client.Get(registryURL + "/v2/foo/manifests/x")
		qt.Check(t, qt.ErrorIs(err, broken))
	}
	qt.Check(t, qt.HasLen(w.take(), 0))
}
