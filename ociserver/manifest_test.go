package ociserver_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

func TestGetManifest_ServesContentOrTellsWhatIsUnknown(t *testing.T) {
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

func TestGet_HonoursIfMatchAndIfNoneMatch(t *testing.T) {
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

func TestAccept_IsLoggedNotRefused(t *testing.T) {
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

func TestPutManifest_StoresWhatIsValid(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	types := []struct{ header, stored string }{
		{"application/octet-stream", "application/octet-stream"},
		{"", "application/octet-stream"},
		{"text/plain; charset=utf-8", "text/plain"},
		{"application/vnd.example+json ;x=y", "application/vnd.example+json"},
	}
	for _, test := range types {
		content := "content of type " + test.header
		d := string(digest.FromString(content))
		for _, ref := range []string{"latest", d} {
			s.do("PUT", "/v2/foo/manifests/"+ref, content, "Content-Type", test.header).want(t, http.StatusCreated).wantHeaders(t,
				"Location", "/v2/foo/manifests/"+d,
				"Docker-Content-Digest", d,
				"OCI-Subject", "")
			a := s.do("GET", "/v2/foo/manifests/"+ref, "").want(t, http.StatusOK).wantHeaders(t, "Content-Type", test.stored)
			qt.Check(t, qt.Equals(a.body, content))
		}
	}
	// Without the header, a manifest's own mediaType field counts.
	self := `{"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[]}`
	s.do("PUT", "/v2/foo/manifests/self", self).want(t, http.StatusCreated)
	s.do("GET", "/v2/foo/manifests/self", "").want(t, http.StatusOK).wantHeaders(t, "Content-Type", ocispec.MediaTypeImageIndex)

	d512 := string(digest.SHA512.FromString("something"))
	s.do("PUT", "/v2/foo/manifests/"+d512, "something").want(t, http.StatusCreated).wantHeaders(t, "Docker-Content-Digest", d512)
	s.do("GET", "/v2/foo/manifests/"+d512, "").want(t, http.StatusOK).wantHeaders(t, "Docker-Content-Digest", d512)

	s.do("PUT", "/v2/new/manifests/"+string(absent), "something").
		wantError(t, http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content")
	s.do("PUT", "/v2/new/manifests/latest", "").want(t, http.StatusBadRequest)
	s.do("PUT", "/v2/new/manifests/latest", "{", "Content-Type", ocispec.MediaTypeImageManifest).want(t, http.StatusBadRequest)
	for _, contentType := range []string{"a b", "text/\xff", strings.Repeat("x", 256)} {
		a := s.do("PUT", "/v2/new/manifests/latest", "x", "Content-Type", contentType).want(t, http.StatusBadRequest)
		qt.Check(t, qt.StringContains(a.body, `"code":"MANIFEST_INVALID"`))
	}
	a := s.do("PUT", "/v2/new/manifests/latest", imageManifest(absent, "", nil), "Content-Type", ocispec.MediaTypeImageManifest)
	a.want(t, http.StatusNotFound)
	qt.Check(t, qt.StringContains(a.body, `"code":"MANIFEST_BLOB_UNKNOWN"`))
	qt.Check(t, qt.DeepEquals(s.repositories(), []string{"foo"}))
}

func TestPutManifest_AcknowledgesTheSubject(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	s.pushBlob("foo", "{}")
	m := imageManifest(digest.FromString("{}"), absent, nil)
	s.do("PUT", "/v2/foo/manifests/latest", m, "Content-Type", ocispec.MediaTypeImageManifest).
		want(t, http.StatusCreated).wantHeaders(t, "OCI-Subject", string(absent))
	s.do("PUT", "/v2/foo/manifests/index", `{"schemaVersion":2,"manifests":[],"subject":{"mediaType":"x","digest":"`+string(absent)+`","size":1}}`,
		"Content-Type", ocispec.MediaTypeImageIndex).want(t, http.StatusCreated).wantHeaders(t, "OCI-Subject", string(absent))
	s.do("PUT", "/v2/foo/manifests/escaped", `{"\u0073ubject":{"digest":"`+string(absent)+`","size":1}}`,
		"Content-Type", ocispec.MediaTypeImageIndex).want(t, http.StatusCreated).wantHeaders(t, "OCI-Subject", string(absent))
}

func TestPutManifest_SetsAllTagsOrNone(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	d := string(digest.FromString("something"))
	a := s.do("PUT", "/v2/foo/manifests/"+d+"?tag=a&tag=b&tag=1.2.3", "something").want(t, http.StatusCreated)
	qt.Check(t, qt.DeepEquals(a.Header.Values("OCI-Tag"), []string{"a", "b", "1.2.3"}))
	a = s.do("PUT", "/v2/foo/manifests/c?tag=d", "something").want(t, http.StatusCreated)
	qt.Check(t, qt.DeepEquals(a.Header.Values("OCI-Tag"), []string{"d"}))
	a = s.do("GET", "/v2/foo/tags/list", "").want(t, http.StatusOK)
	qt.Check(t, qt.Equals(a.body, `{"name":"foo","tags":["1.2.3","a","b","c","d"]}`))

	// All of them or none.
	a = s.do("PUT", "/v2/bar/manifests/"+d+"?tag=ok&tag=not%20ok", "something").want(t, http.StatusBadRequest)
	qt.Check(t, qt.StringContains(a.body, `"code":"MANIFEST_INVALID"`))
	qt.Check(t, qt.StringContains(a.body, "not ok"))
	s.do("PUT", "/v2/bar/manifests/"+d+"?tag="+strings.Join(numbered("t", 257), "&tag="), "something").want(t, http.StatusRequestURITooLong)
	qt.Check(t, qt.DeepEquals(s.repositories(), []string{"foo"}))
	s.do("PUT", "/v2/bar/manifests/"+d+"?tag="+strings.Join(numbered("t", 256), "&tag="), "something").want(t, http.StatusCreated)
}

func TestMaxManifestSize_BoundsPushes(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", ociserver.DefaultMaxManifestSize)
	s := serve(t, nil)
	s.do("PUT", "/v2/foo/manifests/big", big).want(t, http.StatusCreated)
	for _, body := range []io.Reader{strings.NewReader(big + "x"), io.MultiReader(strings.NewReader(big + "x"))} {
		s.doReader("PUT", "/v2/foo/manifests/bigger", body).
			wantError(t, http.StatusRequestEntityTooLarge, "MANIFEST_INVALID", "the manifest is larger than 4194304 bytes")
	}
	s.do("GET", "/v2/foo/manifests/bigger", "").want(t, http.StatusNotFound)

	small := serve(t, &ociserver.Options{MaxManifestSize: 3})
	small.do("PUT", "/v2/foo/manifests/latest", "foo").want(t, http.StatusCreated)
	small.do("PUT", "/v2/foo/manifests/latest", "foo!").want(t, http.StatusRequestEntityTooLarge)

	unlimited := serve(t, &ociserver.Options{MaxManifestSize: -1})
	unlimited.do("PUT", "/v2/foo/manifests/bigger", big+"x").want(t, http.StatusCreated)
}

func TestPutManifest_HonoursIfMatchAndIfNoneMatch(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	put := func(content, header, value string) *answer {
		t.Helper()
		return s.do("PUT", "/v2/foo/manifests/latest", content, header, value)
	}
	tag := func(content string) string { return etag(digest.FromString(content)) }

	put("one", "If-Match", "*").want(t, http.StatusPreconditionFailed)
	put("one", "If-Match", tag("one")).want(t, http.StatusPreconditionFailed)
	qt.Check(t, qt.HasLen(s.repositories(), 0))
	put("one", "If-None-Match", "*").want(t, http.StatusCreated)
	a := put("two", "If-None-Match", "*").want(t, http.StatusPreconditionFailed)
	qt.Check(t, qt.StringContains(a.body, `"code":"PRECONDITION_FAILED"`))
	put("two", "If-None-Match", `"x", W/`+tag("one")).want(t, http.StatusPreconditionFailed)
	put("two", "If-Match", tag("two")).want(t, http.StatusPreconditionFailed)
	put("two", "If-Match", "W/"+tag("one")).want(t, http.StatusPreconditionFailed)
	put("two", "If-Match", tag("x")+", "+tag("one")).want(t, http.StatusCreated)
	put("three", "If-Match", tag("one")).want(t, http.StatusPreconditionFailed)
	a = s.do("GET", "/v2/foo/manifests/latest", "").want(t, http.StatusOK)
	qt.Check(t, qt.Equals(a.body, "two"))
}

func etag(d ociregistry.Digest) string { return `"` + string(d) + `"` }
