package ociserver_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociserver"
)

func TestBehaviour01_Ping(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	for _, path := range []string{"/v2", "/v2/"} {
		a := s.do("GET", path, "").want(t, http.StatusOK)
		a.wantHeaders(t, "Docker-Distribution-API-Version", "registry/2.0")
		qt.Check(t, qt.Equals(a.body, ""))
		s.do("HEAD", path, "").want(t, http.StatusOK)
	}
	for _, path := range []string{"/v2/nothing", "/v2/foo/blobs/" + string(absent), "/v2/foo/tags/list"} {
		s.do("GET", path, "").want(t, http.StatusNotFound).
			wantHeaders(t, "Docker-Distribution-API-Version", "registry/2.0")
	}
	s.do("GET", "/elsewhere", "").want(t, http.StatusNotFound).wantHeaders(t, "Docker-Distribution-API-Version", "")
}

func TestBehaviour02_RoutesAndMethods(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	for _, path := range []string{"/", "/v2/bad", "/v2/blobs/" + string(absent), "/v2/foo/tags", "/v2/foo/manifests/"} {
		s.do("GET", path, "").wantError(t, http.StatusNotFound, "UNKNOWN", "page not found")
	}
	tests := []struct{ method, path, allow string }{
		{"POST", "/v2/", "GET, HEAD, OPTIONS"},
		{"DELETE", "/v2/_catalog", "GET, HEAD, OPTIONS"},
		{"PUT", "/v2/foo/tags/list", "GET, HEAD, OPTIONS"},
		{"POST", "/v2/foo/referrers/" + string(absent), "GET, HEAD, OPTIONS"},
		{"FOO", "/v2/foo/blobs/" + string(absent), "GET, HEAD, DELETE, OPTIONS"},
		{"GET", "/v2/foo/blobs/uploads/", "POST, OPTIONS"},
		{"POST", "/v2/foo/blobs/uploads/MQ", "PATCH, PUT, GET, HEAD, DELETE, OPTIONS"},
		{"BAR", "/v2/foo/manifests/latest", "GET, HEAD, PUT, DELETE, OPTIONS"},
	}
	for _, test := range tests {
		s.do(test.method, test.path, "").
			wantError(t, http.StatusMethodNotAllowed, "UNKNOWN", "method not allowed").
			wantHeaders(t, "Allow", test.allow)
	}
}

func TestBehaviour03_BlobInUnknownRepository(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	s.do("GET", "/v2/foo/blobs/"+string(absent), "").
		wantError(t, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
	a := s.do("HEAD", "/v2/foo/blobs/"+string(absent), "").want(t, http.StatusNotFound)
	qt.Check(t, qt.Equals(a.body, ""))

	d := s.pushBlob("foo", helloWorld)
	s.do("GET", "/v2/foo/blobs/"+string(absent), "").
		wantError(t, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
	s.do("GET", "/v2/bar/blobs/"+string(d), "").
		wantError(t, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")

	for _, method := range []string{"GET", "HEAD"} {
		a := s.do(method, "/v2/foo/blobs/"+string(d), "").want(t, http.StatusOK).wantHeaders(t,
			"Content-Length", "11",
			"Content-Type", "application/octet-stream",
			"Docker-Content-Digest", string(d),
			"Accept-Ranges", "bytes",
			"ETag", `"`+string(d)+`"`)
		want := helloWorld
		if method == "HEAD" {
			want = ""
		}
		qt.Check(t, qt.Equals(a.body, want))
	}
}

func TestBehaviour04_MalformedDigest(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	s.pushBlob("foo", helloWorld)
	upload := s.startUpload("foo")
	for _, bad := range []string{"sha256:asd", "sha256:" + strings.Repeat("A", 64), "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:"} {
		for _, r := range []struct{ method, path string }{
			{"GET", "/v2/foo/blobs/" + bad},
			{"DELETE", "/v2/foo/blobs/" + bad},
			{"GET", "/v2/foo/manifests/" + bad},
			{"PUT", "/v2/foo/manifests/" + bad},
			{"DELETE", "/v2/foo/manifests/" + bad},
			{"GET", "/v2/foo/referrers/" + bad},
			{"POST", "/v2/foo/blobs/uploads/?digest=" + bad},
			{"POST", "/v2/foo/blobs/uploads/?mount=" + bad},
			{"POST", "/v2/foo/blobs/uploads/?from=bar&mount=" + bad},
			{"PUT", upload + "?digest=" + bad},
		} {
			s.do(r.method, r.path, "x").wantError(t, http.StatusBadRequest, "DIGEST_INVALID", "badly formed digest")
		}
		a := s.do("HEAD", "/v2/foo/blobs/"+bad, "").want(t, http.StatusBadRequest)
		qt.Check(t, qt.Equals(a.body, ""))
	}
	s.do("GET", "/v2/foo/referrers/latest", "").wantError(t, http.StatusBadRequest, "DIGEST_INVALID", "badly formed digest")
	s.do("GET", upload, "").want(t, http.StatusNoContent)
}

func TestBehaviour05_Ranges(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	path := "/v2/foo/blobs/" + string(s.pushBlob("foo", helloWorld))
	partial := []struct{ header, contentRange, body string }{
		{"bytes=1-4", "bytes 1-4/11", "ello"},
		{"bytes=3-", "bytes 3-10/11", "lo world"},
		{"bytes=-5", "bytes 6-10/11", "world"},
		{"bytes=-100", "bytes 0-10/11", helloWorld},
		{"bytes=0-0", "bytes 0-0/11", "h"},
		{"bytes=10-10", "bytes 10-10/11", "d"},
		{"bytes=4-100", "bytes 4-10/11", "o world"},
		{"bytes=4-9223372036854775807", "bytes 4-10/11", "o world"},
		{"bytes=4-99999999999999999999", "bytes 4-10/11", "o world"},
	}
	for _, test := range partial {
		a := s.do("GET", path, "", "Range", test.header).want(t, http.StatusPartialContent).wantHeaders(t,
			"Content-Range", test.contentRange,
			"Content-Length", fmt.Sprint(len(test.body)),
			"Docker-Content-Digest", string(digest.FromString(helloWorld)))
		qt.Check(t, qt.Equals(a.body, test.body), qt.Commentf("%s", test.header))
	}
	for _, header := range []string{
		"bytes=11-", "bytes=20-30", "bytes=-0", "bytes=5-4", "bytes=5-1",
		"bytes=9223372036854775807-", "bytes=99999999999999999999-",
	} {
		a := s.do("GET", path, "", "Range", header).want(t, http.StatusRequestedRangeNotSatisfiable).wantHeaders(t,
			"Content-Range", "bytes */11",
			"Content-Type", "application/json")
		qt.Check(t, qt.StringContains(a.body, `"code":"RANGE_INVALID"`), qt.Commentf("%s", header))
	}
	for _, header := range []string{"bytes=0-1,a-b", "bytes=,", "items=1-2", "bytes=a-b", "bytes=--5", "bytes", "-", "bytes=-"} {
		a := s.do("GET", path, "", "Range", header).want(t, http.StatusOK).wantHeaders(t, "Content-Range", "")
		qt.Check(t, qt.Equals(a.body, helloWorld), qt.Commentf("%s", header))
	}
	s.do("GET", path, "", "Range", "bytes=1-4", "Range", "bytes=1-4").want(t, http.StatusOK).wantHeaders(t, "Content-Length", "11")
	s.do("HEAD", path, "", "Range", "bytes=1-4").want(t, http.StatusOK).wantHeaders(t, "Content-Length", "11")
	s.do("GET", "/v2/foo/blobs/"+string(absent), "", "Range", "bytes=-4").
		wantError(t, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")

	empty := "/v2/foo/blobs/" + string(s.pushBlob("foo", ""))
	s.do("GET", empty, "", "Range", "bytes=0-").want(t, http.StatusRequestedRangeNotSatisfiable).wantHeaders(t, "Content-Range", "bytes */0")
	s.do("GET", empty, "", "Range", "bytes=-1").want(t, http.StatusRequestedRangeNotSatisfiable).wantHeaders(t, "Content-Range", "bytes */0")
}

func TestBehaviour05_IfRange(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	d := string(s.pushBlob("foo", helloWorld))
	a := s.do("GET", "/v2/foo/blobs/"+d, "", "Range", "bytes=1-4", "If-Range", `"`+d+`"`).want(t, http.StatusPartialContent)
	qt.Check(t, qt.Equals(a.body, "ello"))
	for _, validator := range []string{`W/"` + d + `"`, `"other"`, "Wed, 21 Oct 2015 07:28:00 GMT"} {
		a := s.do("GET", "/v2/foo/blobs/"+d, "", "Range", "bytes=1-4", "If-Range", validator).want(t, http.StatusOK)
		qt.Check(t, qt.Equals(a.body, helloWorld))
	}
}

func TestBehaviour13_GetManifest(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	s.do("GET", "/v2/foo/manifests/latest", "").
		wantError(t, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")

	d := s.pushImage("foo", "latest", "", nil)
	content := imageManifest(digest.FromString("{}"), "", nil)
	for _, ref := range []string{"latest", string(d)} {
		for _, method := range []string{"GET", "HEAD"} {
			a := s.do(method, "/v2/foo/manifests/"+ref, "").want(t, http.StatusOK).wantHeaders(t,
				"Content-Type", ocispec.MediaTypeImageManifest,
				"Content-Length", fmt.Sprint(len(content)),
				"Docker-Content-Digest", string(d),
				"ETag", `"`+string(d)+`"`)
			if method == "GET" {
				qt.Check(t, qt.Equals(a.body, content))
			} else {
				qt.Check(t, qt.Equals(a.body, ""))
			}
		}
	}
	for _, ref := range []string{"bar", string(absent), ".INVALID", "-x", strings.Repeat("a", 129)} {
		s.do("GET", "/v2/foo/manifests/"+ref, "").
			wantError(t, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown to registry")
		a := s.do("HEAD", "/v2/foo/manifests/"+ref, "").want(t, http.StatusNotFound)
		qt.Check(t, qt.Equals(a.body, ""))
	}
}

func TestBehaviour13_ConditionalGet(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	manifest := string(s.pushManifest("foo", "latest", "something"))
	blob := string(s.pushBlob("foo", helloWorld))
	content := []struct{ path, digest string }{
		{"/v2/foo/manifests/latest", manifest},
		{"/v2/foo/manifests/" + manifest, manifest},
		{"/v2/foo/blobs/" + blob, blob},
	}
	for _, c := range content {
		tests := []struct {
			header, value string
			status        int
		}{
			{"If-None-Match", `"` + c.digest + `"`, http.StatusNotModified},
			{"If-None-Match", `W/"` + c.digest + `"`, http.StatusNotModified},
			{"If-None-Match", `"a,b", W/"c" ,"` + c.digest + `"`, http.StatusNotModified},
			{"If-None-Match", c.digest, http.StatusNotModified},
			{"If-None-Match", `*`, http.StatusNotModified},
			{"If-None-Match", `"` + string(absent) + `"`, http.StatusOK},
			{"If-None-Match", `"*"`, http.StatusOK},
			{"If-None-Match", `"`, http.StatusOK},
			{"If-Match", `"` + c.digest + `"`, http.StatusOK},
			{"If-Match", `"x", "` + c.digest + `"`, http.StatusOK},
			{"If-Match", `*`, http.StatusOK},
			{"If-Match", `W/"` + c.digest + `"`, http.StatusPreconditionFailed},
			{"If-Match", `"` + string(absent) + `"`, http.StatusPreconditionFailed},
			{"If-Match", `nonsense`, http.StatusPreconditionFailed},
		}
		for _, test := range tests {
			for _, method := range []string{"GET", "HEAD"} {
				a := s.do(method, c.path, "", test.header, test.value).want(t, test.status)
				switch test.status {
				case http.StatusNotModified:
					a.wantHeaders(t, "ETag", `"`+c.digest+`"`, "Docker-Content-Digest", c.digest)
					qt.Check(t, qt.Equals(a.body, ""))
				case http.StatusOK:
					qt.Check(t, qt.Equals(a.body != "", method == "GET"))
				}
			}
		}
	}
	s.do("GET", "/v2/foo/blobs/"+string(absent), "", "If-None-Match", "*").want(t, http.StatusNotFound)
	s.do("GET", "/v2/foo/manifests/absent", "", "If-None-Match", "*").want(t, http.StatusNotFound)

	// If-Match comes before If-None-Match, and both before Range.
	s.do("GET", "/v2/foo/blobs/"+blob, "", "If-Match", `"x"`, "If-None-Match", "*").want(t, http.StatusPreconditionFailed)
	s.do("GET", "/v2/foo/blobs/"+blob, "", "If-None-Match", "*", "Range", "bytes=99-").want(t, http.StatusNotModified)
}

func TestBehaviour13_AcceptIsLoggedNotRefused(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := serveBackend(t, ocimem.New(), &ociserver.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	s.pushImage("foo", "latest", "", nil)
	for _, accept := range []string{
		ocispec.MediaTypeImageManifest,
		"text/html, " + strings.ToUpper(ocispec.MediaTypeImageManifest) + "; q=0.5",
		"text/html, application/*",
		"*/*;q=0.1",
	} {
		s.do("GET", "/v2/foo/manifests/latest", "", "Accept", accept).want(t, http.StatusOK)
		qt.Assert(t, qt.Equals(log.String(), ""), qt.Commentf("Accept: %s", accept))
	}
	for _, accept := range []string{"text/html", ocispec.MediaTypeImageIndex, "*/*;q=0", "*/*; q=0.000"} {
		s.do("GET", "/v2/foo/manifests/latest", "", "Accept", accept).want(t, http.StatusOK)
		qt.Check(t, qt.StringContains(log.String(), "does not accept"), qt.Commentf("Accept: %s", accept))
		qt.Check(t, qt.StringContains(log.String(), ocispec.MediaTypeImageManifest))
		log.Reset()
	}
}
