package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"golang.org/x/crypto/bcrypt"
)

// startWithUser runs the program in memory for a user ali, whose password is x.
func startWithUser(t *testing.T, args ...string) (host string) {
	hash, err := bcrypt.GenerateFromPassword([]byte("x"), bcrypt.MinCost)
	qt.Assert(t, qt.IsNil(err))
	file := filepath.Join(t.TempDir(), "users")
	qt.Assert(t, qt.IsNil(os.WriteFile(file, append([]byte("ali:"), hash...), 0o600)))
	host, _ = start(t, append(args, "-htpasswd", file)...)
	return host
}

// status returns the status of an answer. Authorization is a user and a password with a colon
// between them, or a header.
func status(t *testing.T, transport http.RoundTripper, method, url, authorization string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader("{}"))
	qt.Assert(t, qt.IsNil(err))
	req.Header.Set("Content-Type", "application/json")
	if user, password, ok := strings.Cut(authorization, ":"); ok {
		req.SetBasicAuth(user, password)
	} else if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := transport.RoundTrip(req)
	qt.Assert(t, qt.IsNil(err))
	resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized {
		qt.Check(t, qt.Equals(resp.Header.Get("WWW-Authenticate"), `Basic realm="registry", charset="UTF-8"`))
	}
	return resp.StatusCode
}

func TestAccess_LetsUsersIn(t *testing.T) {
	t.Parallel()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	closed, open := startWithUser(t), startWithUser(t, "-anonymous-pull")
	const manifest = "/v2/app/manifests/v1"
	for _, test := range []struct {
		method, path           string
		user                   int
		anonymous, anonymously int // without and with -anonymous-pull
	}{
		{"GET", "/healthz", 200, 200, 200},
		{"GET", "/v2/", 200, 401, 401}, // clients learn here that there are passwords
		{"PUT", manifest, 201, 401, 401},
		{"GET", manifest, 200, 401, 200},
		{"GET", "/v2/_catalog", 200, 401, 200},
		{"GET", "/v2/app/tags/list", 200, 401, 200},
		{"GET", "/", 200, 401, 200},
		{"GET", "/r/app", 200, 401, 200},
		{"POST", "/v2/app/blobs/uploads/", 202, 401, 401},
		{"DELETE", manifest, 202, 401, 401},
	} {
		comment := qt.Commentf("%s %s", test.method, test.path)
		for host, want := range map[string]int{closed: test.anonymous, open: test.anonymously} {
			url := "http://" + host + test.path
			if test.method != "DELETE" {
				qt.Check(t, qt.Equals(status(t, transport, test.method, url, "ali:x"), test.user), comment)
			}
			qt.Check(t, qt.Equals(status(t, transport, test.method, url, ""), want), comment)
			qt.Check(t, qt.Equals(status(t, transport, test.method, url, ":"), want), comment)
			if test.path == "/healthz" {
				continue
			}
			for _, wrong := range []string{"ali:y", "bob:x", "ali:", "Bearer x", "Basic x"} {
				qt.Check(t, qt.Equals(status(t, transport, test.method, url, wrong), 401), comment)
			}
		}
	}
	qt.Check(t, qt.Equals(status(t, transport, "DELETE", "http://"+closed+manifest, "ali:x"), 202))
}

func TestAccess_RefusesNonsense(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "users")
	qt.Assert(t, qt.IsNil(os.WriteFile(file, []byte("ali:x\n"), 0o600)))
	for want, args := range map[string][]string{
		"-anonymous-pull is for -htpasswd": {"-anonymous-pull"},
		"line 1 has no bcrypt hash":        {"-htpasswd", file},
		"no such file or directory":        {"-htpasswd", file + "s"},
	} {
		var errs strings.Builder
		got := program().Run(t.Context(), append(args, "-addr", "127.0.0.1:0"), &strings.Builder{}, &errs)
		qt.Check(t, qt.Equals(got, 1))
		qt.Check(t, qt.StringContains(errs.String(), want))
	}
}
