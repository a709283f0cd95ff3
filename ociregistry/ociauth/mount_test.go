package ociauth_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

const (
	uploadsOfDst = "/v2/dst/blobs/uploads/"
	mountFromSrc = uploadsOfDst + "?mount=sha256:0&from=src"

	scopeOfDst   = "repository:dst:pull,push"
	scopeOfMount = "repository:dst:pull,push repository:src:pull"
)

// mountRegistry is a registry that answers a mount with 201 if the token is valid for
// the source, too, and otherwise with the given status. It answers requests that need
// the destination only with 202. Its challenges name the scope that challenge returns.
type mountRegistry struct {
	tokens    *tokenServer
	otherwise int
	challenge func(*http.Request) string
}

func (r mountRegistry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	status := http.StatusUnauthorized
	isMount := req.URL.Query().Has("mount")
	switch {
	case isMount && r.tokens.allows(req, scopeOfMount):
		status = http.StatusCreated
	case isMount && r.tokens.allows(req, scopeOfDst):
		status = r.otherwise
	case !isMount && r.tokens.allows(req, neededScope(req)):
		status = http.StatusAccepted
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer realm=%q,scope=%q", realmURL, r.challenge(req)))
	}
	w.WriteHeader(status)
}

func allOfMount(req *http.Request) string {
	if req.URL.Query().Has("mount") {
		return scopeOfMount
	}
	return neededScope(req)
}

func onlyDestination(req *http.Request) string { return neededScope(req) }

// joined reports whether a token request is for both repositories.
func joined(req *http.Request) bool { return len(req.URL.Query()["scope"]) > 1 }

// A mount asks for a token for two repositories. If there is none, a token for the
// destination is sent: the registry may open an upload. In any case, the upload that
// follows works without another token.
func TestMountWithoutTokenForTheSourceOpensUpload(t *testing.T) {
	t.Parallel()
	refuses := func(status int) func(*tokenServer, http.ResponseWriter, *http.Request) bool {
		return func(_ *tokenServer, w http.ResponseWriter, req *http.Request) bool {
			return joined(req) && respond(w, status, map[string]string{"error": "invalid_scope"})
		}
	}
	// grants issues a token for both that is valid for one of them, or for none.
	grants := func(scope string) func(*tokenServer, http.ResponseWriter, *http.Request) bool {
		return func(s *tokenServer, w http.ResponseWriter, req *http.Request) bool {
			if !joined(req) {
				return false
			}
			rec := httptest.NewRecorder()
			part, _ := http.NewRequest("GET", realmURL, nil)
			part.Form = map[string][]string{"scope": strings.Fields(scope)}
			inner := &tokenServer{tokens: s.tokens, n: s.n}
			inner.ServeHTTP(rec, part)
			s.tokens, s.n = inner.tokens, inner.n
			w.Write(rec.Body.Bytes())
			return true
		}
	}
	servers := map[string]func(*tokenServer, http.ResponseWriter, *http.Request) bool{
		"refuses both with 400":    refuses(400),
		"refuses both with 401":    refuses(401),
		"refuses both with 403":    refuses(403),
		"grants the destination":   grants(scopeOfDst),
		"grants the source":        grants("repository:src:pull"),
		"grants nothing of it":     grants(""),
		"grants pull of each only": grants("repository:dst:pull repository:src:pull"),
	}
	challenges := map[string]func(*http.Request) string{
		"for both":            allOfMount,
		"for the destination": onlyDestination,
	}
	for server, answer := range servers {
		for challenged, challenge := range challenges {
			for _, otherwise := range []int{202, 401, 403} {
				for _, known := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s, challenge %s, %d, known %v", server, challenged, otherwise, known), func(t *testing.T) {
						t.Parallel()
						s := new(tokenServer)
						s.answer = func(w http.ResponseWriter, req *http.Request) bool { return answer(s, w, req) }
						w := &world{hosts: map[string]http.Handler{
							registryURL:         mountRegistry{s, otherwise, challenge},
							"https://auth.test": s,
						}}
						client := newClient(w, userPass)
						if known {
							get(t, client, "/v2/dst/manifests/x")
						}
						for range 2 {
							qt.Check(t, qt.Equals(do(t, t.Context(), client, "POST", mountFromSrc), otherwise))
							w.take()
							qt.Check(t, qt.Equals(do(t, t.Context(), client, "POST", uploadsOfDst), http.StatusAccepted))
							log := w.take()
							qt.Assert(t, qt.HasLen(log, 1), qt.Commentf("%q", log))
						}
					})
				}
			}
		}
	}
}

// After the token server has refused a mount, later requests do not need the Config.
func TestRefusedMountNeedsNoSecondLookAtConfig(t *testing.T) {
	t.Parallel()
	s := new(tokenServer)
	s.answer = func(w http.ResponseWriter, req *http.Request) bool {
		return joined(req) && respond(w, http.StatusForbidden, "no")
	}
	w := &world{hosts: map[string]http.Handler{registryURL: mountRegistry{s, 202, allOfMount}, "https://auth.test": s}}
	asked := 0
	client := newClient(w, configFunc(func(string) (ociauth.ConfigEntry, error) {
		asked++
		if asked > 1 {
			return ociauth.ConfigEntry{}, errors.New("the keychain is locked")
		}
		return userPass["registry.test"], nil
	}))
	for range 3 {
		qt.Check(t, qt.Equals(do(t, t.Context(), client, "POST", mountFromSrc), http.StatusAccepted))
		qt.Check(t, qt.Equals(do(t, t.Context(), client, "POST", uploadsOfDst), http.StatusAccepted))
		qt.Check(t, qt.Equals(get(t, client, "/v2/other/manifests/x"), http.StatusAccepted))
	}
}

func TestMountWithTokenForBothMounts(t *testing.T) {
	t.Parallel()
	s := new(tokenServer)
	w := &world{hosts: map[string]http.Handler{registryURL: mountRegistry{s, 401, allOfMount}, "https://auth.test": s}}
	client := newClient(w, userPass)
	for range 2 {
		qt.Check(t, qt.Equals(do(t, t.Context(), client, "POST", mountFromSrc), http.StatusCreated))
		qt.Check(t, qt.Equals(do(t, t.Context(), client, "POST", uploadsOfDst), http.StatusAccepted))
	}
	const upload = "POST https://registry.test"
	w.wantLog(t,
		upload+mountFromSrc+" 401",
		"GET https://auth.test/token?scope=repository%3Adst%3Apull%2Cpush&scope=repository%3Asrc%3Apull Basic user:pass 200",
		upload+mountFromSrc+" Bearer t1 201",
		upload+uploadsOfDst+" Bearer t1 202",
		upload+mountFromSrc+" Bearer t1 201",
		upload+uploadsOfDst+" Bearer t1 202")
}

// The credentials of a refused mount stay in use for other requests.
func TestRefusedMountKeepsCredentials(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		entry     ociauth.ConfigEntry
		challenge string
		sent      string
	}{
		{"Basic", userPass["registry.test"], `Basic realm="x"`, "Basic user:pass"},
		{"a registry token", registryToken, `Bearer realm="https://auth.test/token"`, "Bearer static"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := &world{hosts: map[string]http.Handler{registryURL: challenged{
				allow: func(req *http.Request) bool {
					return readable(req.Header.Get("Authorization")) == test.sent && !req.URL.Query().Has("mount")
				},
				challenge: func(*http.Request) []string { return []string{test.challenge} },
			}}}
			asked := 0
			client := newClient(w, configFunc(func(string) (ociauth.ConfigEntry, error) {
				asked++
				return test.entry, nil
			}))
			qt.Check(t, qt.Equals(do(t, t.Context(), client, "POST", uploadsOfDst), http.StatusOK))
			for range 3 {
				w.take()
				qt.Check(t, qt.Equals(do(t, t.Context(), client, "POST", mountFromSrc), http.StatusUnauthorized))
				qt.Check(t, qt.Equals(do(t, t.Context(), client, "POST", uploadsOfDst), http.StatusOK))
				w.wantLog(t,
					"POST https://registry.test"+mountFromSrc+" "+test.sent+" 401",
					"POST https://registry.test"+uploadsOfDst+" "+test.sent+" 200")
			}
			qt.Check(t, qt.Equals(asked, 1))
		})
	}
}
