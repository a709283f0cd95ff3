package ociserver_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociserver"
)

func TestSinglePost_StoresTheBlob(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	for _, d := range []digest.Digest{digest.FromString("foo"), digest.SHA512.FromString("foo"), digest.FromString("")} {
		content := "foo"
		if d == digest.FromString("") {
			content = ""
		}
		for _, slash := range []string{"/", ""} {
			s.do("POST", "/v2/foo/blobs/uploads"+slash+"?digest="+string(d), content).want(t, http.StatusCreated).wantHeaders(t,
				"Location", "/v2/foo/blobs/"+string(d),
				"Docker-Content-Digest", string(d))
		}
		a := s.do("GET", "/v2/foo/blobs/"+string(d), "").want(t, http.StatusOK)
		qt.Check(t, qt.Equals(a.body, content))
	}
	s.do("POST", "/v2/bar/blobs/uploads/?digest="+string(absent), "foo").want(t, http.StatusBadRequest)
	qt.Check(t, qt.DeepEquals(s.repositories(), []string{"foo"}))
}

func TestSinglePost_MayHaveAnUnknownLength(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	for _, d := range []digest.Digest{digest.FromString("foo"), digest.SHA512.FromString("foo")} {
		s.doReader("POST", "/v2/foo/blobs/uploads/?digest="+string(d), io.MultiReader(strings.NewReader("foo"))).want(t, http.StatusCreated)
		a := s.do("GET", "/v2/foo/blobs/"+string(d), "").want(t, http.StatusOK)
		qt.Check(t, qt.Equals(a.body, "foo"))
	}
	s.doReader("POST", "/v2/bar/blobs/uploads/?digest="+string(absent), io.MultiReader(strings.NewReader("foo"))).
		wantError(t, http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content")
	qt.Check(t, qt.DeepEquals(s.repositories(), []string{"foo"}))
}

func TestMount_AddsTheBlobOrStartsAnUpload(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	d := string(s.pushBlob("foo", helloWorld))
	created := []string{"/v2/bar/blobs/uploads/?mount=" + d + "&from=foo", "/v2/baz/blobs/uploads/?mount=" + d}
	for _, path := range created {
		repo := strings.Split(path, "/")[2]
		s.do("POST", path, "").want(t, http.StatusCreated).wantHeaders(t,
			"Location", "/v2/"+repo+"/blobs/"+d,
			"Docker-Content-Digest", d)
		a := s.do("GET", "/v2/"+repo+"/blobs/"+d, "").want(t, http.StatusOK)
		qt.Check(t, qt.Equals(a.body, helloWorld))
	}
	cannot := []string{
		"/v2/new/blobs/uploads/?mount=" + string(absent) + "&from=foo",
		"/v2/new/blobs/uploads/?mount=" + d + "&from=unknown",
		"/v2/new/blobs/uploads/?mount=" + string(absent),
	}
	for _, path := range cannot {
		a := s.do("POST", path, "").want(t, http.StatusAccepted).wantHeaders(t, "Range", "0-0")
		s.do("PUT", a.Header.Get("Location")+"?digest="+string(digest.FromString("foo")), "foo").want(t, http.StatusCreated)
	}
	s.do("POST", "/v2/new/blobs/uploads/?mount="+d+"&from=..", "").
		wantError(t, http.StatusBadRequest, "NAME_INVALID", "invalid repository name")
}

func TestMaxBlobSize_BoundsPostsAndSessions(t *testing.T) {
	t.Parallel()
	s := serve(t, &ociserver.Options{MaxBlobSize: 5})
	chunked := func(s string) io.Reader { return io.MultiReader(strings.NewReader(s)) }
	const message = "the blob is larger than 5 bytes"
	post := "/v2/foo/blobs/uploads/?digest="
	fits, tooBig := string(digest.FromString("12345")), string(digest.FromString("123456"))
	s.do("POST", post+fits, "12345").want(t, http.StatusCreated)
	s.doReader("POST", post+fits, chunked("12345")).want(t, http.StatusCreated)
	s.do("POST", post+tooBig, "123456").wantError(t, http.StatusRequestEntityTooLarge, "SIZE_INVALID", message)
	s.doReader("POST", post+tooBig, chunked("123456")).wantError(t, http.StatusRequestEntityTooLarge, "SIZE_INVALID", message)

	loc := s.startUpload("foo")
	s.do("PATCH", loc, "1234").want(t, http.StatusAccepted)
	s.do("PATCH", loc, "56").wantError(t, http.StatusRequestEntityTooLarge, "SIZE_INVALID", message)
	s.do("PUT", loc+"?digest="+tooBig, "56").wantError(t, http.StatusRequestEntityTooLarge, "SIZE_INVALID", message)
	s.do("GET", loc, "").want(t, http.StatusNoContent).wantHeaders(t, "Range", "0-3")
	s.doReader("PATCH", loc, chunked("56")).wantError(t, http.StatusRequestEntityTooLarge, "SIZE_INVALID", message)
	s.do("PUT", loc+"?digest="+fits, "").want(t, http.StatusCreated)

	// What is claimed is refused before the body is sent.
	a := s.rawCutOff("POST " + post + tooBig + " HTTP/1.1\r\nHost: x\r\nContent-Length: 9223372036854775807\r\n\r\n")
	a.wantError(t, http.StatusRequestEntityTooLarge, "SIZE_INVALID", message)
	qt.Check(t, qt.Equals(wire.UploadRange(5), "0-4"))
}
