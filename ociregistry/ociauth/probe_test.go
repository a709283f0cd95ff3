package ociauth_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

// silent is a registry that answers requests without credentials with a status and no
// challenge. It sends its challenge at /v2/.
type silent struct {
	status    int
	allow     func(*http.Request) bool
	challenge string
}

func (s silent) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path == "/v2/" && s.challenge != "" {
		w.Header().Set("WWW-Authenticate", s.challenge)
	}
	switch {
	case s.allow(req):
	case req.URL.Path == "/v2/":
		w.WriteHeader(http.StatusUnauthorized)
	default:
		w.WriteHeader(s.status)
	}
}

func allowBasic(req *http.Request) bool {
	return readable(req.Header.Get("Authorization")) == "Basic user:pass"
}

func allowNobody(*http.Request) bool { return false }

func TestChallengeIsAskedForWhereTheAnswerHasNone(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"https://registry.test", "http://registry.test"} {
		for _, status := range []int{401, 403, 404} {
			for _, method := range []string{"GET", "HEAD", "PUT", "POST", "DELETE"} {
				for _, scheme := range []string{"Basic", "Bearer"} {
					t.Run(fmt.Sprintf("%s %s %d %s", method, url, status, scheme), func(t *testing.T) {
						t.Parallel()
						s := new(tokenServer)
						allow := allowBasic
						if scheme == "Bearer" {
							allow = func(req *http.Request) bool {
								return req.URL.Path != "/v2/" && s.allows(req, "repository:foo:"+map[bool]string{true: "pull", false: "push"}[method == "GET" || method == "HEAD"]) ||
									method == "DELETE" && s.allows(req, "repository:foo:delete")
							}
						}
						w := &world{hosts: map[string]http.Handler{
							url:                 silent{status, allow, scheme + ` realm="https://auth.test/token"`},
							"https://auth.test": s,
						}}
						client := newClient(w, userPass)
						send := func() {
							req, err := http.NewRequestWithContext(t.Context(), method, url+"/v2/foo/manifests/x?a=b", strings.NewReader("content"))
							qt.Assert(t, qt.IsNil(err))
							resp, err := client.Do(req)
							qt.Assert(t, qt.IsNil(err))
							qt.Check(t, qt.Equals(end(t, resp), http.StatusOK))
						}
						send()
						log := w.take()
						qt.Assert(t, qt.IsTrue(len(log) > 2))
						qt.Check(t, qt.Equals(log[0], fmt.Sprintf("%s %s/v2/foo/manifests/x?a=b %d", method, url, status)))
						qt.Check(t, qt.Equals(log[1], "GET "+url+"/v2/ 401"))
						send() // the challenge is known now
						log = w.take()
						qt.Assert(t, qt.HasLen(log, 1))
						qt.Check(t, qt.IsTrue(strings.HasSuffix(log[0], "200")))
					})
				}
			}
		}
	}
}

// A response with a challenge makes the probe needless, whatever its status.
func TestChallengeOfRefusalIsMet(t *testing.T) {
	t.Parallel()
	for _, status := range []int{401, 403, 404} {
		w := onlyRegistry(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if !allowBasic(req) {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(status)
			}
		}))
		qt.Check(t, qt.Equals(get(t, newClient(w, userPass), "/v2/foo/manifests/x"), http.StatusOK))
		w.wantLog(t, fmt.Sprintf("GET %s %d", manifestOfFoo, status), "GET "+manifestOfFoo+" Basic user:pass 200")
	}
}

// The transport also remembers that there is no challenge.
func TestChallengeIsAskedForOnce(t *testing.T) {
	t.Parallel()
	for _, answer := range []http.HandlerFunc{
		func(http.ResponseWriter, *http.Request) {},
		http.NotFound,
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) },
		func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, "https://elsewhere.test/v2/", http.StatusFound)
		},
	} {
		mux := http.NewServeMux()
		mux.HandleFunc("/v2/{$}", answer)
		w := onlyRegistry(mux)
		client := newClient(w, userPass)
		for _, repo := range []string{"foo", "foo", "bar"} {
			qt.Check(t, qt.Equals(get(t, client, "/v2/"+repo+"/manifests/x"), http.StatusNotFound))
		}
		probes := 0
		log := w.take()
		for _, line := range log {
			if strings.HasPrefix(line, "GET https://registry.test/v2/ ") {
				probes++
			}
		}
		qt.Check(t, qt.Equals(probes, 1))
		qt.Check(t, qt.HasLen(log, 4))
	}
}

// A response to a request with credentials is final.
func TestAbsenceAfterProbeIsAbsence(t *testing.T) {
	t.Parallel()
	w := onlyRegistry(silent{404, allowNobody, `Basic realm="x"`})
	client := newClient(w, userPass)
	qt.Check(t, qt.Equals(get(t, client, "/v2/foo/manifests/x"), http.StatusNotFound))
	w.wantLog(t, "GET "+manifestOfFoo+" 404", "GET https://registry.test/v2/ 401", "GET "+manifestOfFoo+" Basic user:pass 404")
	qt.Check(t, qt.Equals(get(t, client, "/v2/foo/manifests/x"), http.StatusNotFound))
	w.wantLog(t, "GET "+manifestOfFoo+" Basic user:pass 404")
}

func TestNothingIsAskedWithoutCredentials(t *testing.T) {
	t.Parallel()
	for _, c := range []ociauth.Config{nil, config{}, config{"other.test": {Username: "user", Password: "pass"}}} {
		for _, status := range []int{401, 403, 404} {
			w := onlyRegistry(silent{status, allowNobody, `Basic realm="x"`})
			qt.Check(t, qt.Equals(get(t, newClient(w, c), "/v2/foo/manifests/x"), status))
			w.wantLog(t, fmt.Sprintf("GET %s %d", manifestOfFoo, status))
		}
	}
}

func TestNothingIsAskedAfterRedirect(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"https://cdn.test/x", "http://cdn.test/x", "https://registry.test/x"} {
		for _, status := range []int{401, 403, 404} {
			mux := http.NewServeMux()
			mux.Handle("/v2/foo/blobs/x", http.RedirectHandler(target, http.StatusTemporaryRedirect))
			mux.Handle("/", silent{status, allowBasic, `Basic realm="x"`})
			everywhere := configFunc(func(host string) (ociauth.ConfigEntry, error) {
				qt.Check(t, qt.Equals(host, "registry.test")) // no other host
				return ociauth.ConfigEntry{Username: "user", Password: "pass"}, nil
			})
			w := &world{hosts: map[string]http.Handler{registryURL: mux, "https://cdn.test": mux, "http://cdn.test": mux}}
			client := newClient(w, everywhere)
			client.CheckRedirect = nil
			resp, err := client.Get(registryURL + "/v2/foo/blobs/x")
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(end(t, resp), status))
			w.wantLog(t, "GET https://registry.test/v2/foo/blobs/x 307", fmt.Sprintf("GET %s %d", target, status))
		}
	}
}

// A challenge of an unknown scheme is known not to be met, and needs no probe.
func TestUnknownChallengeIsAChallenge(t *testing.T) {
	t.Parallel()
	w := onlyRegistry(challenged{
		allow:     allowNobody,
		challenge: func(*http.Request) []string { return []string{"Negotiate"} },
	})
	qt.Check(t, qt.Equals(get(t, newClient(w, userPass), "/v2/foo/manifests/x"), http.StatusUnauthorized))
	w.wantLog(t, "GET "+manifestOfFoo+" 401")
}

// A probe without an answer does not prove that there is nothing.
func TestProbeThatFailsIsAnError(t *testing.T) {
	t.Parallel()
	for _, status := range []int{429, 500, 503} {
		ill := true
		registry := silent{404, allowBasic, `Basic realm="x"`}
		w := onlyRegistry(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if ill && req.URL.Path == "/v2/" {
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(status)
				return
			}
			registry.ServeHTTP(w, req)
		}))
		client := newClient(w, userPass)
		_, err := client.Get(manifestOfFoo)
		qt.Check(t, qt.ErrorMatches(err, `Get .*: asking registry\.test how to authenticate: \d+ .*`))
		var herr ociregistry.HTTPError
		qt.Assert(t, qt.ErrorAs(err, &herr))
		qt.Check(t, qt.Equals(herr.StatusCode(), status))
		qt.Check(t, qt.Equals(herr.Response().Header.Get("Retry-After"), "7"))
		ill = false
		qt.Check(t, qt.Equals(get(t, client, "/v2/foo/manifests/x"), http.StatusOK))
	}
}

func TestProbeIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		registry := silent{404, allowBasic, `Basic realm="x"`}
		w := onlyRegistry(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			switch {
			case req.URL.Path == "/v2/":
				time.Sleep(time.Second)
			case strings.HasPrefix(req.URL.Path, "/v2/late/") && req.Header.Get("Authorization") == "":
				time.Sleep(2 * time.Second) // the challenge is known by then
			}
			registry.ServeHTTP(w, req)
		}))
		getAtOnce(t, newClient(w, userPass), "foo", "bar", "late")
		qt.Check(t, qt.Equals(count(w.take(), "GET https://registry.test/v2/ 401"), 1))
	})
}

// A body that cannot be sent again is sent with the next request.
func TestBodyThatIsGoneIsAuthenticatedAtTheNextRequest(t *testing.T) {
	t.Parallel()
	w := onlyRegistry(silent{404, allowBasic, `Basic realm="x"`})
	client := newClient(w, userPass)
	for _, status := range []int{404, 200} {
		req, err := http.NewRequestWithContext(t.Context(), "PATCH", registryURL+"/v2/foo/blobs/uploads/1", io.MultiReader(strings.NewReader("content")))
		qt.Assert(t, qt.IsNil(err))
		resp, err := client.Do(req)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(end(t, resp), status))
	}
}
