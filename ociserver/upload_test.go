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

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

func TestStartUpload_TellsWhereTheSessionIs(t *testing.T) {
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

// The client is told the chunk size that the backend needs, not the one that it prefers.
func TestStartUpload_TellsTheChunkSizeThatTheBackendNeeds(t *testing.T) {
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

// chunky is a backend that needs chunks of a minimum size, and prefers chunks of 8 MiB.
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

// The backend is told the algorithm of the blob's digest.
func TestStartUpload_TellsTheBackendTheAlgorithm(t *testing.T) {
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

func TestChunk_ContinuesTheSessionOrIsRefused(t *testing.T) {
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

func TestChunk_ThatBreaksOffIsKept(t *testing.T) {
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
func TestChunk_OfUnknownLengthIsHeldToItsContentRange(t *testing.T) {
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

func TestFinishUpload_StoresTheBlobAndEndsTheSession(t *testing.T) {
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

func TestFinishUpload_WithAWrongDigestStoresNothing(t *testing.T) {
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

func TestFinishUpload_ThatBreaksOffKeepsTheSession(t *testing.T) {
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

func TestUploadStatus_TellsTheSizeUntilTheSessionIsCancelled(t *testing.T) {
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

func TestUpload_OfAnIDNeverIssuedBeginsWithItsFirstBytes(t *testing.T) {
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
