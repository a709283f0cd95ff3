package ociauth_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

func TestTokenIsUsedUntilTheMarginOfItsLifetime(t *testing.T) {
	t.Parallel()
	tests := []struct {
		fields string
		lives  time.Duration
	}{
		{``, time.Minute},
		{`,"expires_in":300`, 5 * time.Minute},
		{`,"expires_in":"300"`, 5 * time.Minute},
		{`,"expires_in":299.5`, 299*time.Second + 500*time.Millisecond},
		{`,"expires_in":2`, 2 * time.Second},
		{`,"expires_in":0`, time.Minute},
		{`,"expires_in":-5`, time.Minute},
		{`,"expires_in":null`, time.Minute},
		{`,"expires_in":"soon"`, time.Minute},
		{`,"expires_in":{}`, time.Minute},
		{`,"expires_in":1e300`, 24 * time.Hour},
		{`,"expires_in":300,"issued_at":"1999-01-01T00:00:00Z"`, 5 * time.Minute},
	}
	for _, test := range tests {
		t.Run(test.fields, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &tokenServer{fields: test.fields}
				client := newClient(bearerWorld(s), nil)
				margin := min(test.lives/10, 30*time.Second)
				get(t, client, "/v2/foo/manifests/x")
				time.Sleep(test.lives - margin - time.Millisecond)
				get(t, client, "/v2/foo/manifests/x")
				qt.Check(t, qt.Equals(s.n, 1))
				time.Sleep(time.Millisecond)
				get(t, client, "/v2/foo/manifests/x")
				qt.Check(t, qt.Equals(s.n, 2))
			})
		})
	}
}

func TestExpiredTokenIsReplacedBeforeTheRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := bearerWorld(new(tokenServer))
		client := newClient(w, userPass)
		get(t, client, "/v2/foo/manifests/x")
		w.take()
		time.Sleep(time.Hour)
		get(t, client, "/v2/foo/manifests/x")
		w.wantLog(t,
			"GET https://auth.test/token?scope=repository%3Afoo%3Apull&service=registry.test Basic user:pass 200",
			"GET https://registry.test/v2/foo/manifests/x Bearer t2 200")
	})
}

func TestTokenServerErrorsAreClassified(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status int
		body   string
		want   string // of the message
		is     error  // nil for no sentinel
	}{
		{401, ``, `token from auth.test: 401 Unauthorized: unauthorized: authentication required`, ociregistry.ErrUnauthorized},
		{401, `{"details":"incorrect username or password"}`, `token from auth.test: 401 Unauthorized: unauthorized: incorrect username or password`, ociregistry.ErrUnauthorized},
		{400, `{"error":"invalid_grant","error_description":"gone"}`, `token from auth.test: 400 Bad Request: unauthorized: invalid_grant: gone`, ociregistry.ErrUnauthorized},
		{400, `{"error":"invalid_request"}`, `token from auth.test: 400 Bad Request: invalid_request`, nil},
		{403, `{"errors":[{"code":"DENIED","message":"not yours"}]}`, `token from auth.test: 403 Forbidden: denied: not yours`, ociregistry.ErrDenied},
		{429, `{"message":"slow\ndown\u0007"}`, `token from auth.test: 429 Too Many Requests: toomanyrequests: slow down `, ociregistry.ErrTooManyRequests},
		{503, `<html>down</html>`, `token from auth.test: 503 Service Unavailable`, nil},
		{500, `{"message":"` + strings.Repeat("x", 1000) + `"}`, `token from auth.test: 500 Internal Server Error: ` + strings.Repeat("x", 256), nil},
		{401, `{"message":"the password hunter2 is wrong","details":"bad"}`, `token from auth.test: 401 Unauthorized: unauthorized: bad`, ociregistry.ErrUnauthorized},
		{200, `{}`, `token from auth.test: the answer has no token, or a malformed one`, nil},
		{200, `{"token":"a\r\nX: y"}`, `token from auth.test: the answer has no token, or a malformed one`, nil},
		{200, `{"token":123}`, `token from auth.test: the answer is not the JSON of a token`, nil},
		{200, `<html>`, `token from auth.test: the answer is not the JSON of a token`, nil},
		{200, `{"token":"` + strings.Repeat("x", 128<<10) + `"}`, `token from auth.test: the answer is larger than 131072 bytes`, nil},
	}
	for _, test := range tests {
		s := &tokenServer{answer: func(w http.ResponseWriter, req *http.Request) bool {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(test.status)
			w.Write([]byte(test.body))
			return true
		}}
		client := newClient(bearerWorld(s), config{"registry.test": {Username: "user", Password: "hunter2"}})
		_, err := client.Get(registryURL + "/v2/foo/manifests/x")
		qt.Assert(t, qt.IsNotNil(err))
		qt.Check(t, qt.Equals(errors.Unwrap(err).Error(), test.want))
		for _, sentinel := range []error{ociregistry.ErrUnauthorized, ociregistry.ErrDenied, ociregistry.ErrTooManyRequests} {
			qt.Check(t, qt.Equals(errors.Is(err, sentinel), sentinel == test.is), qt.Commentf("%v: %v", err, sentinel))
		}
		var herr ociregistry.HTTPError
		qt.Assert(t, qt.Equals(errors.As(err, &herr), test.status != 200))
		if herr != nil {
			qt.Check(t, qt.Equals(herr.StatusCode(), test.status))
			qt.Check(t, qt.Equals(herr.Response().Header.Get("Retry-After"), "7"))
			qt.Check(t, qt.IsNil(herr.Response().Request))
		}
	}
}

func TestUnreachableTokenServerIsNoRefusal(t *testing.T) {
	t.Parallel()
	w := bearerWorld(new(tokenServer))
	delete(w.hosts, "https://auth.test")
	_, err := newClient(w, userPass).Get(registryURL + "/v2/foo/manifests/x")
	qt.Check(t, qt.ErrorMatches(err, `Get "https://registry.test/v2/foo/manifests/x": token from auth.test: no such host: https://auth.test`))
	w.wantLog(t, "GET https://registry.test/v2/foo/manifests/x 401")
}

func TestRedirectOfTokenServerTakesCredentialsNowhereElse(t *testing.T) {
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
