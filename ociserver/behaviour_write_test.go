package ociserver_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

func TestBehaviour06_Delete(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	s.do("DELETE", "/v2/foo/blobs/"+string(absent), "").
		wantError(t, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
	s.do("DELETE", "/v2/foo/manifests/"+string(absent), "").
		wantError(t, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
	s.do("DELETE", "/v2/foo/manifests/latest", "").
		wantError(t, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")

	image := s.pushImage("foo", "latest", "", nil)
	s.do("DELETE", "/v2/foo/manifests/other", "").
		wantError(t, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown to registry: tag does not exist")
	s.do("DELETE", "/v2/foo/manifests/"+string(absent), "").
		wantError(t, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown to registry")
	s.do("DELETE", "/v2/foo/blobs/"+string(absent), "").
		wantError(t, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")

	config := "/v2/foo/blobs/" + string(digest.FromString("{}"))
	inUse := s.do("DELETE", config, "").want(t, http.StatusMethodNotAllowed).wantHeaders(t, "Allow", "GET, HEAD")
	qt.Check(t, qt.StringContains(inUse.body, `"code":"DENIED"`))
	s.do("GET", config, "").want(t, http.StatusOK)

	index := `{"schemaVersion":2,"manifests":[{"mediaType":"` + ocispec.MediaTypeImageManifest + `","digest":"` + string(image) + `","size":283}]}`
	s.do("PUT", "/v2/foo/manifests/index", index, "Content-Type", ocispec.MediaTypeImageIndex).want(t, http.StatusCreated)
	inUse = s.do("DELETE", "/v2/foo/manifests/"+string(image), "").want(t, http.StatusMethodNotAllowed)
	qt.Check(t, qt.StringContains(inUse.body, `"code":"DENIED"`))
	s.do("DELETE", "/v2/foo/manifests/"+string(digest.FromString(index)), "").want(t, http.StatusAccepted)

	s.do("DELETE", "/v2/foo/manifests/latest", "").want(t, http.StatusAccepted)
	s.do("GET", "/v2/foo/manifests/latest", "").want(t, http.StatusNotFound)
	s.do("GET", "/v2/foo/manifests/"+string(image), "").want(t, http.StatusOK)
	s.do("DELETE", "/v2/foo/manifests/"+string(image), "").want(t, http.StatusAccepted)
	s.do("GET", "/v2/foo/manifests/"+string(image), "").want(t, http.StatusNotFound)
	s.do("DELETE", config, "").want(t, http.StatusAccepted)
	s.do("GET", config, "").wantError(t, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
}

func TestBehaviour06_DeleteManifestTakesItsTags(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	d := s.pushManifest("foo", "a", "something")
	s.pushManifest("foo", "b", "something")
	s.pushManifest("foo", "c", "other")
	s.do("DELETE", "/v2/foo/manifests/"+string(d), "").want(t, http.StatusAccepted)
	a := s.do("GET", "/v2/foo/tags/list", "").want(t, http.StatusOK)
	qt.Check(t, qt.Equals(a.body, `{"name":"foo","tags":["c"]}`))
}

func TestBehaviour06_DeleteIfMatch(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	d := string(s.pushManifest("foo", "latest", "something"))
	for _, ref := range []string{"latest", d} {
		s.do("DELETE", "/v2/foo/manifests/"+ref, "", "If-Match", `"`+string(absent)+`"`).want(t, http.StatusPreconditionFailed)
	}
	s.do("DELETE", "/v2/foo/manifests/latest", "", "If-Match", `"`+d+`"`).want(t, http.StatusAccepted)
	s.do("DELETE", "/v2/foo/manifests/"+d, "", "If-Match", "*").want(t, http.StatusAccepted)
	s.do("DELETE", "/v2/foo/manifests/"+d, "", "If-Match", "*").want(t, http.StatusNotFound)

	blob := "/v2/foo/blobs/" + string(s.pushBlob("foo", helloWorld))
	s.do("DELETE", blob, "", "If-Match", etag(absent)).want(t, http.StatusPreconditionFailed)
	s.do("DELETE", blob, "", "If-None-Match", "*").want(t, http.StatusPreconditionFailed)
	s.do("DELETE", blob, "", "If-Match", etag(digest.FromString(helloWorld))).want(t, http.StatusAccepted)
	s.do("DELETE", blob, "", "If-Match", "*").want(t, http.StatusNotFound)
}

func TestBehaviour07_StartUpload(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	w, err := s.backend.PushBlobChunked(t.Context(), "foo", 0)
	qt.Assert(t, qt.IsNil(err))
	for _, path := range []string{"/v2/foo/blobs/uploads/", "/v2/foo/blobs/uploads", "/v2/foo/blobs/uploads/?digest-algorithm=sha512"} {
		a := s.do("POST", path, "").want(t, http.StatusAccepted).wantHeaders(t,
			"Range", "0-0",
			"Content-Length", "0",
			"OCI-Chunk-Min-Length", fmt.Sprint(w.ChunkSize()))
		id := a.Header.Get("Docker-Upload-UUID")
		qt.Check(t, qt.Not(qt.Equals(id, "")))
		qt.Check(t, qt.Equals(a.Header.Get("Location"), "/v2/foo/blobs/uploads/"+id))
	}
	s.do("POST", "/v2/foo/blobs/uploads/?digest-algorithm=md5", "").
		wantError(t, http.StatusBadRequest, "DIGEST_INVALID", "unsupported digest algorithm")
	qt.Check(t, qt.HasLen(s.repositories(), 0))
}

// What the backend needs is passed on, rather than what it would like best.
func TestBehaviour07_ChunkSize(t *testing.T) {
	t.Parallel()
	for _, needs := range []int{0, 100, 5 << 20} {
		srv := httptest.NewServer(ociserver.New(chunky{ocimem.New(), needs}, nil))
		defer srv.Close()
		resp, err := http.Post(srv.URL+"/v2/foo/blobs/uploads/", "", nil)
		qt.Assert(t, qt.IsNil(err))
		resp.Body.Close()
		qt.Check(t, qt.Equals(resp.Header.Get("OCI-Chunk-Min-Length"), fmt.Sprint(max(needs, 8<<10))))
	}
}

// chunky is a backend that needs chunks of a size, and would like them to be of
// 8 MiB.
type chunky struct {
	ociregistry.Interface
	needs int
}

func (r chunky) PushBlobChunked(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
	if chunkSize == 0 {
		chunkSize = 8 << 20
	}
	return r.Interface.PushBlobChunked(ctx, repo, max(chunkSize, r.needs))
}

// The backend is told with which algorithm the blob will be named.
func TestBehaviour07_DigestAlgorithm(t *testing.T) {
	t.Parallel()
	told := make(chan digest.Algorithm, 1)
	backend := ocimem.New()
	s := serveBackend(t, &ociregistry.Funcs{
		PushBlobChunked_: func(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
			told <- ociregistry.DigestAlgorithmFrom(ctx)
			return backend.PushBlobChunked(ctx, repo, chunkSize)
		},
	}, nil)
	d := string(digest.SHA512.FromString("foo"))
	for query, want := range map[string]digest.Algorithm{
		"":                         digest.SHA256,
		"?digest-algorithm=sha256": digest.SHA256,
		"?digest-algorithm=sha512": digest.SHA512,
		"?mount=" + d:              digest.SHA512,
		"?digest=" + d:             digest.SHA512,
	} {
		s.doReader("POST", "/v2/foo/blobs/uploads/"+query, io.MultiReader(strings.NewReader("foo")))
		qt.Check(t, qt.Equals(<-told, want), qt.Commentf("%s", query))
	}
}

func TestBehaviour07_SinglePost(t *testing.T) {
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

func TestBehaviour07_SinglePostOfUnknownLength(t *testing.T) {
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

func TestBehaviour07_Mount(t *testing.T) {
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

func TestBehaviour08_Chunks(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	loc := s.startUpload("foo")
	s.do("PATCH", loc, "foo", "Content-Range", "0-2").want(t, http.StatusAccepted).wantHeaders(t, "Location", loc, "Range", "0-2")
	s.do("PATCH", loc, "bar", "Content-Range", "3-5").want(t, http.StatusAccepted).wantHeaders(t, "Location", loc, "Range", "0-5")
	s.do("PATCH", loc, "baz").want(t, http.StatusAccepted).wantHeaders(t, "Range", "0-8")
	s.doReader("PATCH", loc, io.MultiReader(strings.NewReader("qux"))).want(t, http.StatusAccepted).wantHeaders(t, "Range", "0-11")
	s.do("PATCH", loc, "!", "Content-Range", "bytes 12-12/*").want(t, http.StatusAccepted).wantHeaders(t, "Range", "0-12")
	s.do("PATCH", loc, "").want(t, http.StatusAccepted).wantHeaders(t, "Range", "0-12")
	s.do("PATCH", loc, "", "Content-Range", "13-12").want(t, http.StatusAccepted).wantHeaders(t, "Range", "0-12")

	for _, bad := range []string{"0-bar", "13", "x", "16-13", "13-99999999999999999999", "-1-3"} {
		s.do("PATCH", loc, "foo", "Content-Range", bad).
			wantError(t, http.StatusBadRequest, "UNSUPPORTED", "we don't understand your Content-Range")
		s.do("PUT", loc+"?digest="+string(absent), "foo", "Content-Range", bad).
			wantError(t, http.StatusBadRequest, "UNSUPPORTED", "we don't understand your Content-Range")
	}
	s.do("PATCH", loc, "foo", "Content-Range", "13-19").
		wantError(t, http.StatusBadRequest, "SIZE_INVALID", "the Content-Range is 7 bytes long, but the Content-Length is 3")

	// An overlap or a gap leaves the session as it was, and the answer says how.
	for _, wrong := range []string{"12-14", "0-2", "14-16", "9223372036854775800-9223372036854775802"} {
		for _, method := range []string{"PATCH", "PUT"} {
			a := s.do(method, loc+"?digest="+string(absent), "foo", "Content-Range", wrong).
				want(t, http.StatusRequestedRangeNotSatisfiable).
				wantHeaders(t, "Location", loc, "Range", "0-12")
			qt.Check(t, qt.StringContains(a.body, `"code":"RANGE_INVALID"`))
		}
	}
	whole := "foobarbazqux!."
	s.do("PUT", loc+"?digest="+string(digest.FromString(whole)), ".").want(t, http.StatusCreated)
	a := s.do("GET", "/v2/foo/blobs/"+string(digest.FromString(whole)), "").want(t, http.StatusOK)
	qt.Check(t, qt.Equals(a.body, whole))
}

func TestBehaviour08_ChunkThatBreaksOff(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	loc := s.startUpload("foo")
	a := s.rawCutOff("PATCH " + loc + " HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nfoo")
	a.wantError(t, http.StatusBadRequest, "SIZE_INVALID", "the body ended after 3 of 100 bytes")
	s.do("GET", loc, "").want(t, http.StatusNoContent).wantHeaders(t, "Range", "0-2")

	a = s.rawCutOff("PATCH " + loc + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbar\r\n9\r\n")
	qt.Check(t, qt.Equals(a.StatusCode, http.StatusBadRequest))
	s.do("GET", loc, "").want(t, http.StatusNoContent).wantHeaders(t, "Range", "0-5")

	s.do("PATCH", loc, "baz", "Content-Range", "6-8").want(t, http.StatusAccepted)
	s.do("PUT", loc+"?digest="+string(digest.FromString("foobarbaz")), "").want(t, http.StatusCreated)
}

// A chunk of unknown length is held to its Content-Range.
func TestBehaviour08_ChunkOfUnknownLength(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	chunked := func(s string) io.Reader { return io.MultiReader(strings.NewReader(s)) }
	loc := s.startUpload("foo")
	s.doReader("PATCH", loc, chunked("foo"), "Content-Range", "0-2").want(t, http.StatusAccepted).wantHeaders(t, "Range", "0-2")
	s.doReader("PATCH", loc, chunked("toolong"), "Content-Range", "3-5").
		wantError(t, http.StatusBadRequest, "SIZE_INVALID", "the body is longer than the 3 bytes that were announced")
	s.doReader("PATCH", loc, chunked("x"), "Content-Range", "6-9").
		wantError(t, http.StatusBadRequest, "SIZE_INVALID", "the body ended after 1 of 4 bytes")
	s.do("GET", loc, "").want(t, http.StatusNoContent).wantHeaders(t, "Range", "0-6")
	s.do("PUT", loc+"?digest="+string(digest.FromString("footoox")), "").want(t, http.StatusCreated)
}

func TestBehaviour09_FinishUpload(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	d := string(digest.FromString("foobar"))

	whole := s.startUpload("foo")
	s.do("PUT", whole+"?digest="+d, "foobar").want(t, http.StatusCreated).wantHeaders(t,
		"Location", "/v2/foo/blobs/"+d,
		"Docker-Content-Digest", d)

	inChunks := s.startUpload("foo")
	s.do("PATCH", inChunks, "foobar").want(t, http.StatusAccepted)
	s.do("PUT", inChunks+"?digest="+url.QueryEscape(d), "").want(t, http.StatusCreated)

	lastChunk := s.startUpload("foo")
	s.do("PATCH", lastChunk, "foo").want(t, http.StatusAccepted)
	s.do("PUT", lastChunk+"?digest="+d, "bar", "Content-Range", "3-5").want(t, http.StatusCreated)

	for _, loc := range []string{whole, inChunks, lastChunk} {
		for _, method := range []string{"GET", "PATCH", "DELETE"} {
			s.do(method, loc, "").want(t, http.StatusNotFound)
		}
		s.do("PUT", loc+"?digest="+d, "").
			wantError(t, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
	}
}

func TestBehaviour09_FinishWithBadDigest(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	loc := s.startUpload("foo")
	s.do("PATCH", loc, "foo").want(t, http.StatusAccepted)
	for _, query := range []string{"", "?digest=", "?digest=sha256:baddigest"} {
		s.do("PUT", loc+query, "bar").wantError(t, http.StatusBadRequest, "DIGEST_INVALID", "badly formed digest")
	}
	s.do("GET", loc, "").want(t, http.StatusNoContent).wantHeaders(t, "Range", "0-2")

	s.do("PUT", loc+"?digest="+string(absent), "bar").
		wantError(t, http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content")
	s.do("GET", loc, "").wantError(t, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
	qt.Check(t, qt.HasLen(s.repositories(), 0))
}

func TestBehaviour09_FinishThatBreaksOff(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	d := string(digest.FromString("foobar"))
	loc := s.startUpload("foo")
	a := s.rawCutOff("PUT " + loc + "?digest=" + d + " HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nfoo")
	a.wantError(t, http.StatusBadRequest, "SIZE_INVALID", "the body ended after 3 of 6 bytes")
	qt.Check(t, qt.HasLen(s.repositories(), 0))
	s.do("GET", loc, "").want(t, http.StatusNoContent).wantHeaders(t, "Range", "0-2")
	s.do("PUT", loc+"?digest="+d, "bar", "Content-Range", "3-5").want(t, http.StatusCreated)
}

func TestBehaviour10_StatusAndCancel(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	loc := s.startUpload("foo")
	s.do("GET", loc, "").want(t, http.StatusNoContent).wantHeaders(t, "Location", loc, "Range", "0-0")
	s.do("PATCH", loc, "foobar").want(t, http.StatusAccepted)
	for _, method := range []string{"GET", "HEAD"} {
		s.do(method, loc, "").want(t, http.StatusNoContent).wantHeaders(t, "Location", loc, "Range", "0-5")
	}
	other := strings.Replace(loc, "/foo/", "/bar/", 1)
	s.do("GET", other, "").want(t, http.StatusNotFound)

	s.do("DELETE", loc, "").want(t, http.StatusNoContent)
	for _, method := range []string{"GET", "PATCH", "PUT", "DELETE"} {
		s.do(method, loc+"?digest="+string(absent), "").
			wantError(t, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
	}
	s.do("HEAD", loc, "").want(t, http.StatusNotFound)
	qt.Check(t, qt.HasLen(s.repositories(), 0))
}

func TestBehaviour11_ForeignUploadID(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	for range 2 { // a session that was never opened, or had nothing, is nowhere
		for _, method := range []string{"GET", "DELETE"} {
			s.do(method, "/v2/foo/blobs/uploads/MQ", "").
				wantError(t, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
		}
		s.do("HEAD", "/v2/foo/blobs/uploads/MQ", "").want(t, http.StatusNotFound)
	}
	s.do("PATCH", "/v2/foo/blobs/uploads/MQ", "foo", "Content-Range", "0-2").want(t, http.StatusAccepted).wantHeaders(t,
		"Location", "/v2/foo/blobs/uploads/MQ",
		"Docker-Upload-UUID", "MQ",
		"Range", "0-2")
	d := string(digest.FromString("foo"))
	s.do("PUT", "/v2/foo/blobs/uploads/MQ?digest="+d, "").want(t, http.StatusCreated)
	s.do("PUT", "/v2/bar/blobs/uploads/MQ?digest="+d, "foo").want(t, http.StatusCreated)
	s.do("PATCH", "/v2/foo/blobs/uploads/Mg", "fo").want(t, http.StatusAccepted).wantHeaders(t, "Range", "0-1")
	s.do("PATCH", "/v2/foo/blobs/uploads/Mg", "o").want(t, http.StatusAccepted).wantHeaders(t, "Range", "0-2")
	s.do("GET", "/v2/foo/blobs/uploads/Mg", "").want(t, http.StatusNoContent).wantHeaders(t, "Range", "0-2")
	s.do("DELETE", "/v2/foo/blobs/uploads/Mg", "").want(t, http.StatusNoContent)
	s.do("GET", "/v2/foo/blobs/uploads/Mg", "").want(t, http.StatusNotFound)
}

func TestBehaviour12_PutManifest(t *testing.T) {
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

func TestBehaviour12_Subject(t *testing.T) {
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

func TestBehaviour12_Tags(t *testing.T) {
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

func TestBehaviour12_ManifestLimit(t *testing.T) {
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

func TestBehaviour12_ConditionalPut(t *testing.T) {
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

func TestBehaviour17_BlobLimit(t *testing.T) {
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
