package ociauth_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

func TestScopeOfContextIsAskedForInAdvance(t *testing.T) {
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

// A cached token for what the request needs serves, even if the context asks for more.
func TestTokenAtHandServesWhateverTheContextAsksFor(t *testing.T) {
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

func TestUnlimitedScopeIsNotAskedFor(t *testing.T) {
	t.Parallel()
	w := bearerWorld(new(tokenServer))
	ctx := ociauth.ContextWithScope(t.Context(), ociauth.UnlimitedScope())
	ctx = ociauth.ContextWithRequestInfo(ctx, ociauth.RequestInfo{RequiredScope: ociauth.UnlimitedScope()})
	qt.Check(t, qt.Equals(do(t, ctx, newClient(w, nil), "GET", "/v2/foo/manifests/x"), http.StatusOK))
	qt.Check(t, qt.Equals(w.take()[1], tokenForFoo+" 200"))
}

// After the token server has refused the context's scope, it is asked for the
// challenge's scope alone, as the registry wrote it.
func TestRefusedScopeOfContextIsDropped(t *testing.T) {
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

// A token server may issue a token without the scope that it does not grant.
func TestUselessTokenForScopeOfContextIsReplaced(t *testing.T) {
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

func TestRefusedScopeOfChallengeIsAnError(t *testing.T) {
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
		qt.Check(t, qt.Equals(len(w.take()), 3)) // one to the registry, two for tokens
	}
}

// A token that does not suffice for one request still serves others.
func TestInsufficientTokenIsKept(t *testing.T) {
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

func TestRequiredScopeComesFromContextOrPath(t *testing.T) {
	t.Parallel()
	tests := []struct {
		method, path string
		required     string // in the context
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
