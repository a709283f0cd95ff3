package ociauth_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/leak"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

const tokenForFoo = "GET https://auth.test/token?scope=repository%3Afoo%3Apull&service=registry.test"

func TestBehaviour28_OneTokenRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &tokenServer{answer: func(http.ResponseWriter, *http.Request) bool {
			<-release
			return false
		}}
		w := bearerWorld(s)
		client := newClient(w, nil)
		var ok atomic.Int32
		for range 50 {
			go func() {
				if get(t, client, "/v2/foo/manifests/x") == http.StatusOK {
					ok.Add(1)
				}
			}()
		}
		synctest.Wait()
		close(release)
		synctest.Wait()
		qt.Check(t, qt.Equals(ok.Load(), 50))
		log := w.take()
		qt.Check(t, qt.Equals(count(log, tokenForFoo+" 200"), 1))
		qt.Check(t, qt.Equals(count(log, "GET https://registry.test/v2/foo/manifests/x Bearer t1 200"), 50))
	})
}

// One caller after the other goes. The token request goes on until the last has.
func TestBehaviour28_WaitsAreCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := false
		s := &tokenServer{answer: func(_ http.ResponseWriter, req *http.Request) bool {
			<-req.Context().Done()
			ended = true
			return true
		}}
		client := newClient(bearerWorld(s), nil)
		const n = 5
		errs := make([]error, n)
		cancels := make([]context.CancelFunc, n)
		for i := range n {
			ctx, cancel := context.WithCancel(t.Context())
			cancels[i] = cancel
			req, err := http.NewRequestWithContext(ctx, "GET", registryURL+"/v2/foo/manifests/x", nil)
			qt.Assert(t, qt.IsNil(err))
			go func() { _, errs[i] = client.Do(req) }()
			synctest.Wait()
		}
		for i, cancel := range cancels {
			qt.Check(t, qt.IsNil(errs[i]))
			qt.Check(t, qt.IsFalse(ended))
			cancel()
			synctest.Wait()
			qt.Check(t, qt.ErrorIs(errs[i], context.Canceled))
		}
		qt.Check(t, qt.IsTrue(ended))
	})
}

// A token request that was given up is not what the next caller waits for.
func TestBehaviour28_AfterACancelledRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first := true
		s := &tokenServer{answer: func(_ http.ResponseWriter, req *http.Request) bool {
			if !first {
				return false
			}
			first = false
			<-req.Context().Done()
			time.Sleep(time.Hour) // slow to end
			return true
		}}
		client := newClient(bearerWorld(s), nil)
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "GET", registryURL+"/v2/foo/manifests/x", nil)
		qt.Assert(t, qt.IsNil(err))
		_, err = client.Do(req)
		qt.Assert(t, qt.ErrorIs(err, context.DeadlineExceeded))
		qt.Check(t, qt.Equals(get(t, client, "/v2/foo/manifests/x"), http.StatusOK))
		qt.Check(t, qt.Equals(time.Since(start), time.Minute))
		time.Sleep(time.Hour)
	})
}

// A Config that hangs does not keep a caller whose context ends.
func TestBehaviour28_WaitForConfigIsCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := configFunc(func(string) (ociauth.ConfigEntry, error) {
			time.Sleep(time.Hour)
			return ociauth.ConfigEntry{}, nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "GET", registryURL+"/v2/foo/manifests/x", nil)
		qt.Assert(t, qt.IsNil(err))
		start := time.Now()
		_, err = newClient(bearerWorld(new(tokenServer)), c).Do(req)
		qt.Check(t, qt.ErrorIs(err, context.DeadlineExceeded))
		qt.Check(t, qt.Equals(time.Since(start), time.Second))
		time.Sleep(time.Hour)
	})
}

func TestBehaviour28_RevokedTokenIsDropped(t *testing.T) {
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

func TestBehaviour28_RevokedTokenOfMany(t *testing.T) {
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

// An upload whose body can be had again is sent again.
func TestBehaviour28_RevokedInAnUpload(t *testing.T) {
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

	// One that cannot gets the 401, and the next attempt a new token.
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

func TestBehaviour28_FreshTokenIsFinal(t *testing.T) {
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

	// The token was not kept: a second call asks for one at once.
	qt.Check(t, qt.Equals(get(t, client, "/v2/foo/manifests/x"), http.StatusUnauthorized))
	w.wantLog(t, tokenForFoo+" 200", manifest+" Bearer t2 401")
}

// A registry whose mind changes with each answer does not keep us for ever.
func TestBehaviour28_RestlessRegistry(t *testing.T) {
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

// Basic credentials that were refused are asked for again, for they may have
// been replaced.
func TestBehaviour28_ReplacedPassword(t *testing.T) {
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

	// In an upload that cannot be sent again, too.
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

// One who had no credentials may have some by the next time.
func TestBehaviour28_LoginLater(t *testing.T) {
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

// So are those that the token server refused.
func TestBehaviour28_ReplacedPasswordOfTokenServer(t *testing.T) {
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

// A registry token that was refused is final too, where what is public is of no use.
func TestBehaviour28_StaticTokenIsFinal(t *testing.T) {
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

// Nothing is left running when all is done.
func TestBehaviour28_Goroutines(t *testing.T) {
	before := leak.Goroutines()
	s := &tokenServer{fields: `,"expires_in":1`}
	w := bearerWorld(s)
	client := newClient(w, userPass)
	for _, repo := range []string{"a", "b", "c", "d"} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		req, err := http.NewRequestWithContext(ctx, "GET", registryURL+"/v2/"+repo+"/manifests/x", nil)
		qt.Assert(t, qt.IsNil(err))
		_, err = client.Do(req)
		qt.Check(t, qt.ErrorIs(err, context.Canceled))
		qt.Check(t, qt.Equals(get(t, client, "/v2/"+repo+"/manifests/x"), http.StatusOK))
	}
	before.Check(t)
}
