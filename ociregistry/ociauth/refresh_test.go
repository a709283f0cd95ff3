package ociauth_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
)

func TestRefreshTokenIsSentByGetWhereThereIsNoPost(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented} {
		s := &tokenServer{answer: func(w http.ResponseWriter, req *http.Request) bool {
			if req.Method == http.MethodPost {
				w.WriteHeader(status)
				return true
			}
			return false
		}}
		w := bearerWorld(s)
		client := newClient(w, config{"registry.test": {Username: "user", RefreshToken: "refresh"}})
		qt.Check(t, qt.Equals(get(t, client, "/v2/foo/manifests/x"), http.StatusOK))
		w.wantLog(t,
			"GET https://registry.test/v2/foo/manifests/x 401",
			fmt.Sprintf("POST https://auth.test/token client_id=ociauth&grant_type=refresh_token&refresh_token=refresh&scope=repository%%3Afoo%%3Apull&service=registry.test %d", status),
			"GET https://auth.test/token?scope=repository%3Afoo%3Apull&service=registry.test Basic user:refresh 200",
			"GET https://registry.test/v2/foo/manifests/x Bearer t1 200")

		// The transport remembers that.
		qt.Check(t, qt.Equals(get(t, client, "/v2/bar/manifests/x"), http.StatusOK))
		w.wantLog(t,
			"GET https://auth.test/token?scope=repository%3Abar%3Apull&service=registry.test Basic user:refresh 200",
			"GET https://registry.test/v2/bar/manifests/x Bearer t2 200")
	}
}

func TestRefreshTokenIsReplaced(t *testing.T) {
	t.Parallel()
	good := "first"
	s := &tokenServer{fields: `,"refresh_token":"second"`}
	s.answer = func(w http.ResponseWriter, req *http.Request) bool {
		switch {
		case req.FormValue("refresh_token") != good:
			return respond(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant"})
		case strings.Contains(req.FormValue("scope"), "secret"):
			return respond(w, http.StatusForbidden, "no")
		}
		good = "second"
		return false
	}
	client := newClient(bearerWorld(s), config{"registry.test": {RefreshToken: "first"}})
	qt.Check(t, qt.Equals(get(t, client, "/v2/foo/manifests/x"), http.StatusOK))
	qt.Check(t, qt.Equals(get(t, client, "/v2/bar/manifests/x"), http.StatusOK))

	// The refusal of one scope does not lose the refresh token.
	_, err := client.Get(registryURL + "/v2/secret/manifests/x")
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrDenied)))
	qt.Check(t, qt.Equals(get(t, client, "/v2/baz/manifests/x"), http.StatusOK))
}

// A refresh token that another request used up meanwhile is no refusal.
func TestUsedUpRefreshTokenIsReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var used atomic.Bool
		s := &tokenServer{fields: `,"refresh_token":"second"`}
		s.answer = func(w http.ResponseWriter, req *http.Request) bool {
			switch {
			case req.FormValue("refresh_token") == "second":
				return false
			case strings.Contains(req.FormValue("scope"), "slow"):
				time.Sleep(time.Second)
			}
			if !used.CompareAndSwap(false, true) {
				return respond(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant"})
			}
			return false
		}
		client := newClient(bearerWorld(s), config{"registry.test": {RefreshToken: "first"}})
		var wg sync.WaitGroup
		for _, repo := range []string{"slow", "fast"} {
			wg.Go(func() { qt.Check(t, qt.Equals(get(t, client, "/v2/"+repo+"/manifests/x"), http.StatusOK)) })
		}
		wg.Wait()
	})
}
