package ociauth_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

var registryToken = ociauth.ConfigEntry{AccessToken: "static"}

// A registry token is the registry's own: it need not be asked for.
func TestRegistryTokenGoesAlongFromTheFirstRequest(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.setenv("DOCKER_AUTH_CONFIG", `{"auths":{"registry.test":{"registrytoken":"all"},"registry.test/foo":{"registrytoken":"static"}}}`)
	for _, c := range []ociauth.Config{config{"registry.test": registryToken}, h.load(nil)} {
		for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "DELETE"} {
			w := &world{hosts: map[string]http.Handler{registryURL: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.Header.Get("Authorization") != "Bearer static" {
					w.WriteHeader(http.StatusNotFound)
				}
			})}}
			client := newClient(w, c)
			for range 2 {
				qt.Check(t, qt.Equals(do(t, t.Context(), client, method, "/v2/foo/manifests/x"), http.StatusOK))
			}
			w.wantLog(t, method+" "+manifestOfFoo+" Bearer static 200", method+" "+manifestOfFoo+" Bearer static 200")
		}
	}
}

func TestRegistryTokenOverPlainHTTPIsSentWhenAskedFor(t *testing.T) {
	t.Parallel()
	const url = "http://registry.test/v2/foo/manifests/x"
	w := &world{hosts: map[string]http.Handler{"http://registry.test": challenged{
		allow:     func(req *http.Request) bool { return req.Header.Get("Authorization") == "Bearer static" },
		challenge: func(*http.Request) []string { return []string{`Bearer realm="/token"`} },
	}}}
	client := newClient(w, config{"registry.test": registryToken})
	resp, err := client.Get(url)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(end(t, resp), http.StatusOK))
	w.wantLog(t, "GET "+url+" 401", "GET "+url+" Bearer static 200")
}

// Another registry or storage, which has asked for nothing, gets no token.
func TestRegistryTokenFollowsRedirectsOnItsOriginOnly(t *testing.T) {
	t.Parallel()
	tests := []struct{ to, want string }{
		{"https://cdn.test/x", "GET https://cdn.test/x 200"},
		{"https://registry.test:8443/x", "GET https://registry.test:8443/x 200"},
		{"http://registry.test/x", "GET http://registry.test/x 200"},
		{"https://registry.test/x", "GET https://registry.test/x Bearer static 200"},
	}
	for _, test := range tests {
		mux := http.NewServeMux()
		mux.Handle("/v2/foo/blobs/x", http.RedirectHandler(test.to, http.StatusTemporaryRedirect))
		mux.HandleFunc("/x", func(http.ResponseWriter, *http.Request) {})
		w := &world{hosts: map[string]http.Handler{
			registryURL: mux, registryURL + ":8443": mux, "https://cdn.test": mux, "http://registry.test": mux,
		}}
		client := newClient(w, configFunc(func(string) (ociauth.ConfigEntry, error) { return registryToken, nil }))
		client.CheckRedirect = nil
		resp, err := client.Get(registryURL + "/v2/foo/blobs/x")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(end(t, resp), http.StatusOK))
		w.wantLog(t, "GET https://registry.test/v2/foo/blobs/x Bearer static 307", test.want)
	}
}

func TestRegistryTokenGivesWayToPassword(t *testing.T) {
	t.Parallel()
	userpass := "user:pass"
	w := &world{hosts: map[string]http.Handler{registryURL: basicRegistry(&userpass)}}
	client := newClient(w, config{"registry.test": {AccessToken: "static", Username: "user", Password: "pass"}})
	for range 2 {
		qt.Check(t, qt.Equals(get(t, client, "/v2/foo/manifests/x"), http.StatusOK))
	}
	w.wantLog(t,
		"GET "+manifestOfFoo+" Bearer static 401",
		"GET "+manifestOfFoo+" Basic user:pass 200",
		"GET "+manifestOfFoo+" Basic user:pass 200")
}

// A token that has been replaced is used after the old one is refused.
func TestReplacedRegistryTokenIsUsed(t *testing.T) {
	t.Parallel()
	good := "first"
	w := &world{hosts: map[string]http.Handler{registryURL: challenged{
		allow:     func(req *http.Request) bool { return req.Header.Get("Authorization") == "Bearer "+good },
		challenge: func(*http.Request) []string { return []string{`Bearer realm="/token"`} },
	}}}
	client := newClient(w, configFunc(func(string) (ociauth.ConfigEntry, error) { return ociauth.ConfigEntry{AccessToken: good}, nil }))
	qt.Check(t, qt.Equals(do(t, t.Context(), client, "PUT", "/v2/foo/manifests/x"), http.StatusOK))
	good = "second"
	qt.Check(t, qt.Equals(do(t, t.Context(), client, "PUT", "/v2/foo/manifests/x"), http.StatusOK))
	w.wantLog(t,
		"PUT "+manifestOfFoo+" Bearer first 200",
		"PUT "+manifestOfFoo+" Bearer first 401",
		"PUT "+manifestOfFoo+" Bearer second 200")
}

func TestErrorOfConfigNeedsNoChallenge(t *testing.T) {
	t.Parallel()
	broken := errors.New("the keychain is locked")
	for _, url := range []string{"https://registry.test", "http://registry.test"} {
		for _, status := range []int{200, 401, 403, 404} {
			w := &world{hosts: map[string]http.Handler{url: silent{status, allowNobody, ""}}}
			client := newClient(w, configFunc(func(string) (ociauth.ConfigEntry, error) { return ociauth.ConfigEntry{}, broken }))
			for range 2 {
				_, err := client.Get(url + "/v2/foo/manifests/x")
				qt.Check(t, qt.ErrorIs(err, broken), qt.Commentf(fmt.Sprint(url, " ", status)))
			}
			qt.Check(t, qt.HasLen(w.take(), 0))
		}
	}
}

// So it is with files that contradict themselves, for the host that they are about.
func TestContradictingKeysFailRequests(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.setenv("DOCKER_AUTH_CONFIG", auths("http://registry.test", "one", "https://registry.test", "two"))
	nothing := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	client := newClient(&world{hosts: map[string]http.Handler{registryURL: nothing, "https://other.test": nothing}}, h.load(nil))
	_, err := client.Get(manifestOfFoo)
	qt.Check(t, qt.ErrorMatches(err, `.*the keys \["http://registry\.test" "https://registry\.test"\] stand for the same.*`))
	resp, err := client.Get("https://other.test/v2/foo/manifests/x")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(end(t, resp), http.StatusOK))
}
