package ociauth_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

func TestFallbackCanBeForbidden(t *testing.T) {
	t.Parallel()
	basic := "someone:else"
	tests := []struct {
		name  string
		world func() *world
		entry ociauth.ConfigEntry
	}{
		{"token server", func() *world { return bearerWorld(refusesStored(http.StatusUnauthorized, ``)) }, userPass["registry.test"]},
		{"registry token", func() *world { return bearerWorld(new(tokenServer)) }, ociauth.ConfigEntry{AccessToken: "static"}},
		{"Basic", func() *world {
			protected := basicRegistry(&basic)
			return onlyRegistry(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if strings.HasPrefix(req.URL.Path, "/v2/private/") || req.Header.Get("Authorization") != "" {
					protected.ServeHTTP(w, req)
				}
			}))
		}, userPass["registry.test"]},
	}
	fails := func(t *testing.T, ctx context.Context, client *http.Client) {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, "GET", manifestOfFoo, nil)
		qt.Assert(t, qt.IsNil(err))
		resp, err := client.Do(req)
		if err == nil {
			qt.Check(t, qt.Equals(end(t, resp), http.StatusUnauthorized))
		} else {
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrUnauthorized)))
		}
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := config{"registry.test": test.entry}
			strict := &http.Client{Transport: ociauth.NewStdTransport(ociauth.StdTransportParams{Config: c, Transport: test.world(), NoFallback: true})}
			client := newClient(test.world(), c)
			for _, client := range []*http.Client{strict, client} {
				if resp, err := client.Get(registryURL + "/v2/private/manifests/x"); err == nil {
					end(t, resp)
				}
			}
			for range 2 {
				fails(t, t.Context(), strict)
			}
			// The context forbids it, too, even if there is a public token.
			qt.Check(t, qt.Equals(get(t, client, "/v2/foo/manifests/x"), http.StatusOK))
			fails(t, ociauth.ContextWithoutFallback(t.Context()), client)
			qt.Check(t, qt.Equals(get(t, client, "/v2/foo/manifests/x"), http.StatusOK))
		})
	}
}

// A request for which there are no credentials is not a fallback.
func TestForbiddenFallbackLeavesAnonymousReading(t *testing.T) {
	t.Parallel()
	for _, c := range []ociauth.Config{nil, config{}} {
		client := &http.Client{Transport: ociauth.NewStdTransport(ociauth.StdTransportParams{
			Config: c, Transport: bearerWorld(new(tokenServer)), NoFallback: true,
		})}
		qt.Check(t, qt.Equals(get(t, client, "/v2/foo/manifests/x"), http.StatusOK))
	}
}

// The refusal of one repository's credentials does not concern others'. They come from a
// helper here.
func TestRefusedCredentialsConcernOneRepository(t *testing.T) {
	t.Parallel()
	s := &tokenServer{answer: func(w http.ResponseWriter, req *http.Request) bool {
		if user, _, ok := req.BasicAuth(); ok && user != "helped" {
			return respond(w, http.StatusUnauthorized, "no")
		}
		return false
	}}
	w := bearerWorld(s)
	h := newHome(t)
	h.setenv("DOCKER_AUTH_CONFIG", `{"credHelpers":{"registry.test":"test"},"auths":{"registry.test/foo":{"auth":"`+encode("user:pass")+`"}}}`)
	client := newClient(w, h.load(func(string, string) (ociauth.ConfigEntry, error) {
		return ociauth.ConfigEntry{Username: "helped", Password: "word"}, nil
	}))
	for range 2 {
		qt.Check(t, qt.Equals(get(t, client, "/v2/foo/manifests/x"), http.StatusOK))
		qt.Check(t, qt.Equals(get(t, client, "/v2/bar/manifests/x"), http.StatusOK))
	}
	w.wantLog(t,
		"GET "+manifestOfFoo+" 401",
		passwordForFoo+" 401",
		tokenForFoo+" 200",
		"GET "+manifestOfFoo+" Bearer t1 200",
		"GET https://auth.test/token?scope=repository%3Abar%3Apull&service=registry.test Basic helped:word 200",
		"GET https://registry.test/v2/bar/manifests/x Bearer t2 200",
		"GET "+manifestOfFoo+" Bearer t1 200",
		"GET https://registry.test/v2/bar/manifests/x Bearer t2 200")
}

// Concurrent requests share one token request with the credentials, and one without.
func TestRefusalAndPublicTokenAreShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := refusesStored(http.StatusUnauthorized, ``)
		s.before(func(*http.Request) { time.Sleep(time.Second) })
		w := bearerWorld(s)
		getAtOnce(t, newClient(w, userPass), "foo")
		log := w.take()
		qt.Check(t, qt.Equals(count(log, passwordForFoo+" 401"), 1))
		qt.Check(t, qt.Equals(count(log, tokenForFoo+" 200"), 1))
	})
}

// The error is that of a context that ends while the request waits for a public token.
func TestFallbackEndsWithContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := refusesStored(http.StatusUnauthorized, ``)
		s.before(func(req *http.Request) {
			if req.Header.Get("Authorization") == "" {
				<-req.Context().Done()
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "GET", manifestOfFoo, nil)
		qt.Assert(t, qt.IsNil(err))
		_, err = newClient(bearerWorld(s), userPass).Do(req)
		qt.Check(t, qt.ErrorIs(err, context.DeadlineExceeded))
	})
}

// No credentials go to the host that has the public content.
func TestPublicContentIsReadBehindRedirect(t *testing.T) {
	t.Parallel()
	s := refusesStored(http.StatusUnauthorized, ``)
	w := bearerWorld(s)
	registry := w.hosts[registryURL]
	w.hosts[registryURL] = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if s.allows(req, "repository:foo:pull") {
			http.Redirect(w, req, "https://cdn.test/x", http.StatusTemporaryRedirect)
			return
		}
		registry.ServeHTTP(w, req)
	})
	w.hosts["https://cdn.test"] = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	client := newClient(w, config{"registry.test": {Username: "user", Password: "pass"}, "cdn.test": {AccessToken: "static"}})
	client.CheckRedirect = nil
	for range 2 {
		resp, err := client.Get(registryURL + "/v2/foo/blobs/x")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(end(t, resp), http.StatusOK))
	}
	log := w.take()
	qt.Check(t, qt.Equals(count(log, "GET https://cdn.test/x 200"), 2))
	qt.Check(t, qt.Equals(count(log, "GET https://registry.test/v2/foo/blobs/x Bearer t1 307"), 2))
}

func TestFallbackAndProbeWorkOverHTTP2(t *testing.T) {
	t.Parallel()
	s := refusesStored(http.StatusUnauthorized, ``)
	mux := http.NewServeMux()
	var protocols atomic.Int32
	mux.HandleFunc("/v2/", func(w http.ResponseWriter, req *http.Request) {
		protocols.Store(int32(req.ProtoMajor))
		switch {
		case s.allows(req, neededScope(req)):
			io.WriteString(w, "content")
		case req.URL.Path == "/v2/":
			tokenRegistry(s, "/token").ServeHTTP(w, req)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})
	mux.Handle("/token", s)
	srv := httptest.NewUnstartedServer(mux)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "https://")
	client := newClient(srv.Client().Transport, config{host: {Username: "user", Password: "pass"}})
	for range 3 {
		resp, err := client.Get(srv.URL + "/v2/foo/blobs/x")
		qt.Assert(t, qt.IsNil(err))
		data, err := io.ReadAll(resp.Body)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(resp.Body.Close()))
		qt.Check(t, qt.Equals(string(data), "content"))
	}
	qt.Check(t, qt.Equals(protocols.Load(), 2))
}
