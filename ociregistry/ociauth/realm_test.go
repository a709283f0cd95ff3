package ociauth_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

func TestCredentialsGoToTrustedRealmsOnly(t *testing.T) {
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

func TestBasicIsUsedInsteadOfUntrustedRealm(t *testing.T) {
	t.Parallel()
	w := &world{hosts: map[string]http.Handler{registryURL: challenged{
		allow: func(req *http.Request) bool { return readable(req.Header.Get("Authorization")) == "Basic user:pass" },
		challenge: func(*http.Request) []string {
			return []string{`Bearer realm="http://auth.test/token", Basic realm="x"`}
		},
	}}}
	qt.Check(t, qt.Equals(get(t, newClient(w, userPass), "/v2/"), http.StatusOK))
}
