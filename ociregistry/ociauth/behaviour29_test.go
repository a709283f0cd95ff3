package ociauth_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

// do makes a request with a context, and returns the status.
func do(t testing.TB, ctx context.Context, client *http.Client, method, path string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, registryURL+path, nil)
	qt.Assert(t, qt.IsNil(err))
	resp, err := client.Do(req)
	qt.Assert(t, qt.IsNil(err))
	return end(t, resp)
}

func TestBehaviour29_ScopeOfTheContext(t *testing.T) {
	t.Parallel()
	w := bearerWorld(new(tokenServer))
	client := newClient(w, nil)
	ctx := ociauth.ContextWithScope(t.Context(), ociauth.ParseScope("repository:foo:push repository:bar:pull"))
	for range 2 {
		qt.Check(t, qt.Equals(do(t, ctx, client, "GET", "/v2/foo/manifests/x"), http.StatusOK))
		qt.Check(t, qt.Equals(do(t, ctx, client, "PUT", "/v2/foo/manifests/x"), http.StatusOK))
		qt.Check(t, qt.Equals(get(t, client, "/v2/bar/manifests/x"), http.StatusOK))
	}
	w.wantLog(t,
		"GET https://registry.test/v2/foo/manifests/x 401",
		"GET https://auth.test/token?scope=repository%3Abar%3Apull&scope=repository%3Afoo%3Apull%2Cpush&service=registry.test 200",
		"GET https://registry.test/v2/foo/manifests/x Bearer t1 200",
		"PUT https://registry.test/v2/foo/manifests/x Bearer t1 200",
		"GET https://registry.test/v2/bar/manifests/x Bearer t1 200",
		"GET https://registry.test/v2/foo/manifests/x Bearer t1 200",
		"PUT https://registry.test/v2/foo/manifests/x Bearer t1 200",
		"GET https://registry.test/v2/bar/manifests/x Bearer t1 200")
}

// The context's scope is not waited for where a token for less is at hand.
func TestBehaviour29_WhatIsThereIsUsed(t *testing.T) {
	t.Parallel()
	s := new(tokenServer)
	client := newClient(bearerWorld(s), nil)
	get(t, client, "/v2/foo/manifests/x")
	for _, scope := range []ociauth.Scope{ociauth.ParseScope("repository:foo:push"), ociauth.UnlimitedScope()} {
		ctx := ociauth.ContextWithScope(t.Context(), scope)
		qt.Check(t, qt.Equals(do(t, ctx, client, "HEAD", "/v2/foo/manifests/x"), http.StatusOK))
	}
	qt.Check(t, qt.Equals(s.n, 1))
}

func TestBehaviour29_UnlimitedScope(t *testing.T) {
	t.Parallel()
	w := bearerWorld(new(tokenServer))
	ctx := ociauth.ContextWithScope(t.Context(), ociauth.UnlimitedScope())
	ctx = ociauth.ContextWithRequestInfo(ctx, ociauth.RequestInfo{RequiredScope: ociauth.UnlimitedScope()})
	qt.Check(t, qt.Equals(do(t, ctx, newClient(w, nil), "GET", "/v2/foo/manifests/x"), http.StatusOK))
	qt.Check(t, qt.Equals(w.take()[1], tokenForFoo+" 200"))
}

// A token server that refuses what the context asks for gets the challenge's
// scope alone, as the registry wrote it.
func TestBehaviour29_RefusedExcess(t *testing.T) {
	t.Parallel()
	for _, status := range []int{400, 401, 403} {
		s := new(tokenServer)
		s.answer = func(w http.ResponseWriter, req *http.Request) bool {
			if len(req.URL.Query()["scope"]) > 1 {
				return respond(w, status, map[string]string{"error": "invalid_scope"})
			}
			return false
		}
		w := bearerWorld(s)
		client := newClient(w, nil)
		ctx := ociauth.ContextWithScope(t.Context(), ociauth.ParseScope("repository:bar:pull"))
		qt.Check(t, qt.Equals(do(t, ctx, client, "GET", "/v2/foo/manifests/x"), http.StatusOK))
		const manifest = "GET https://registry.test/v2/foo/manifests/x"
		const both = "GET https://auth.test/token?scope=repository%3Abar%3Apull&scope=repository%3Afoo%3Apull&service=registry.test"
		w.wantLog(t, manifest+" 401", fmt.Sprintf("%s %d", both, status), tokenForFoo+" 200", manifest+" Bearer t1 200")
	}
}

// So does one that grants nothing of what is too much.
func TestBehaviour29_UselessTokenForExcess(t *testing.T) {
	t.Parallel()
	s := new(tokenServer)
	s.answer = func(w http.ResponseWriter, req *http.Request) bool {
		if len(req.URL.Query()["scope"]) > 1 {
			return respond(w, http.StatusOK, map[string]string{"token": "useless"})
		}
		return false
	}
	w := bearerWorld(s)
	ctx := ociauth.ContextWithScope(t.Context(), ociauth.ParseScope("repository:bar:pull"))
	qt.Check(t, qt.Equals(do(t, ctx, newClient(w, nil), "GET", "/v2/foo/manifests/x"), http.StatusOK))
	const manifest = "GET https://registry.test/v2/foo/manifests/x"
	const both = "GET https://auth.test/token?scope=repository%3Abar%3Apull&scope=repository%3Afoo%3Apull&service=registry.test"
	w.wantLog(t, manifest+" 401", both+" 200", manifest+" Bearer useless 401", tokenForFoo+" 200", manifest+" Bearer t1 200")
}

// Where even the challenge's scope is refused, there is no more to try.
func TestBehaviour29_AllRefused(t *testing.T) {
	t.Parallel()
	s := &tokenServer{answer: func(w http.ResponseWriter, req *http.Request) bool {
		return respond(w, http.StatusForbidden, map[string]string{"message": "no"})
	}}
	w := bearerWorld(s)
	client := newClient(w, nil)
	ctx := ociauth.ContextWithScope(t.Context(), ociauth.ParseScope("repository:bar:pull"))
	for range 2 {
		req, err := http.NewRequestWithContext(ctx, "GET", registryURL+"/v2/foo/manifests/x", nil)
		qt.Assert(t, qt.IsNil(err))
		_, err = client.Do(req)
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrDenied)))
		qt.Check(t, qt.Equals(len(w.take()), 3)) // one of the registry, two for tokens
	}
}

// A token that is good for less than is needed now stays for what it is good for.
func TestBehaviour29_InsufficientTokenStays(t *testing.T) {
	t.Parallel()
	s := new(tokenServer)
	w := bearerWorld(s)
	client := newClient(w, nil)
	get(t, client, "/v2/foo/manifests/x")
	w.take()
	// The context claims less than the registry asks for.
	ctx := ociauth.ContextWithRequestInfo(t.Context(), ociauth.RequestInfo{RequiredScope: ociauth.ParseScope("repository:foo:pull")})
	qt.Check(t, qt.Equals(do(t, ctx, client, "PUT", "/v2/foo/manifests/x"), http.StatusOK))
	w.wantLog(t,
		"PUT https://registry.test/v2/foo/manifests/x Bearer t1 401",
		"GET https://auth.test/token?scope=repository%3Afoo%3Apull%2Cpush&service=registry.test 200",
		"PUT https://registry.test/v2/foo/manifests/x Bearer t2 200")
}

// What is needed is told by the context, else by the path. Once the registry has
// challenged, tokens are fetched without being told to.
func TestBehaviour29_RequiredScope(t *testing.T) {
	t.Parallel()
	tests := []struct {
		method, path string
		required     string // of the context
		want         string
	}{
		{"GET", "/v2/a/b/manifests/x", "", "repository:a/b:pull"},
		{"HEAD", "/v2/a/b/blobs/sha256:0", "", "repository:a/b:pull"},
		{"GET", "/v2/a/b/tags/list?n=1", "", "repository:a/b:pull"},
		{"GET", "/v2/a/b/referrers/sha256:0", "", "repository:a/b:pull"},
		{"PUT", "/v2/a/b/manifests/x", "", "repository:a/b:pull,push"},
		{"DELETE", "/v2/a/b/manifests/x", "", "repository:a/b:delete"},
		{"POST", "/v2/a/b/blobs/uploads/", "", "repository:a/b:pull,push"},
		{"POST", "/v2/a/b/blobs/uploads", "", "repository:a/b:pull,push"},
		{"POST", "/v2/a/b/blobs/uploads/?mount=sha256:0&from=c", "", "repository:a/b:pull,push repository:c:pull"},
		{"POST", "/v2/a/b/blobs/uploads/?mount=sha256:0&from=C", "", "repository:a/b:pull,push"},
		{"PATCH", "/v2/a/b/blobs/uploads/x/manifests/y", "", "repository:a/b:pull,push"},
		{"GET", "/v2/a/b/blobs/uploads/x", "", "repository:a/b:pull,push"},
		{"DELETE", "/v2/a/b/blobs/uploads/x", "", "repository:a/b:pull,push"},
		{"GET", "/v2/blobs/manifests/x", "", "repository:blobs:pull"},
		{"GET", "/v2/a/tags/b/manifests/x", "", "repository:a/tags/b:pull"},
		{"GET", "/v2/_catalog", "", "registry:catalog:*"},
		{"GET", "/v2/", "", ""},
		{"GET", "/v2/A/manifests/x", "", ""},
		{"GET", "/elsewhere/manifests/x", "", ""},
		{"GET", "/elsewhere", "repository:c:push", "repository:c:push"},
		{"GET", "/v2/a/b/manifests/x", "repository:c:pull", "repository:c:pull"},
	}
	for _, test := range tests {
		var got string
		s := &tokenServer{answer: func(w http.ResponseWriter, req *http.Request) bool {
			scope := ociauth.Scope{}
			for _, v := range req.URL.Query()["scope"] {
				scope = scope.Union(ociauth.ParseScope(v))
			}
			got = scope.Canonical().String()
			return false
		}}
		w := bearerWorld(s)
		w.hosts[registryURL] = challenged{
			allow:     func(req *http.Request) bool { return s.allows(req, "") },
			challenge: func(*http.Request) []string { return []string{`Bearer realm="https://auth.test/token"`} },
		}
		ctx := t.Context()
		if test.required != "" {
			ctx = ociauth.ContextWithRequestInfo(ctx, ociauth.RequestInfo{RequiredScope: ociauth.ParseScope(test.required)})
		}
		qt.Check(t, qt.Equals(do(t, ctx, newClient(w, nil), test.method, test.path), http.StatusOK))
		qt.Check(t, qt.Equals(got, test.want), qt.Commentf("%s %s", test.method, test.path))
	}
}

func TestBehaviour29_WhereCredentialsGo(t *testing.T) {
	t.Parallel()
	tests := []struct {
		registry, realm string
		ok              bool
	}{
		{"https://registry.test", "https://registry.test/token", true},
		{"https://registry.test", "https://elsewhere.test/token", true},
		{"https://registry.test", "http://registry.test/token", true}, // over https
		{"https://registry.test", "http://REGISTRY.test:443/token", true},
		{"https://registry.test:5000", "http://registry.test/token", true},
		{"https://registry.test", "http://registry.test:80/token", false},
		{"https://registry.test", "http://a.registry.test/token", false},
		{"https://registry.test", "http://elsewhere.test/token", false},
		{"https://localhost:5000", "http://localhost:5001/token", false},
		{"http://registry.test", "https://elsewhere.test/token", true},
		{"http://registry.test", "http://registry.test/token", true},
		{"http://registry.test", "http://REGISTRY.test:5001/token", true},
		{"http://registry.test", "http://elsewhere.test/token", false},
		{"http://registry.test", "http://localhost:5001/token", false},
		{"http://localhost:5000", "http://localhost:5001/token", true},
		{"http://127.0.0.1:5000", "http://localhost:5001/token", true},
		{"http://[::1]:5000", "http://127.0.0.2/token", true},
		{"http://localhost:5000", "http://elsewhere.test/token", false},
	}
	for _, test := range tests {
		t.Run(test.registry+" "+test.realm, func(t *testing.T) {
			t.Parallel()
			s := new(tokenServer)
			var withPassword bool
			s.answer = func(w http.ResponseWriter, req *http.Request) bool {
				_, _, withPassword = req.BasicAuth()
				return false
			}
			u := test.realm[:len(test.realm)-len("/token")]
			w := &world{hosts: map[string]http.Handler{}}
			mux := http.NewServeMux()
			mux.Handle("/v2/", tokenRegistry(s, test.realm))
			mux.Handle("/token", s)
			w.hosts[u], w.hosts[test.registry] = mux, mux
			entry := ociauth.ConfigEntry{Username: "user", Password: "pass"}
			client := newClient(w, configFunc(func(string) (ociauth.ConfigEntry, error) { return entry, nil }))
			resp, err := client.Get(test.registry + "/v2/foo/manifests/x")
			if test.ok {
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.Equals(end(t, resp), http.StatusOK))
				qt.Check(t, qt.IsTrue(withPassword))
				for _, line := range w.take() {
					inTheClear := strings.Contains(line, "GET http://")
					qt.Check(t, qt.IsFalse(inTheClear && strings.HasPrefix(test.registry, "https://")), qt.Commentf("%s", line))
				}
			} else {
				qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrUnauthorized)))
				qt.Check(t, qt.ErrorMatches(err, ".*credentials are not sent to the token server .*: it is not https"))
			}

			// Without credentials there is nothing to hide.
			entry = ociauth.ConfigEntry{}
			client = newClient(w, nil)
			resp, err = client.Get(test.registry + "/v2/foo/manifests/x")
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(end(t, resp), http.StatusOK))
			qt.Check(t, qt.IsFalse(withPassword && !test.ok))
		})
	}
}

// A realm that credentials cannot go to is passed over for a Basic challenge.
func TestBehaviour29_BasicInsteadOfUntrustedRealm(t *testing.T) {
	t.Parallel()
	w := &world{hosts: map[string]http.Handler{registryURL: challenged{
		allow: func(req *http.Request) bool { return readable(req.Header.Get("Authorization")) == "Basic user:pass" },
		challenge: func(*http.Request) []string {
			return []string{`Bearer realm="http://auth.test/token", Basic realm="x"`}
		},
	}}}
	qt.Check(t, qt.Equals(get(t, newClient(w, userPass), "/v2/"), http.StatusOK))
}
