package ociauth_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

func TestUnchallengedRequestIsSentOnce(t *testing.T) {
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

// Each case has the log of two requests, one after the other.
func TestChallengeIsMetAndRemembered(t *testing.T) {
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

func TestAuthorizationOfTheCallerIsPassedOn(t *testing.T) {
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

func TestErrorOfConfigFailsEveryRequest(t *testing.T) {
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
