package ociauth_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

// refusesStored answers with a status those who have credentials of any kind. Others
// get tokens.
func refusesStored(status int, body string) *tokenServer {
	return &tokenServer{answer: func(w http.ResponseWriter, req *http.Request) bool {
		if req.Header.Get("Authorization") == "" && req.Method == http.MethodGet {
			return false
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
		return true
	}}
}

// newLogger returns a logger, and what returns the messages of its records so far.
func newLogger() (*slog.Logger, func() []string) {
	var log bytes.Buffer
	return slog.New(slog.NewJSONHandler(&log, nil)), func() (messages []string) {
		dec := json.NewDecoder(bytes.NewReader(log.Bytes()))
		for {
			var record struct{ Level, Msg, Registry, Error string }
			if dec.Decode(&record) != nil {
				return messages
			}
			messages = append(messages, strings.Join([]string{record.Level, record.Msg, record.Registry, record.Error}, ": "))
		}
	}
}

const (
	manifestOfFoo  = "https://registry.test/v2/foo/manifests/x"
	warningOfFoo   = "WARN: stored credentials were refused; reading public content without them: registry.test: "
	refreshOfFoo   = "POST https://auth.test/token client_id=ociauth&grant_type=refresh_token&refresh_token=refresh&scope=repository%3Afoo%3Apull&service=registry.test"
	passwordForFoo = tokenForFoo + " Basic user:pass"
)

func TestRefusedCredentialsDoNotBlockWhatIsPublic(t *testing.T) {
	t.Parallel()
	password := ociauth.ConfigEntry{Username: "user", Password: "pass"}
	refresh := ociauth.ConfigEntry{RefreshToken: "refresh"}
	tests := []struct {
		name   string
		entry  ociauth.ConfigEntry
		status int
		body   string
		asked  string // the request for a token that is refused
		reason string // in the log
	}{
		{"a password, 401", password, 401, ``, passwordForFoo + " 401", "token from auth.test: 401 Unauthorized: unauthorized: authentication required"},
		{"a password, 403", password, 403, `{"details":"locked"}`, passwordForFoo + " 403", "token from auth.test: 403 Forbidden: denied: locked"},
		{"a refresh token, 401", refresh, 401, ``, refreshOfFoo + " 401", "token from auth.test: 401 Unauthorized: unauthorized: authentication required"},
		{"a refresh token that has ended", refresh, 400, `{"error":"invalid_grant"}`, refreshOfFoo + " 400", "token from auth.test: 400 Bad Request: unauthorized: invalid_grant"},
	}
	for _, test := range tests {
		for _, method := range []string{"GET", "HEAD"} {
			t.Run(test.name+" "+method, func(t *testing.T) {
				t.Parallel()
				s := refusesStored(test.status, test.body)
				w := bearerWorld(s)
				logger, messages := newLogger()
				client := &http.Client{Transport: ociauth.NewStdTransport(ociauth.StdTransportParams{
					Config: config{"registry.test": test.entry}, Transport: w, Logger: logger,
				})}
				manifest := method + " " + manifestOfFoo
				qt.Check(t, qt.Equals(do(t, t.Context(), client, method, "/v2/foo/manifests/x"), http.StatusOK))
				w.wantLog(t, manifest+" 401", test.asked, tokenForFoo+" 200", manifest+" Bearer t1 200")

				// The token serves the next request without another token request.
				qt.Check(t, qt.Equals(do(t, t.Context(), client, method, "/v2/foo/manifests/x"), http.StatusOK))
				w.wantLog(t, manifest+" Bearer t1 200")

				// When the registry refuses the token, the credentials are tried again.
				s.revoke()
				qt.Check(t, qt.Equals(do(t, t.Context(), client, method, "/v2/foo/manifests/x"), http.StatusOK))
				w.wantLog(t,
					manifest+" Bearer t1 401",
					test.asked,
					manifest+" 401",
					tokenForFoo+" 200",
					manifest+" Bearer t2 200")

				qt.Check(t, qt.DeepEquals(messages(), []string{warningOfFoo + test.reason}))
			})
		}
	}
}

// Credentials that have been replaced are used as soon as the public token is not
// enough.
func TestReplacedCredentialsFollowPublicToken(t *testing.T) {
	t.Parallel()
	good := "new"
	s := &tokenServer{answer: func(w http.ResponseWriter, req *http.Request) bool {
		if _, password, ok := req.BasicAuth(); ok && password != good {
			return respond(w, http.StatusUnauthorized, "no")
		}
		return false
	}}
	w := bearerWorld(s)
	entry := ociauth.ConfigEntry{Username: "user", Password: "old"}
	client := newClient(w, configFunc(func(string) (ociauth.ConfigEntry, error) { return entry, nil }))
	qt.Check(t, qt.Equals(get(t, client, "/v2/foo/manifests/x"), http.StatusOK))
	entry.Password = "new"
	s.revoke()
	w.take()
	qt.Check(t, qt.Equals(get(t, client, "/v2/foo/manifests/x"), http.StatusOK))
	w.wantLog(t,
		"GET "+manifestOfFoo+" Bearer t1 401",
		tokenForFoo+" Basic user:old 401",
		tokenForFoo+" Basic user:new 200",
		"GET "+manifestOfFoo+" Bearer t2 200")
}

// A token that was got with the credentials goes before one that anyone gets.
func TestPublicTokenIsSecondToOwn(t *testing.T) {
	t.Parallel()
	refused := true
	s := &tokenServer{answer: func(w http.ResponseWriter, req *http.Request) bool {
		return refused && req.Header.Get("Authorization") != "" && respond(w, http.StatusForbidden, "no")
	}}
	w := bearerWorld(s)
	client := newClient(w, userPass)
	get(t, client, "/v2/foo/manifests/x")
	refused = false
	qt.Check(t, qt.Equals(do(t, t.Context(), client, "PUT", "/v2/foo/manifests/x"), http.StatusOK))
	w.take()
	qt.Check(t, qt.Equals(get(t, client, "/v2/foo/manifests/x"), http.StatusOK))
	w.wantLog(t, "GET "+manifestOfFoo+" Bearer t2 200")
}

func TestRefusalStandsWhereAnyoneGetsNothing(t *testing.T) {
	t.Parallel()
	for _, status := range []int{400, 401, 403, 404, 405, 410, 416, 418} {
		s := refusesStored(http.StatusUnauthorized, `{"details":"expired"}`)
		w := bearerWorld(s)
		challenge := w.hosts[registryURL]
		w.hosts[registryURL] = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.Header.Get("Authorization") == "" {
				challenge.ServeHTTP(w, req)
				return
			}
			respond(w, status, map[string]any{"errors": []any{map[string]string{"code": "MANIFEST_UNKNOWN"}}})
		})
		client := newClient(w, userPass)
		for range 3 {
			_, err := client.Get(manifestOfFoo)
			qt.Check(t, qt.ErrorMatches(err, ".*token from auth.test: 401 Unauthorized: unauthorized: expired"), qt.Commentf("%d", status))
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrUnauthorized)))
			qt.Check(t, qt.IsFalse(errors.Is(err, ociregistry.ErrManifestUnknown)))
		}
	}
}

// The same holds where the registry tells those without credentials that there is
// nothing, instead of challenging them: after the first request it is known what it
// wants.
func TestRefusalStandsWhereNobodyIsChallenged(t *testing.T) {
	t.Parallel()
	for _, status := range []int{403, 404} {
		s := refusesStored(http.StatusForbidden, ``)
		w := bearerWorld(s)
		challenge := w.hosts[registryURL]
		w.hosts[registryURL] = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if strings.HasPrefix(req.URL.Path, "/v2/hidden/") {
				w.WriteHeader(status)
				return
			}
			challenge.ServeHTTP(w, req)
		})
		client := newClient(w, userPass)
		qt.Check(t, qt.Equals(get(t, client, "/v2/foo/manifests/x"), http.StatusOK))
		for range 2 {
			for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
				req, err := http.NewRequestWithContext(t.Context(), method, registryURL+"/v2/hidden/manifests/x", nil)
				qt.Assert(t, qt.IsNil(err))
				_, err = client.Do(req)
				qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrDenied)), qt.Commentf("%s %d", method, status))
			}
		}
	}
}

// A registry that is not well does not make the refusal final: the caller may try
// again.
func TestRefusalBesideTransientStatusIsTransient(t *testing.T) {
	t.Parallel()
	for _, status := range []int{408, 429, 500, 502, 503, 504} {
		s := refusesStored(http.StatusUnauthorized, ``)
		w := bearerWorld(s)
		challenge := w.hosts[registryURL]
		w.hosts[registryURL] = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.Header.Get("Authorization") == "" {
				challenge.ServeHTTP(w, req)
				return
			}
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(status)
		})
		_, err := newClient(w, userPass).Get(manifestOfFoo)
		var herr ociregistry.HTTPError
		qt.Assert(t, qt.ErrorAs(err, &herr))
		qt.Check(t, qt.Equals(herr.StatusCode(), status))
		qt.Check(t, qt.Equals(herr.Response().Header.Get("Retry-After"), "7"))
		qt.Check(t, qt.IsNil(herr.Response().Request))
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrUnauthorized)))
	}
}

// The status is reported once, even if the registry is down for all requests.
func TestTransientStatusIsReportedOnceAfterFallback(t *testing.T) {
	t.Parallel()
	s := refusesStored(http.StatusUnauthorized, ``)
	w := bearerWorld(s)
	challenge, ill := w.hosts[registryURL], false
	w.hosts[registryURL] = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if ill {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		challenge.ServeHTTP(w, req)
	})
	client := newClient(w, userPass)
	get(t, client, "/v2/foo/manifests/x")
	ill = true
	_, err := client.Get(registryURL + "/v2/bar/manifests/x")
	qt.Check(t, qt.ErrorMatches(err, "Get .*: 503 Service Unavailable, without the credentials: token from auth.test: 401 Unauthorized: .*"))
	qt.Check(t, qt.Equals(strings.Count(err.Error(), "503"), 1))
	ill = false
	qt.Check(t, qt.Equals(get(t, client, "/v2/bar/manifests/x"), http.StatusOK))
}

// A token server that is down, or was asked for the wrong scope, has refused nothing.
func TestOtherErrorsOfTokenServersAreNoRefusals(t *testing.T) {
	t.Parallel()
	for _, status := range []int{400, 404, 408, 429, 500, 502, 503, 504} {
		w := bearerWorld(refusesStored(status, `{"error":"invalid_scope"}`))
		client := newClient(w, userPass)
		_, err := client.Get(manifestOfFoo)
		var herr ociregistry.HTTPError
		qt.Assert(t, qt.ErrorAs(err, &herr))
		qt.Check(t, qt.Equals(herr.StatusCode(), status))
		qt.Check(t, qt.Equals(count(w.take(), tokenForFoo+" 200"), 0))
	}
}

func TestRefusedCredentialsBlockWhatIsNotReading(t *testing.T) {
	t.Parallel()
	tests := []struct{ method, path string }{
		{"PUT", "/v2/foo/manifests/x"},
		{"DELETE", "/v2/foo/manifests/x"},
		{"POST", "/v2/foo/blobs/uploads/"},
		{"PATCH", "/v2/foo/blobs/uploads/1"},
		{"GET", "/v2/foo/blobs/uploads/1"},
		{"GET", "/v2/"}, // asks whether the credentials are valid
	}
	for _, test := range tests {
		s := refusesStored(http.StatusUnauthorized, ``)
		w := bearerWorld(s)
		w.hosts[registryURL] = challenged{
			allow:     func(req *http.Request) bool { return s.allows(req, "") },
			challenge: func(*http.Request) []string { return []string{`Bearer realm="https://auth.test/token"`} },
		}
		client := newClient(w, userPass)
		get(t, client, "/v2/foo/manifests/x") // makes a public token available
		w.take()
		req, err := http.NewRequestWithContext(t.Context(), test.method, registryURL+test.path, nil)
		qt.Assert(t, qt.IsNil(err))
		_, err = client.Do(req)
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrUnauthorized)), qt.Commentf("%s %s", test.method, test.path))
		for _, line := range w.take() {
			qt.Check(t, qt.IsFalse(strings.Contains(line, "Bearer")), qt.Commentf(line))
		}
	}
}

// Basic credentials and registry tokens that the registry itself refuses are done
// without in the same way.
func TestCredentialsRefusedByRegistryDoNotBlockWhatIsPublic(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		entry     ociauth.ConfigEntry
		challenge string
		sent      string // the credentials, in clear
	}{
		{"a password", ociauth.ConfigEntry{Username: "user", Password: "pass"}, `Basic realm="x"`, "Basic user:pass"},
		{"a registry token", ociauth.ConfigEntry{AccessToken: "static"}, `Bearer realm="https://auth.test/token"`, "Bearer static"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			public := http.StatusOK
			w := &world{hosts: map[string]http.Handler{registryURL: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.Header.Get("Authorization") == "" && strings.HasPrefix(req.URL.Path, "/v2/foo/") {
					w.WriteHeader(public)
					return
				}
				w.Header().Set("WWW-Authenticate", test.challenge)
				w.WriteHeader(http.StatusUnauthorized)
			}), "https://auth.test": refusesStored(http.StatusUnauthorized, ``)}}
			logger, messages := newLogger()
			client := &http.Client{Transport: ociauth.NewStdTransport(ociauth.StdTransportParams{
				Config: config{"registry.test": test.entry}, Transport: w, Logger: logger,
			})}
			get(t, client, "/v2/private/manifests/x") // makes the challenge known
			w.take()
			sent := "GET " + manifestOfFoo + " " + test.sent + " 401"
			for range 2 {
				resp, err := client.Get(manifestOfFoo)
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.Equals(end(t, resp), http.StatusOK))
				log := w.take()
				qt.Check(t, qt.Equals(log[0], sent))
			}
			qt.Check(t, qt.DeepEquals(messages(), []string{warningOfFoo + "401 Unauthorized: unauthorized: authentication required"}))

			// If the second request is refused, the first response is returned.
			public = http.StatusNotFound
			qt.Check(t, qt.Equals(get(t, client, "/v2/foo/manifests/x"), http.StatusUnauthorized))

			// The error for a temporary status has both reasons.
			public = http.StatusServiceUnavailable
			_, err := client.Get(manifestOfFoo)
			var herr ociregistry.HTTPError
			qt.Assert(t, qt.ErrorAs(err, &herr))
			qt.Check(t, qt.Equals(herr.StatusCode(), public))
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrUnauthorized)))
		})
	}
}
