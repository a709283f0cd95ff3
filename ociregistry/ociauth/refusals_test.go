package ociauth_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

// What a token server refuses, where less will do, is not asked for with each mount
// again; but after a while it is.
func TestRefusedTokenIsNotAskedForWithEachMount(t *testing.T) {
	t.Parallel()
	for name, challenge := range map[string]func(*http.Request) string{"for both": allOfMount, "for the destination": onlyDestination} {
		for _, otherwise := range []int{202, 401, 403} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s, forBoth, refusing := new(tokenServer), 0, true
					s.answer = func(w http.ResponseWriter, req *http.Request) bool {
						if joined(req) {
							forBoth++
						}
						return joined(req) && refusing && respond(w, http.StatusForbidden, "no")
					}
					w := &world{hosts: map[string]http.Handler{registryURL: mountRegistry{s, otherwise, challenge}, "https://auth.test": s}}
					client := newClient(w, userPass)
					mount := func() int { return do(t, t.Context(), client, "POST", mountFromSrc) }
					for range 10 {
						qt.Check(t, qt.Equals(mount(), otherwise))
						qt.Check(t, qt.Equals(do(t, t.Context(), client, "POST", uploadsOfDst), http.StatusAccepted))
					}
					qt.Check(t, qt.Equals(forBoth, 1))

					// The refusal says nothing about another repository.
					if otherwise == 202 {
						do(t, t.Context(), client, "POST", strings.ReplaceAll(mountFromSrc, "src", "third"))
						qt.Check(t, qt.Equals(forBoth, 2))
					}

					refusing = false
					time.Sleep(time.Minute)
					qt.Check(t, qt.Equals(mount(), http.StatusCreated))
				})
			})
		}
	}
}

// The same for more than a request needs, which its context asks for.
func TestRefusedTokenForMoreIsNotAskedForEachTime(t *testing.T) {
	t.Parallel()
	s, forMore := new(tokenServer), 0
	s.answer = func(w http.ResponseWriter, req *http.Request) bool {
		if !joined(req) {
			return false
		}
		forMore++
		return respond(w, http.StatusForbidden, "no")
	}
	s.fields = `,"expires_in":0.000001`
	client := newClient(bearerWorld(s), userPass)
	ctx := ociauth.ContextWithScope(t.Context(), ociauth.ParseScope("repository:bar:pull"))
	for range 3 {
		qt.Check(t, qt.Equals(do(t, ctx, client, "GET", "/v2/foo/manifests/x"), http.StatusOK))
	}
	qt.Check(t, qt.Equals(forMore, 1))
}

// Another account may be granted what the one before was not.
func TestRefusalOfATokenEndsWithTheAccount(t *testing.T) {
	t.Parallel()
	s := new(tokenServer)
	good := "pass"
	s.answer = func(w http.ResponseWriter, req *http.Request) bool {
		_, pass, _ := req.BasicAuth()
		if pass != good {
			return respond(w, http.StatusUnauthorized, "no")
		}
		return joined(req) && pass == "pass" && respond(w, http.StatusForbidden, "no")
	}
	w := &world{hosts: map[string]http.Handler{registryURL: mountRegistry{s, 202, allOfMount}, "https://auth.test": s}}
	client := newClient(w, configFunc(func(string) (ociauth.ConfigEntry, error) {
		return ociauth.ConfigEntry{Username: "user", Password: good}, nil
	}))
	qt.Check(t, qt.Equals(do(t, t.Context(), client, "POST", mountFromSrc), http.StatusAccepted))
	good = "better"
	s.revoke()
	qt.Check(t, qt.Equals(do(t, t.Context(), client, "POST", uploadsOfDst), http.StatusAccepted))
	qt.Check(t, qt.Equals(do(t, t.Context(), client, "POST", mountFromSrc), http.StatusCreated))
}

// An account that is of no use for what the registry wants is not looked for with each
// answer that may be different for another one; but after a while it is.
func TestConfigIsNotAskedAboutEachAbsence(t *testing.T) {
	t.Parallel()
	for _, status := range []int{401, 403, 404} {
		synctest.Test(t, func(t *testing.T) {
			asked, entry := 0, ociauth.ConfigEntry{AccessToken: "static"}
			client := newClient(
				&world{hosts: map[string]http.Handler{"http://registry.test": silent{status, allowBasic, `Basic realm="x"`}}},
				configFunc(func(string) (ociauth.ConfigEntry, error) {
					asked++
					return entry, nil
				}))
			get := func() int {
				resp, err := client.Get("http://registry.test/v2/foo/manifests/x")
				qt.Assert(t, qt.IsNil(err))
				return end(t, resp)
			}
			for range 10 {
				qt.Check(t, qt.Equals(get(), status))
			}
			qt.Check(t, qt.Equals(asked, 1))
			entry = userPass["registry.test"]
			time.Sleep(time.Minute)
			qt.Check(t, qt.Equals(get(), http.StatusOK))
			qt.Check(t, qt.Equals(asked, 2))
		})
	}
}
