package ociserver_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociserver"
)

// pushAndPull makes the requests of a client, which follows the locations in the answers.
func (s *site) pushAndPull(prefix string) {
	s.t.Helper()
	large := strings.Repeat(helloWorld, 100_000)
	d := string(digest.FromString(large))

	s.do("GET", prefix+"/v2/", "").want(s.t, http.StatusOK)
	loc := s.do("POST", prefix+"/v2/foo/blobs/uploads/", "").want(s.t, http.StatusAccepted).Header.Get("Location")
	loc = s.do("PATCH", loc, large[:1000]).want(s.t, http.StatusAccepted).Header.Get("Location")
	loc = s.doReader("PATCH", loc, io.MultiReader(strings.NewReader(large[1000:]))).want(s.t, http.StatusAccepted).Header.Get("Location")
	loc = s.do("GET", loc, "").want(s.t, http.StatusNoContent).Header.Get("Location")
	loc = s.do("PUT", loc+"?digest="+d, "").want(s.t, http.StatusCreated).Header.Get("Location")
	a := s.do("GET", loc, "").want(s.t, http.StatusOK)
	qt.Check(s.t, qt.IsTrue(a.body == large))
	a = s.do("GET", loc, "", "Range", "bytes=500000-").want(s.t, http.StatusPartialContent)
	qt.Check(s.t, qt.IsTrue(a.body == large[500000:]))

	loc = s.do("POST", prefix+"/v2/bar/blobs/uploads/?from=foo&mount="+d, "").want(s.t, http.StatusCreated).Header.Get("Location")
	s.do("HEAD", loc, "").want(s.t, http.StatusOK).wantHeaders(s.t, "Content-Length", fmt.Sprint(len(large)))

	for _, tag := range []string{"a", "b", "c"} {
		loc = s.do("PUT", prefix+"/v2/foo/manifests/"+tag, "something").want(s.t, http.StatusCreated).Header.Get("Location")
	}
	a = s.do("GET", loc, "").want(s.t, http.StatusOK)
	qt.Check(s.t, qt.Equals(a.body, "something"))
	qt.Check(s.t, qt.Equals(len(s.pages(prefix+"/v2/foo/tags/list?n=1")), 3))
	s.do("DELETE", loc, "").want(s.t, http.StatusAccepted)
}

func TestStripPrefix_LocationsHaveThePrefix(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"/registry", "/a/b", "/my%20registry"} {
		plain := strings.ReplaceAll(prefix, "%20", " ")
		s := serveHandler(t, http.StripPrefix(plain, ociserver.New(ocimem.New(), nil)))
		s.pushAndPull(prefix)
		a := s.do("POST", prefix+"/v2/foo/blobs/uploads/?x=/v2/", "").want(t, http.StatusAccepted)
		qt.Check(t, qt.IsTrue(strings.HasPrefix(a.Header.Get("Location"), prefix+"/v2/foo/blobs/uploads/")), qt.Commentf("%s", a.Header.Get("Location")))
	}
}

// A location in an answer stays on the host, whatever the client writes as the request
// target.
func TestLocation_StaysOnTheHost(t *testing.T) {
	t.Parallel()
	h := ociserver.New(ocimem.New(), nil)
	tests := []struct{ uri, prefix string }{
		{"/v2/foo/blobs/uploads/", ""},
		{"/x/v2/foo/blobs/uploads/?y=z", "/x"},
		{"http://example.com/v2/foo/blobs/uploads/", ""},
		{"http://example.com/x/v2/foo/blobs/uploads/", "/x"},
		{"//evil.example.com/v2/foo/blobs/uploads/", ""},
		{"http:////evil.example.com/v2/foo/blobs/uploads/", ""},
		{`/\evil.example.com/v2/foo/blobs/uploads/`, ""},
		{"evil.example.com/v2/foo/blobs/uploads/", ""},
		{"/something/else", ""},
		{"http://", ""},
		{"", ""},
	}
	for _, test := range tests {
		req := httptest.NewRequest("POST", "/v2/foo/blobs/uploads/", nil)
		req.RequestURI = test.uri
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		loc := w.Header().Get("Location")
		qt.Check(t, qt.IsTrue(strings.HasPrefix(loc, test.prefix+"/v2/foo/blobs/uploads/")), qt.Commentf("%s: %s", test.uri, loc))
	}
}

func TestTLS_ServesPushAndPull(t *testing.T) {
	t.Parallel()
	srv := httptest.NewTLSServer(ociserver.New(ocimem.New(), nil))
	t.Cleanup(srv.Close)
	s := newSite(t, srv)
	s.pushAndPull("")
	qt.Check(t, qt.Equals(s.do("GET", "/v2/", "").ProtoMajor, 1))
}

func TestHTTP2_ServesPushAndPull(t *testing.T) {
	t.Parallel()
	s := serveHTTP2(t, ociserver.New(ocimem.New(), nil))
	s.pushAndPull("")
	qt.Check(t, qt.Equals(s.do("GET", "/v2/", "").ProtoMajor, 2))
}

func serveHTTP2(t *testing.T, h http.Handler) *site {
	srv := httptest.NewUnstartedServer(h)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return newSite(t, srv)
}

// Every request that has reached the handler before the shutdown gets its whole answer.
func TestShutdown_AnswersEveryRequestThatHasBegun(t *testing.T) {
	t.Parallel()
	const mark = "Begun" // the header of answers that have begun before the shutdown
	var begun, answered atomic.Int64
	var stopping atomic.Bool
	loaded := make(chan struct{})
	h := ociserver.New(ocimem.New(), nil)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !stopping.Load() {
			w.Header().Set(mark, "true")
			if begun.Add(1) == 100 {
				close(loaded)
			}
		}
		h.ServeHTTP(w, req)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	qt.Assert(t, qt.IsNil(err))
	served := make(chan error)
	go func() { served <- srv.Serve(l) }()

	content := strings.Repeat("x", 200_000)
	d := string(digest.FromString(content))
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			request := func(method, path, body string) bool {
				req, err := http.NewRequest(method, "http://"+l.Addr().String()+path, strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return false
				}
				resp, err := client.Do(req)
				if err != nil {
					return false
				}
				defer resp.Body.Close()
				n, err := io.Copy(io.Discard, resp.Body)
				if err != nil || resp.StatusCode >= 300 || method == "GET" && n != int64(len(content)) {
					t.Errorf("%s %s: status %d, %d bytes, %v", method, path, resp.StatusCode, n, err)
				}
				if resp.Header.Get(mark) != "" {
					answered.Add(1)
				}
				return true
			}
			repo := fmt.Sprintf("/v2/repo%d", i)
			for request("POST", repo+"/blobs/uploads/?digest="+d, content) && request("GET", repo+"/blobs/"+d, "") {
			}
		})
	}
	<-loaded
	stopping.Store(true)
	qt.Check(t, qt.IsNil(srv.Shutdown(context.Background())))
	clients.Wait()
	qt.Check(t, qt.ErrorIs(<-served, http.ErrServerClosed))
	qt.Check(t, qt.Equals(answered.Load(), begun.Load()))
}
