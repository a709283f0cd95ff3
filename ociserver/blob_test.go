package ociserver_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
)

func TestGetBlob_ServesContentOrTellsWhatIsUnknown(t *testing.T) {
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

func TestRange_IsServedOrRefusedOrIgnored(t *testing.T) {
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

func TestIfRange_NeedsTheStrongETag(t *testing.T) {
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
