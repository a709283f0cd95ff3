package ociserver_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

func TestPing_TellsTheVersion(t *testing.T) {
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

func TestRoutes_UnknownPathIsNotFoundAndOtherMethodIsNotAllowed(t *testing.T) {
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

func TestMalformedDigest_IsDigestInvalidEverywhere(t *testing.T) {
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
