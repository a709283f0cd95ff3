package ociserver_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

func TestBadNames_AreClientErrorsAndCreateNothing(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	long := strings.Repeat("a", 10<<10)
	d := string(absent)
	for _, bad := range []string{"..", "../x", "x/..", "x/../y", "%2e%2e", "a%2F", "a%2f..%2fb", "%00", "a%00b", "A", "a%20b", "a%0d%0ab", "-", "a//b", "%ff", "a%5cb", long} {
		for _, r := range []string{
			"GET /v2/" + bad + "/manifests/latest",
			"PUT /v2/" + bad + "/manifests/latest",
			"DELETE /v2/" + bad + "/manifests/latest",
			"GET /v2/" + bad + "/blobs/" + d,
			"DELETE /v2/" + bad + "/blobs/" + d,
			"POST /v2/" + bad + "/blobs/uploads/",
			"POST /v2/" + bad + "/blobs/uploads/?digest=" + d,
			"PATCH /v2/" + bad + "/blobs/uploads/MQ",
			"GET /v2/" + bad + "/tags/list",
			"GET /v2/" + bad + "/referrers/" + d,
			"POST /v2/foo/blobs/uploads/?mount=" + d + "&from=" + bad,
			"PUT /v2/foo/blobs/uploads/MQ?digest=" + bad,
			"PUT /v2/foo/manifests/" + d + "?tag=" + bad + "%20",
			"GET /v2/foo/manifests/" + bad,
			"PUT /v2/foo/manifests/sha256:" + bad,
			"GET /v2/foo/blobs/" + bad,
			"GET /v2/foo/blobs/uploads/" + bad,
			"DELETE /v2/foo/blobs/uploads/" + bad,
			"PATCH /v2/foo/blobs/uploads/" + wire.EncodeUploadID("../"+bad),
			"GET /v2/foo/tags/list?n=" + bad,
		} {
			method, path, _ := strings.Cut(r, " ")
			a := s.do(method, path, "x")
			qt.Assert(t, qt.IsTrue(a.StatusCode >= 400 && a.StatusCode <= 499), qt.Commentf("%.200s: %d %.200s", r, a.StatusCode, a.body))
			qt.Assert(t, qt.Matches(a.body, `\{"errors":\[\{"code":"[A-Z_]+","message":".*"\}\]\}`), qt.Commentf("%.200s", r))
			qt.Assert(t, qt.Equals(a.Header.Get("Content-Type"), "application/json"))
		}
	}
	qt.Check(t, qt.HasLen(s.repositories(), 0))
}

func TestBadLengths_AreClientErrorsAndCreateNothing(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	d := string(digest.FromString("foo"))
	post := "POST /v2/foo/blobs/uploads/?digest=" + d + " HTTP/1.1\r\nHost: x\r\n"
	put := "PUT /v2/foo/manifests/latest HTTP/1.1\r\nHost: x\r\n"
	whole := []string{
		post + "Content-Length: 2\r\n\r\nfoo",
		post + "Content-Length: 0\r\n\r\n",
		post + "Content-Length: -1\r\n\r\nfoo",
		post + "Content-Length: 99999999999999999999\r\n\r\nfoo",
		post + "Transfer-Encoding: chunked\r\n\r\nzzz\r\nfoo\r\n0\r\n\r\n",
		post + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nfoo\r\n0\r\n\r\n",
	}
	for _, request := range whole {
		a := s.raw(1, request)[0]
		qt.Check(t, qt.Equals(a.StatusCode, http.StatusBadRequest), qt.Commentf("%q: %s", request, a.body))
	}
	cutOff := []struct {
		request string
		status  int
	}{
		{post + "Content-Length: 9223372036854775807\r\n\r\nfoo", 400},
		{post + "Content-Length: 4\r\n\r\nfoo", 400},
		{post + "Transfer-Encoding: chunked\r\n\r\n3\r\nfoo\r\n", 400},
		{put + "Content-Length: 9223372036854775807\r\n\r\nfoo", 413},
		{put + "Content-Length: 4000000\r\n\r\nfoo", 400},
		{put + "Transfer-Encoding: chunked\r\n\r\n3\r\nfoo\r\n", 400},
	}
	for _, test := range cutOff {
		a := s.rawCutOff(test.request)
		qt.Check(t, qt.Equals(a.StatusCode, test.status), qt.Commentf("%q: %s", test.request, a.body))
	}
	qt.Check(t, qt.HasLen(s.repositories(), 0))
	a := s.raw(1, post+"Transfer-Encoding: chunked\r\n\r\n3\r\nfoo\r\n0\r\n\r\n")[0]
	qt.Check(t, qt.Equals(a.StatusCode, http.StatusCreated))
}

// A middleware may have its own limit.
func TestMaxBytesHandler_IsAnsweredWithEntityTooLarge(t *testing.T) {
	t.Parallel()
	s := serveHandler(t, http.MaxBytesHandler(ociserver.New(ocimem.New(), nil), 5))
	for _, r := range []string{
		"POST /v2/foo/blobs/uploads/?digest=" + string(absent),
		"PATCH /v2/foo/blobs/uploads/MQ",
		"PUT /v2/foo/manifests/latest",
	} {
		method, path, _ := strings.Cut(r, " ")
		s.doReader(method, path, io.MultiReader(strings.NewReader("123456"))).want(t, http.StatusRequestEntityTooLarge)
	}
}

// The handler may be called without an HTTP server, which would check lengths.
func TestLengths_AreCheckedWithoutAnHTTPServer(t *testing.T) {
	t.Parallel()
	backend := ocimem.New()
	h := ociserver.New(backend, nil)
	send := func(method, target, body string, length int64) int {
		req := httptest.NewRequest(method, target, strings.NewReader(body))
		req.ContentLength = length
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		return w.Code
	}
	post := "/v2/foo/blobs/uploads/?digest=" + string(digest.FromString("foo"))
	for _, length := range []int64{0, 2, 4, 1 << 62} {
		qt.Check(t, qt.Equals(send("POST", post, "foo", length), http.StatusBadRequest))
		qt.Check(t, qt.Equals(send("PATCH", "/v2/foo/blobs/uploads/MQ", "foo", length), http.StatusBadRequest))
		status := send("PUT", "/v2/foo/manifests/latest", "foo", length)
		qt.Check(t, qt.IsTrue(status == http.StatusBadRequest || status == http.StatusRequestEntityTooLarge))
	}
	names, err := ociregistry.All(backend.Repositories(context.Background(), ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(names, 0))
	qt.Check(t, qt.Equals(send("POST", post, "foo", 3), http.StatusCreated))
}

// The server allocates no memory because of a claimed length.
func TestClaimedLengths_AllocateNothing(t *testing.T) {
	backend := ocimem.New()
	h := ociserver.New(backend, &ociserver.Options{MaxManifestSize: -1})
	requests := []struct {
		method, target, header, value string
	}{
		{"POST", "/v2/foo/blobs/uploads/?digest=" + string(absent), "X", "x"},
		{"PATCH", "/v2/foo/blobs/uploads/MQ", "Content-Range", "0-1099511627775"},
		{"PUT", "/v2/foo/blobs/uploads/MQ?digest=" + string(absent), "Content-Range", "0-1099511627775"},
		{"PUT", "/v2/foo/manifests/latest", "X", "x"},
		{"GET", "/v2/_catalog?n=2147483647", "X", "x"},
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, r := range requests {
		req := httptest.NewRequest(r.method, r.target, strings.NewReader("x"))
		req.Header.Set(r.header, r.value)
		req.ContentLength = 1 << 40
		h.ServeHTTP(httptest.NewRecorder(), req)
	}
	runtime.ReadMemStats(&after)
	qt.Check(t, qt.IsTrue(after.TotalAlloc-before.TotalAlloc < 2<<20), qt.Commentf("%d bytes", after.TotalAlloc-before.TotalAlloc))
}

// Error messages contain no content, and only short parts of the request.
func TestErrors_HaveNoContent(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	const secret = "this is the content of a blob"
	loc := s.startUpload("foo")
	s.do("PATCH", loc, secret).want(t, http.StatusAccepted)
	answers := []*answer{
		s.do("POST", "/v2/foo/blobs/uploads/?digest="+string(absent), secret),
		s.do("PUT", loc+"?digest="+string(absent), secret),
		s.do("PUT", "/v2/foo/manifests/latest", secret, "Content-Type", "application/vnd.oci.image.manifest.v1+json"),
		s.do("PUT", "/v2/foo/manifests/latest", `{"x": "`+secret, "Content-Type", "application/vnd.oci.image.manifest.v1+json"),
		s.do("PUT", "/v2/foo/manifests/"+string(absent), secret),
		s.do("PUT", "/v2/foo/manifests/"+strings.Repeat("x", 10<<10), secret),
		s.do("PUT", "/v2/foo/blobs/uploads/"+wire.EncodeUploadID(strings.Repeat("x", 2<<10))+"?digest="+string(absent), secret),
	}
	for _, a := range answers {
		qt.Check(t, qt.IsTrue(a.StatusCode >= 400 && a.StatusCode <= 499), qt.Commentf("%d", a.StatusCode))
		qt.Check(t, qt.Not(qt.StringContains(a.body, "content of")))
		qt.Check(t, qt.IsTrue(len(a.body) < 500), qt.Commentf("%s", a.body))
	}
}

// FuzzServer sends requests of any kind to a registry that has one repository.
func FuzzServer(f *testing.F) {
	d := string(digest.FromString("foo"))
	for _, seed := range []string{
		"GET /v2/ HTTP/1.1\r\n\r\n",
		"GET /v2/_catalog?n=1&last=a HTTP/1.1\r\n\r\n",
		"GET /v2/foo/tags/list?n=0 HTTP/1.1\r\n\r\n",
		"GET /v2/foo/referrers/" + d + "?artifactType=x&last=y HTTP/1.1\r\n\r\n",
		"GET /v2/foo/blobs/" + d + " HTTP/1.1\r\nRange: bytes=-1\r\nIf-Range: \"" + d + "\"\r\n\r\n",
		"HEAD /v2/foo/blobs/" + d + " HTTP/1.1\r\nIf-None-Match: W/\"" + d + "\", *\r\n\r\n",
		"GET /v2/foo/manifests/latest HTTP/1.1\r\nAccept: a/b;q=0, */*\r\nIf-Match: *\r\n\r\n",
		"PUT /v2/foo/manifests/latest?tag=b HTTP/1.1\r\nContent-Type: application/vnd.oci.image.index.v1+json\r\nContent-Length: 16\r\nIf-Match: *\r\n\r\n{\"manifests\":[]}",
		"DELETE /v2/foo/manifests/latest HTTP/1.1\r\n\r\n",
		"POST /v2/foo/blobs/uploads/?digest=" + d + " HTTP/1.1\r\nContent-Length: 3\r\n\r\nfoo",
		"POST /v2/bar/blobs/uploads/?mount=" + d + "&from=foo HTTP/1.1\r\n\r\n",
		"POST /v2/bar/blobs/uploads/?digest-algorithm=sha512 HTTP/1.1\r\n\r\n",
		"PATCH /v2/foo/blobs/uploads/MQ HTTP/1.1\r\nContent-Range: 0-2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nfoo\r\n0\r\n\r\n",
		"PUT /v2/foo/blobs/uploads/MQ?digest=" + d + " HTTP/1.1\r\nContent-Range: 0-2\r\nContent-Length: 3\r\n\r\nfoo",
		"DELETE /v2/foo/blobs/uploads/MQ HTTP/1.1\r\n\r\n",
		"GET /v2/foo%2F..%2Fbar/manifests/%00?ns=docker.io HTTP/1.1\r\n\r\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, request string) {
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request)))
		if err != nil {
			return
		}
		ctx := context.Background()
		backend := ocimem.New()
		blob := ociregistry.Descriptor{Digest: digest.FromString("foo"), Size: 3}
		if _, err := backend.PushBlob(ctx, "foo", blob, strings.NewReader("foo")); err != nil {
			t.Fatal(err)
		}
		if _, err := backend.PushManifest(ctx, "foo", "latest", []byte("bar"), "text/plain"); err != nil {
			t.Fatal(err)
		}
		opts := &ociserver.Options{Namespace: func(string) (ociregistry.Interface, bool) { return backend, true }}
		w := httptest.NewRecorder()
		ociserver.New(backend, opts).ServeHTTP(w, req)
		if w.Code >= 500 {
			t.Fatalf("%q: %d %s", request, w.Code, w.Body)
		}
		if w.Code < 400 {
			return
		}
		if req.Method != http.MethodHead && !strings.HasPrefix(w.Body.String(), `{"errors":[{"code":`) {
			t.Fatalf("%q: %d %s", request, w.Code, w.Body)
		}
		names, err := ociregistry.All(backend.Repositories(ctx, ""))
		if err != nil || len(names) != 1 || names[0] != "foo" {
			t.Fatalf("%q: repositories %q, %v", request, names, err)
		}
		io.Copy(io.Discard, req.Body)
	})
}
