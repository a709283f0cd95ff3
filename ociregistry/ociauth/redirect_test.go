package ociauth_test

import (
	"net/http"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

// A redirect takes the registry's credentials nowhere but to the same origin. The
// target gets its own credentials if it asks for them.
func TestRedirectTakesNoCredentialsToAnotherOrigin(t *testing.T) {
	t.Parallel()
	const from = "GET https://registry.test/v2/foo/blobs/x"
	registry := ociauth.ConfigEntry{Username: "user", Password: "pass"}
	other := ociauth.ConfigEntry{Username: "other", Password: "word"}
	everywhere := config{"registry.test": registry, "registry.test:8443": other, "cdn.test": other, "cdn.registry.test": other}
	tests := []struct {
		name, to string
		config   config
		wants    string // by the target: user:pass, or empty for no credentials
		want     []string
	}{
		{"another host", "https://cdn.test/x", everywhere, "", []string{"GET https://cdn.test/x 200"}},
		{"a host below", "https://cdn.registry.test/x", everywhere, "", []string{"GET https://cdn.registry.test/x 200"}},
		{"another port", "https://registry.test:8443/x", everywhere, "", []string{"GET https://registry.test:8443/x 200"}},
		{"the same origin", "https://registry.test/x", everywhere, "", []string{"GET https://registry.test/x Basic user:pass 200"}},
		{"the same origin, written otherwise", "https://REGISTRY.test:443/x", everywhere, "", []string{"GET https://REGISTRY.test:443/x Basic user:pass 200"}},
		{"plain HTTP", "http://registry.test/x", everywhere, "", []string{"GET http://registry.test/x 200"}},
		{"plain HTTP that asks", "http://registry.test/x", everywhere, "user:pass", []string{"GET http://registry.test/x 401"}},
		{"plain HTTP elsewhere that asks", "http://cdn.test/x", everywhere, "other:word", []string{"GET http://cdn.test/x 401"}},
		{"another host that asks", "https://cdn.test/x", everywhere, "other:word", []string{"GET https://cdn.test/x 401", "GET https://cdn.test/x Basic other:word 200"}},
		{"another port that asks", "https://registry.test:8443/x", everywhere, "other:word", []string{"GET https://registry.test:8443/x 401", "GET https://registry.test:8443/x Basic other:word 200"}},
		{"another host that fishes", "https://cdn.test/x", config{"registry.test": registry}, "user:pass", []string{"GET https://cdn.test/x 401"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			nothing := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
			mux := http.NewServeMux()
			mux.Handle("/x", nothing)
			mux.HandleFunc("/v2/foo/blobs/x", func(w http.ResponseWriter, req *http.Request) {
				if readable(req.Header.Get("Authorization")) == "Basic user:pass" {
					http.Redirect(w, req, test.to, http.StatusTemporaryRedirect)
					return
				}
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(http.StatusUnauthorized)
			})
			var target http.Handler = nothing
			if test.wants != "" {
				target = basicRegistry(&test.wants)
			}
			w := &world{hosts: map[string]http.Handler{
				"https://registry.test":      mux,
				"https://REGISTRY.test:443":  mux,
				"https://registry.test:8443": target,
				"https://cdn.registry.test":  target,
				"https://cdn.test":           target,
				"http://cdn.test":            target,
				"http://registry.test":       target,
			}}
			client := newClient(w, test.config)
			client.CheckRedirect = nil
			resp, err := client.Get(registryURL + "/v2/foo/blobs/x")
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.IsNil(resp.Body.Close()))
			w.wantLog(t, append([]string{from + " 401", from + " Basic user:pass 307"}, test.want...)...)
		})
	}
}

// A downgrade counts even if it is not the last redirect.
func TestRedirectAfterDowngradeGetsNoCredentials(t *testing.T) {
	t.Parallel()
	userpass := "user:pass"
	redirect := func(to string) http.Handler {
		return http.RedirectHandler(to, http.StatusFound)
	}
	w := &world{hosts: map[string]http.Handler{
		"https://registry.test": redirect("http://a.test/x"),
		"http://a.test":         redirect("http://b.test/x"),
		"http://b.test":         basicRegistry(&userpass),
	}}
	client := newClient(w, config{"b.test": {Username: "user", Password: "pass"}})
	client.CheckRedirect = nil
	resp, err := client.Get(registryURL + "/v2/foo/blobs/x")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(resp.Body.Close()))
	qt.Check(t, qt.Equals(resp.StatusCode, http.StatusUnauthorized))
	w.wantLog(t,
		"GET https://registry.test/v2/foo/blobs/x 302",
		"GET http://a.test/x 302",
		"GET http://b.test/x 401")

	// A request that begins with plain HTTP gets them.
	resp, err = client.Get("http://a.test/x")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(resp.Body.Close()))
	qt.Check(t, qt.Equals(resp.StatusCode, http.StatusOK))
}

func TestTokenIsUsedForItsOriginOnly(t *testing.T) {
	t.Parallel()
	s := new(tokenServer)
	w := bearerWorld(s)
	w.hosts["https://other.test"] = tokenRegistry(s, realmURL)
	client := newClient(w, nil)
	get(t, client, "/v2/foo/manifests/x")
	w.take()
	resp, err := client.Get("https://other.test/v2/foo/manifests/x")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(end(t, resp), http.StatusOK))
	w.wantLog(t,
		"GET https://other.test/v2/foo/manifests/x 401",
		tokenForFoo+" 200",
		"GET https://other.test/v2/foo/manifests/x Bearer t2 200")
}
