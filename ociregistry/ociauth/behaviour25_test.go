package ociauth_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

// Where a redirect leads to, the credentials of the registry do not go, unless it
// is the same origin. What is there has its own credentials, if it asks for them.
func TestBehaviour25_Redirects(t *testing.T) {
	t.Parallel()
	const from = "GET https://registry.test/v2/foo/blobs/x"
	registry := ociauth.ConfigEntry{Username: "user", Password: "pass"}
	other := ociauth.ConfigEntry{Username: "other", Password: "word"}
	everywhere := config{"registry.test": registry, "registry.test:8443": other, "cdn.test": other, "cdn.registry.test": other}
	tests := []struct {
		name, to string
		config   config
		wants    string // what is wanted at the target: user:pass, or empty for nothing
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

// A downgrade is one also when it is not the last redirect.
func TestBehaviour25_DowngradeBeforeTheLast(t *testing.T) {
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

	// Asked for over plain HTTP, it gets them.
	resp, err = client.Get("http://a.test/x")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(resp.Body.Close()))
	qt.Check(t, qt.Equals(resp.StatusCode, http.StatusOK))
}

// A token server that redirects gets the credentials no further than its origin.
func TestBehaviour25_RedirectsOfTokenServers(t *testing.T) {
	t.Parallel()
	password := ociauth.ConfigEntry{Username: "user", Password: "pass"}
	refresh := ociauth.ConfigEntry{RefreshToken: "refresh"}
	tests := []struct {
		name   string
		entry  ociauth.ConfigEntry
		to     string
		status int
		ok     bool
	}{
		{"a password, same origin", password, "https://auth.test/token2", 307, true},
		{"a password, same origin, 302", password, "https://auth.test/token2", 302, true},
		{"a password, elsewhere", password, "https://evil.test/token2", 307, false},
		{"a password, another port", password, "https://auth.test:8443/token2", 307, false},
		{"a password, its own name by http", password, "http://auth.test/token2", 307, true}, // over https
		{"a password, plain HTTP", password, "http://auth.test:80/token2", 307, false},
		{"a refresh token, its own name by http", refresh, "http://auth.test/token2", 308, true},
		{"a refresh token, same origin", refresh, "https://auth.test/token2", 307, true},
		{"a refresh token, elsewhere", refresh, "https://evil.test/token2", 308, false},
		{"a refresh token, with a status that drops it", refresh, "https://auth.test/token2", 303, false},
		{"nothing, elsewhere", ociauth.ConfigEntry{}, "https://evil.test/token2", 302, true},
		{"nothing, plain HTTP", ociauth.ConfigEntry{}, "http://evil.test/token2", 302, false},
		{"nothing, for ever", ociauth.ConfigEntry{}, "https://auth.test/token", 302, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := new(tokenServer)
			mux := http.NewServeMux()
			mux.Handle("/token2", s)
			mux.HandleFunc("/token", func(w http.ResponseWriter, req *http.Request) {
				http.Redirect(w, req, test.to+"?"+req.URL.RawQuery, test.status)
			})
			w := bearerWorld(s)
			for _, host := range []string{"https://auth.test", "http://auth.test", "http://auth.test:80", "https://auth.test:8443", "https://evil.test", "http://evil.test"} {
				w.hosts[host] = mux
			}
			resp, err := newClient(w, config{"registry.test": test.entry}).Get(registryURL + "/v2/foo/manifests/x")
			if test.ok {
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.Equals(end(t, resp), http.StatusOK))
				for _, line := range w.take() {
					qt.Check(t, qt.IsFalse(strings.Contains(line, " http://")), qt.Commentf("%s", line))
				}
				return
			}
			qt.Check(t, qt.ErrorAs(err, new(ociregistry.HTTPError)))
			qt.Check(t, qt.Equals(s.n, 0))
		})
	}
}

// Tokens belong to the origin that they were fetched for.
func TestBehaviour25_TokensBelongToOrigins(t *testing.T) {
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
