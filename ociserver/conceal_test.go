package ociserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
	"github.com/seed-40b21970/oci/ociunify"
)

// failing returns a registry whose methods all fail with err.
func failing(err error) ociregistry.Interface {
	return &ociregistry.Funcs{NewError: func(context.Context, string, string) error { return err }}
}

// everyRequest has a request of each kind.
var everyRequest = []string{
	"GET /v2/_catalog",
	"GET /v2/foo/tags/list",
	"GET /v2/foo/referrers/" + string(absent),
	"GET /v2/foo/manifests/latest",
	"HEAD /v2/foo/manifests/latest",
	"PUT /v2/foo/manifests/latest",
	"DELETE /v2/foo/manifests/latest",
	"GET /v2/foo/blobs/" + string(absent),
	"HEAD /v2/foo/blobs/" + string(absent),
	"DELETE /v2/foo/blobs/" + string(absent),
	"POST /v2/foo/blobs/uploads/",
	"POST /v2/foo/blobs/uploads/?digest=" + string(absent),
	"POST /v2/foo/blobs/uploads/?mount=" + string(absent) + "&from=bar",
	"GET /v2/foo/blobs/uploads/MQ",
	"PATCH /v2/foo/blobs/uploads/MQ",
	"PUT /v2/foo/blobs/uploads/MQ?digest=" + string(absent),
	"DELETE /v2/foo/blobs/uploads/MQ",
}

// The cause of a server error is in the log. The answer has only a reference to it.
func TestServerErrorsNameNothing(t *testing.T) {
	t.Parallel()
	upstream := &ociregistry.OpError{Op: "GetTag", Registry: "upstream.internal", Err: &net.OpError{
		Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 5000}, Err: syscall.ECONNREFUSED,
	}}
	detailed := ociregistry.NewError("see /var/lib/secret", "TEAPOT", json.RawMessage(`"/var/lib/secret"`))
	for _, test := range []struct {
		name   string
		err    error
		status int
		hidden []string
	}{
		{"path", &fs.PathError{Op: "open", Path: "/var/lib/secret", Err: syscall.EIO}, 500, []string{"secret"}},
		{"address of an upstream", upstream, 502, []string{"10.1.2.3", "upstream.internal"}},
		{"upstream that is slow", &ociregistry.OpError{Op: "GetTag", Registry: "upstream.internal", Err: context.DeadlineExceeded}, 504, []string{"upstream.internal"}},
		{"status of an upstream", ociregistry.NewHTTPError(errors.New("no route to 10.1.2.3"), 503, nil, nil), 503, []string{"10.1.2.3"}},
		{"code that is not known, with a detail", detailed, 500, []string{"secret"}},
		{"several", errors.Join(detailed, detailed), 500, []string{"secret"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			s := serveBackend(t, failing(test.err), &ociserver.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			for _, request := range everyRequest {
				log.Reset()
				method, path, _ := strings.Cut(request, " ")
				a := s.do(method, path, "x", "Content-Type", "text/plain").want(t, test.status)
				reference := a.Header.Get("Error-Reference")
				qt.Check(t, qt.Matches(reference, "[0-9a-f]{16}"), qt.Commentf("%s", request))
				qt.Check(t, qt.StringContains(log.String(), "reference="+reference), qt.Commentf("%s", request))
				for _, hidden := range test.hidden {
					qt.Check(t, qt.Not(qt.StringContains(a.body, hidden)), qt.Commentf("%s", request))
					qt.Check(t, qt.StringContains(log.String(), hidden), qt.Commentf("%s", request))
				}
				if method != "HEAD" {
					qt.Check(t, qt.StringContains(a.body, reference), qt.Commentf("%s", request))
				}
			}
		})
	}
}

// The answers of a proxy, of a cache and of a proxy of a proxy do not name the origin.
func TestProxiesDoNotNameTheirOrigin(t *testing.T) {
	t.Parallel()
	const addr = "127.0.0.1:1" // where nothing listens
	client := func(host string) ociregistry.Interface {
		c, err := ociclient.New(host, &ociclient.Options{Insecure: true, Retry: ociclient.RetryPolicy{Attempts: 1}})
		qt.Assert(t, qt.IsNil(err))
		return c
	}
	cache := ociunify.NewCache(ocimem.New(), client(addr), nil)
	t.Cleanup(func() { cache.Close() })
	proxy := serveBackend(t, client(addr), nil)
	for _, s := range []*site{
		proxy,
		serveBackend(t, client(strings.TrimPrefix(proxy.url, "http://")), nil),
		serveBackend(t, cache, nil),
	} {
		for _, path := range []string{"manifests/latest", "manifests/" + string(absent), "blobs/" + string(absent), "tags/list"} {
			a := s.do("GET", "/v2/foo/"+path, "")
			qt.Check(t, qt.IsTrue(a.StatusCode >= 500), qt.Commentf("%s: %d", path, a.StatusCode))
			qt.Check(t, qt.Not(qt.StringContains(a.body, addr)))
			qt.Check(t, qt.Not(qt.StringContains(a.body, "127.0.0.1")))
		}
	}
}

// WriteError can distinguish errors by their causes, and discloses nothing by writing their
// messages.
func TestWriteErrorGetsTheCause(t *testing.T) {
	t.Parallel()
	cause := errors.New("/var/lib/secret is on fire")
	s := serveBackend(t, failing(cause), &ociserver.Options{
		WriteError: func(w http.ResponseWriter, req *http.Request, err error) {
			qt.Check(t, qt.ErrorIs(err, cause))
			ociregistry.WriteError(w, err)
		},
	})
	s.do("GET", "/v2/foo/manifests/latest", "").wantConcealed(t, http.StatusInternalServerError)
}

// A client that does not wait for its answer is not logged as an error.
func TestClientThatLeavesIsNoError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		waits := func(ctx context.Context, _, _ string) error {
			<-ctx.Done()
			return &fs.PathError{Op: "open", Path: "/var/lib/secret", Err: ctx.Err()}
		}
		var log bytes.Buffer
		h := ociserver.New(&ociregistry.Funcs{NewError: waits}, &ociserver.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		for _, request := range everyRequest {
			method, path, _ := strings.Cut(request, " ")
			log.Reset()
			ctx, cancel := context.WithCancel(t.Context())
			w, done := httptest.NewRecorder(), make(chan struct{})
			go func() {
				h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader("x")).WithContext(ctx))
				close(done)
			}()
			synctest.Wait()
			cancel()
			<-done
			qt.Check(t, qt.StringContains(log.String(), "level=INFO"), qt.Commentf("%s", request))
			qt.Check(t, qt.StringContains(log.String(), "status=499"), qt.Commentf("%s", request))
			qt.Check(t, qt.Not(qt.StringContains(w.Body.String(), "secret")))
		}
	})
}

// An error about a body does not contain the address of its connection.
func TestBodyErrorsNameNoAddress(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	for _, request := range everyRequest {
		if method, _, _ := strings.Cut(request, " "); method != "PUT" && method != "PATCH" {
			continue
		}
		a := s.raw(1, request+" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n")[0]
		qt.Check(t, qt.Equals(a.StatusCode, http.StatusBadRequest))
		qt.Check(t, qt.Equals(a.body, `{"errors":[{"code":"UNKNOWN","message":"the body cannot be read"}]}`))
	}
}
