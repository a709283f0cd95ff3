package ociauth_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/leak"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

func TestConcurrentRequestsShareOneTokenRequest(t *testing.T) {
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

func TestTokenRequestEndsWhenTheLastCallerLeaves(t *testing.T) {
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

func TestAbandonedTokenRequestIsNotJoined(t *testing.T) {
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

func TestWaitForConfigEndsWithTheContext(t *testing.T) {
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

func TestTransportLeavesNoGoroutines(t *testing.T) {
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
