package ociauth_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

func TestRevokedTokenIsReplaced(t *testing.T) {
	t.Parallel()
	s := new(tokenServer)
	w := bearerWorld(s)
	client := newClient(w, nil)
	qt.Check(t, qt.Equals(get(t, client, "/v2/foo/manifests/x"), http.StatusOK))
	s.revoke()
	w.take()
	qt.Check(t, qt.Equals(get(t, client, "/v2/foo/manifests/x"), http.StatusOK))
	w.wantLog(t,
		"GET https://registry.test/v2/foo/manifests/x Bearer t1 401",
		tokenForFoo+" 200",
		"GET https://registry.test/v2/foo/manifests/x Bearer t2 200")
}

func TestRevokedTokenIsReplacedOnceForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := new(tokenServer)
		w := bearerWorld(s)
		client := newClient(w, nil)
		get(t, client, "/v2/foo/manifests/x")
		s.revoke()
		for range 20 {
			go get(t, client, "/v2/foo/manifests/x")
		}
		synctest.Wait()
		qt.Check(t, qt.Equals(count(w.take(), tokenForFoo+" 200"), 2))
	})
}

// An upload is sent again if its request has GetBody. Otherwise the caller gets the
// 401, and its next attempt a new token.
func TestUploadIsSentAgainWithNewToken(t *testing.T) {
	t.Parallel()
	s := new(tokenServer)
	w := bearerWorld(s)
	client := newClient(w, nil)
	send := func(body io.Reader) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), "PATCH", registryURL+"/v2/foo/blobs/uploads/1", body)
		qt.Assert(t, qt.IsNil(err))
		resp, err := client.Do(req)
		qt.Assert(t, qt.IsNil(err))
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		qt.Assert(t, qt.IsNil(err))
		return resp.StatusCode, string(data)
	}
	const upload, token = "PATCH https://registry.test/v2/foo/blobs/uploads/1", "GET https://auth.test/token?scope=repository%3Afoo%3Apull%2Cpush&service=registry.test"

	status, body := send(strings.NewReader("content"))
	qt.Check(t, qt.Equals(status, http.StatusOK))
	qt.Check(t, qt.Equals(body, "content"))
	w.wantLog(t, upload+" 401", token+" 200", upload+" Bearer t1 200")

	s.revoke()
	status, body = send(bytes.NewReader([]byte("content")))
	qt.Check(t, qt.Equals(status, http.StatusOK))
	qt.Check(t, qt.Equals(body, "content"))
	w.wantLog(t, upload+" Bearer t1 401", token+" 200", upload+" Bearer t2 200")

	s.revoke()
	status, body = send(io.MultiReader(strings.NewReader("content")))
	qt.Check(t, qt.Equals(status, http.StatusUnauthorized))
	qt.Check(t, qt.Equals(body, `{"errors":[{"code":"UNAUTHORIZED"}]}`))
	w.wantLog(t, upload+" Bearer t2 401")
	status, body = send(io.MultiReader(strings.NewReader("content")))
	qt.Check(t, qt.Equals(status, http.StatusOK))
	qt.Check(t, qt.Equals(body, "content"))
	w.wantLog(t, token+" 200", upload+" Bearer t3 200")
}

func TestRefusalOfNewTokenIsFinal(t *testing.T) {
	t.Parallel()
	w := bearerWorld(new(tokenServer))
	w.hosts[registryURL] = challenged{
		allow: func(*http.Request) bool { return false },
		challenge: func(*http.Request) []string {
			return []string{`Bearer realm="https://auth.test/token",service="registry.test",scope="repository:foo:pull"`}
		},
	}
	client := newClient(w, nil)
	resp, err := client.Get(registryURL + "/v2/foo/manifests/x")
	qt.Assert(t, qt.IsNil(err))
	data, err := io.ReadAll(resp.Body)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(resp.Body.Close()))
	qt.Check(t, qt.Equals(resp.StatusCode, http.StatusUnauthorized))
	qt.Check(t, qt.Equals(string(data), `{"errors":[{"code":"UNAUTHORIZED"}]}`))
	const manifest = "GET https://registry.test/v2/foo/manifests/x"
	w.wantLog(t, manifest+" 401", tokenForFoo+" 200", manifest+" Bearer t1 401")

	// The token was not cached: the second request asks for another at once.
	qt.Check(t, qt.Equals(get(t, client, "/v2/foo/manifests/x"), http.StatusUnauthorized))
	w.wantLog(t, tokenForFoo+" 200", manifest+" Bearer t2 401")
}

// A registry that changes its challenge with each response does not keep the client
// busy for ever.
func TestChangingChallengesAreMetAFewTimes(t *testing.T) {
	t.Parallel()
	s := new(tokenServer)
	w := bearerWorld(s)
	n := 0
	w.hosts[registryURL] = challenged{
		allow: func(*http.Request) bool { n++; return false },
		challenge: func(*http.Request) []string {
			return []string{`Bearer realm="https://auth.test/token",scope="repository:foo` + strings.Repeat("o", n) + `:pull"`}
		},
	}
	qt.Check(t, qt.Equals(get(t, newClient(w, nil), "/v2/foo/manifests/x"), http.StatusUnauthorized))
	qt.Check(t, qt.Equals(n, 5))
}

// The Config is asked again for credentials that the registry refused: they may have
// been replaced.
func TestReplacedPasswordIsUsed(t *testing.T) {
	t.Parallel()
	userpass := "user:first"
	w := &world{hosts: map[string]http.Handler{registryURL: basicRegistry(&userpass)}}
	asked := 0
	password := "first"
	client := newClient(w, configFunc(func(host string) (ociauth.ConfigEntry, error) {
		qt.Check(t, qt.Equals(host, "registry.test"))
		asked++
		return ociauth.ConfigEntry{Username: "user", Password: password}, nil
	}))
	for range 3 {
		qt.Check(t, qt.Equals(get(t, client, "/v2/"), http.StatusOK))
	}
	qt.Check(t, qt.Equals(asked, 1))

	userpass, password = "user:second", "second"
	w.take()
	qt.Check(t, qt.Equals(get(t, client, "/v2/"), http.StatusOK))
	w.wantLog(t,
		"GET https://registry.test/v2/ Basic user:first 401",
		"GET https://registry.test/v2/ Basic user:second 200")
	qt.Check(t, qt.Equals(asked, 2))

	// The same holds for an upload that cannot be sent again.
	userpass, password = "user:third", "third"
	for _, status := range []int{http.StatusUnauthorized, http.StatusOK} {
		req, err := http.NewRequestWithContext(t.Context(), "PATCH", registryURL+"/upload", io.MultiReader(strings.NewReader("content")))
		qt.Assert(t, qt.IsNil(err))
		resp, err := client.Do(req)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(end(t, resp), status))
	}
	w.take()

	userpass = "user:fourth"
	qt.Check(t, qt.Equals(get(t, client, "/v2/"), http.StatusUnauthorized))
	w.wantLog(t, "GET https://registry.test/v2/ Basic user:third 401")
	qt.Check(t, qt.Equals(asked, 4))
}

// A user without credentials may have some at the next request.
func TestLaterLoginIsUsed(t *testing.T) {
	t.Parallel()
	userpass := "user:pass"
	w := &world{hosts: map[string]http.Handler{registryURL: basicRegistry(&userpass)}}
	asked := 0
	var entry ociauth.ConfigEntry
	client := newClient(w, configFunc(func(string) (ociauth.ConfigEntry, error) {
		asked++
		return entry, nil
	}))
	for i := range 3 {
		qt.Check(t, qt.Equals(get(t, client, "/v2/"), http.StatusUnauthorized))
		qt.Check(t, qt.Equals(asked, i+1))
	}
	entry = ociauth.ConfigEntry{Username: "user", Password: "pass"}
	for range 3 {
		qt.Check(t, qt.Equals(get(t, client, "/v2/"), http.StatusOK))
		qt.Check(t, qt.Equals(asked, 4))
	}
}

// The Config is also asked again for credentials that the token server refused.
func TestReplacedPasswordIsUsedForTokenServer(t *testing.T) {
	t.Parallel()
	good := "first"
	s := &tokenServer{answer: func(w http.ResponseWriter, req *http.Request) bool {
		if _, password, _ := req.BasicAuth(); password != good {
			return respond(w, http.StatusUnauthorized, "no")
		}
		return false
	}}
	w := bearerWorld(s)
	password := "first"
	client := newClient(w, configFunc(func(string) (ociauth.ConfigEntry, error) {
		return ociauth.ConfigEntry{Username: "user", Password: password}, nil
	}))
	qt.Check(t, qt.Equals(get(t, client, "/v2/foo/manifests/x"), http.StatusOK))
	good, password = "second", "second"
	w.take()
	qt.Check(t, qt.Equals(get(t, client, "/v2/bar/manifests/x"), http.StatusOK))
	const token = "GET https://auth.test/token?scope=repository%3Abar%3Apull&service=registry.test"
	w.wantLog(t,
		token+" Basic user:first 401",
		token+" Basic user:second 200",
		"GET https://registry.test/v2/bar/manifests/x Bearer t2 200")

	good = "third"
	_, err := client.Get(registryURL + "/v2/baz/manifests/x")
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrUnauthorized)))
}

// A request that writes is not sent without the registry token that was refused.
func TestRefusalOfRegistryTokenIsFinalForWrites(t *testing.T) {
	t.Parallel()
	w := bearerWorld(new(tokenServer))
	client := newClient(w, config{"registry.test": {AccessToken: "static"}})
	for range 2 {
		qt.Check(t, qt.Equals(do(t, t.Context(), client, "PUT", "/v2/foo/manifests/x"), http.StatusUnauthorized))
	}
	w.wantLog(t,
		"PUT https://registry.test/v2/foo/manifests/x Bearer static 401",
		"PUT https://registry.test/v2/foo/manifests/x Bearer static 401")
}
