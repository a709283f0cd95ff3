package ociserver_test

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// Clients with a URL parser cannot send these requests.
func TestPathTricks_ReachNothingElse(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	s.pushManifest("foo", "latest", "something")
	tests := []struct {
		line   string
		status int
	}{
		{"GET /v2/foo/manifests/latest HTTP/1.1", 200},
		{"GET /v2/foo/manifests/latest HTTP/1.0", 200},
		{"GET /%76%32/foo/%6danifests/latest HTTP/1.1", 200},
		{"GET http://example.com/v2/foo/manifests/latest HTTP/1.1", 200},
		{"GET http://example.com HTTP/1.1", 404},
		{"GET //v2/foo/manifests/latest HTTP/1.1", 404},
		{"GET /v2//foo/manifests/latest HTTP/1.1", 400},
		{"GET /v2/foo//manifests/latest HTTP/1.1", 400},
		{"GET /v2/./foo/manifests/latest HTTP/1.1", 400},
		{"GET /v2/foo/../foo/manifests/latest HTTP/1.1", 400},
		{"GET /v2/../v2/foo/manifests/latest HTTP/1.1", 400},
		{"GET /v2/%2e%2e/v2/foo/manifests/latest HTTP/1.1", 400},
		{"GET /v2%2Ffoo/manifests/latest HTTP/1.1", 404},
		{"GET /v2/foo;x=y/manifests/latest HTTP/1.1", 400},
		{"GET /v2/foo/manifests/latest;x=y HTTP/1.1", 404},
		{"GET /v2/foo/manifests/latest%00 HTTP/1.1", 404},
		{"GET /v2/foo/manifests/latest\x00 HTTP/1.1", 400},
		{"GET /v2/foo/manifests/latest#x HTTP/1.1", 404},
		{"GET /v2/foo/tags/list?n=1;last=x HTTP/1.1", 400},
		{"GET /v2/" + strings.Repeat("a/", 100_000) + "manifests/latest HTTP/1.1", 400},
		{"get /v2/foo/manifests/latest HTTP/1.1", 405},
		{"CONNECT example.com:443 HTTP/1.1", 404},
		{"CONNECT /v2/ HTTP/1.1", 405},
		{"TRACE /v2/ HTTP/1.1", 405},
		{"OPTIONS /v2/foo/manifests/latest HTTP/1.1", 204},
		{"OPTIONS /elsewhere HTTP/1.1", 404},
	}
	for _, test := range tests {
		a := s.raw(1, test.line+"\r\nHost: x\r\nConnection: close\r\n\r\n")[0]
		qt.Check(t, qt.Equals(a.StatusCode, test.status), qt.Commentf("%.100q: %s", test.line, a.body))
		if test.status == 200 {
			qt.Check(t, qt.Equals(a.body, "something"))
		}
	}

	// No location leads elsewhere.
	a := s.raw(1, "POST http://evil.example.com/v2/foo/blobs/uploads/ HTTP/1.1\r\nHost: evil.example.com\r\n\r\n")[0]
	qt.Check(t, qt.Equals(a.StatusCode, http.StatusAccepted))
	qt.Check(t, qt.IsTrue(strings.HasPrefix(a.Header.Get("Location"), "/v2/foo/blobs/uploads/")))
	a = s.raw(1, "POST //evil.example.com/v2/foo/blobs/uploads/ HTTP/1.1\r\nHost: x\r\n\r\n")[0]
	qt.Check(t, qt.Equals(a.StatusCode, http.StatusNotFound))
}

// The body of a request is not taken for the next request, whether or not it was read.
func TestPipelining_BodyIsNotTakenForTheNextRequest(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	d := string(digest.FromString("foo"))
	smuggled := "DELETE /v2/foo/blobs/" + d + " HTTP/1.1\r\nHost: x\r\n\r\n"
	length := fmt.Sprintf("Content-Length: %d\r\n\r\n", len(smuggled))
	ping := "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"
	all := s.raw(9,
		"POST /v2/foo/blobs/uploads/?digest="+d+" HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nfoo"+ping+
			"POST /v2/foo/blobs/uploads/?digest="+d+" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n3;x=y\r\nfoo\r\n0\r\nX: y\r\n\r\n"+ping+
			"PUT /v2/FOO/manifests/latest HTTP/1.1\r\nHost: x\r\n"+length+smuggled+ping+
			"GET /v2/foo/blobs/"+d+" HTTP/1.1\r\nHost: x\r\n"+length+smuggled+ping+
			"GET /v2/foo/blobs/"+d+" HTTP/1.1\r\nHost: x\r\n\r\n")
	var statuses []int
	for _, a := range all {
		statuses = append(statuses, a.StatusCode)
	}
	qt.Check(t, qt.DeepEquals(statuses, []int{201, 200, 201, 200, 400, 200, 200, 200, 200}))
	qt.Check(t, qt.Equals(all[len(all)-1].body, "foo"))
}

// A client that waits for "100 Continue" gets that if its body is needed, and otherwise the
// answer.
func TestExpectContinue_IsAnsweredWhereTheBodyIsWanted(t *testing.T) {
	t.Parallel()
	g := &guard{}
	s := serve(t, &ociserver.Options{Authorize: g.authorize})
	post := "POST /v2/foo/blobs/uploads/?digest=" + string(digest.FromString("foo")) +
		" HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
	all := s.raw(2, post+"foo")
	qt.Check(t, qt.Equals(all[0].StatusCode, http.StatusContinue))
	qt.Check(t, qt.Equals(all[1].StatusCode, http.StatusCreated))

	g.err = ociregistry.ErrDenied
	a := s.raw(1, post)[0]
	qt.Check(t, qt.Equals(a.StatusCode, http.StatusForbidden))
	qt.Check(t, qt.IsTrue(a.Close))
}

// The answer to a HEAD has the same header as the answer to a GET (RFC 9110, section 9.3.2).
func TestHead_HasTheHeaderOfGet(t *testing.T) {
	t.Parallel()
	backend := ocimem.New()
	s := serveBackend(t, backend, &ociserver.Options{
		ReferrersPageSize: 1,
		Namespace:         func(string) (ociregistry.Interface, bool) { return backend, true },
	})
	d := string(s.pushImage("foo", "latest", absent, nil))
	s.pushImage("foo", "other", absent, map[string]string{"a": "b"})
	blob := string(s.pushBlob("foo", helloWorld))
	s.pushManifest("foo", "page", "something")
	for _, path := range []string{
		"/v2/",
		"/v2/_catalog?n=0",
		"/v2/foo/tags/list?n=1",
		"/v2/foo/referrers/" + string(absent) + "?artifactType=application/vnd.example.thing",
		"/v2/foo/manifests/latest?ns=docker.io",
		"/v2/foo/manifests/" + d,
		"/v2/foo/manifests/page",
		"/v2/foo/blobs/" + blob,
		strings.TrimPrefix(s.startUpload("foo"), s.url),
	} {
		for _, header := range []string{"X", "If-None-Match"} {
			get, head := s.do("GET", path, "", header, "*"), s.do("HEAD", path, "", header, "*")
			for _, a := range []*answer{get, head} {
				a.Header.Del("Date")
				if a.StatusCode == http.StatusNotModified {
					qt.Check(t, qt.Equals(a.Header.Get("Content-Type")+a.Header.Get("Content-Length"), ""))
				}
			}
			if path == "/v2/" {
				get.Header.Del("Content-Length") // of nothing
			}
			qt.Check(t, qt.Equals(head.StatusCode, get.StatusCode), qt.Commentf("%s", path))
			qt.Check(t, qt.Equals(head.body, ""), qt.Commentf("%s", path))
			qt.Check(t, qt.IsTrue(maps.EqualFunc(head.Header, get.Header, func(a, b []string) bool {
				return strings.Join(a, "\n") == strings.Join(b, "\n")
			})), qt.Commentf("%s: %v, %v", path, head.Header, get.Header))
		}
	}
}
