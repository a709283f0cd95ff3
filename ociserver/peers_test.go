package ociserver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// The tests in this file, and the following, are for defects of other registries:
//
//	allocation by a claimed length    TestClaimedLengths_AllocateNothing
//	content in error messages         TestErrors_HaveNoContent
//	repositories of failed calls      TestBadNames_AreClientErrorsAndCreateNothing, FuzzServer
//	tags of deleted manifests         TestDeleteManifest_DeletesItsTags
//	null lists                        TestTagsList_HasThePageThatIsAskedFor,
//	                                  TestCatalog_HasThePageThatIsAskedFor,
//	                                  TestReferrers_AreAnIndexOfDescriptors

func TestEmptyTag_IsRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
		s.do(method, "/v2/foo/manifests/", "x").want(t, http.StatusNotFound)
	}
	s.do("PUT", "/v2/foo/manifests/latest?tag=", "x").want(t, http.StatusBadRequest)
	s.do("PUT", "/v2/foo/manifests/"+string(digest.FromString("x"))+"?tag=", "x").want(t, http.StatusBadRequest)
	qt.Check(t, qt.HasLen(s.repositories(), 0))
}

func TestBadInput_IsNoServerError(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	blob := s.pushBlob("foo", helloWorld)
	const manifestType = "application/vnd.oci.image.manifest.v1+json"
	s.do("GET", "/v2/foo/blobs/sha256:x", "").want(t, http.StatusBadRequest)
	s.do("GET", "/v2/foo/blobs/"+string(absent), "").want(t, http.StatusNotFound)
	s.do("GET", "/v2/foo/blobs/"+string(blob), "", "Range", "bytes=100-200").want(t, http.StatusRequestedRangeNotSatisfiable)
	for _, content := range []string{"{", "[]", "null", "", `{"config":1}`, `{"layers":[{}]}`, "\xff", `{"mediaType":"x"}`} {
		s.do("PUT", "/v2/foo/manifests/latest", content, "Content-Type", manifestType).want(t, http.StatusBadRequest)
	}
	s.do("PUT", "/v2/foo/manifests/latest", imageManifest(absent, "", nil), "Content-Type", manifestType).want(t, http.StatusNotFound)
}

// Commit stores the content that it checked, whoever else writes to the session.
func TestCommit_StoresWhatWasChecked(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	for i := range 20 {
		content := fmt.Sprint("content ", i)
		d := string(digest.FromString(content))
		loc := s.startUpload("foo")
		s.do("PATCH", loc, content).want(t, http.StatusAccepted)
		var writers sync.WaitGroup
		for range 3 {
			writers.Go(func() { s.do("PATCH", loc, "evil") })
		}
		a := s.do("PUT", loc+"?digest="+d, "")
		writers.Wait()
		switch a.StatusCode {
		case http.StatusCreated:
			a := s.do("GET", "/v2/foo/blobs/"+d, "").want(t, http.StatusOK)
			qt.Check(t, qt.Equals(a.body, content))
		case http.StatusBadRequest, http.StatusRequestedRangeNotSatisfiable:
			s.do("GET", "/v2/foo/blobs/"+d, "").want(t, http.StatusNotFound)
		default:
			t.Errorf("status %d: %s", a.StatusCode, a.body)
		}
	}
}

// A page reads from a list its own elements and one more.
func TestListsAreLazy(t *testing.T) {
	t.Parallel()
	taken := 0
	endless := func(context.Context, string, string) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			for taken = 1; yield(fmt.Sprintf("t%09d", taken), nil); taken++ {
			}
		}
	}
	s := serveBackend(t, &ociregistry.Funcs{Tags_: endless}, nil)
	for query, want := range map[string]int{"?n=0": 1, "?n=5": 6, "": 1001, "?n=2147483647": 10001} {
		s.do("GET", "/v2/foo/tags/list"+query, "").want(t, http.StatusOK)
		qt.Check(t, qt.Equals(taken, want), qt.Commentf("%s", query))
	}
	s = serveBackend(t, &ociregistry.Funcs{Tags_: endless}, &ociserver.Options{MaxListPageSize: 2000})
	s.do("GET", "/v2/foo/tags/list", "").want(t, http.StatusOK)
	qt.Check(t, qt.Equals(taken, 1001))
}

// writerTo is a BlobReader that can only write itself, and only to an io.ReaderFrom.
type writerTo struct{ blobReader }

func (r writerTo) WriteTo(w io.Writer) (int64, error) {
	if _, ok := w.(io.ReaderFrom); !ok {
		return 0, fmt.Errorf("a %T is no io.ReaderFrom", w)
	}
	n, err := io.WriteString(w, helloWorld)
	return int64(n), err
}

// readerFrom is a BlobWriter that can only read its content from a reader.
type readerFrom struct{ ociregistry.BlobWriter }

func (w readerFrom) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{w.BlobWriter}, r)
}

func (w readerFrom) Write([]byte) (int, error) {
	return 0, errors.New("Write was called, not ReadFrom")
}

// A reader with WriteTo gets a writer that can send files without copying them. A writer
// with ReadFrom gets the body.
func TestContentIsNotCopied(t *testing.T) {
	t.Parallel()
	backend := ocimem.New()
	desc := ociregistry.Descriptor{Digest: digest.FromString(helloWorld), Size: 11}
	s := serveBackend(t, &ociregistry.Funcs{
		GetBlob_: func(context.Context, string, ociregistry.Digest) (ociregistry.BlobReader, error) {
			return writerTo{blobReader{desc: desc}}, nil
		},
		PushBlobChunkedResume_: func(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
			w, err := backend.PushBlobChunkedResume(ctx, repo, id, offset, chunkSize)
			return readerFrom{w}, err
		},
	}, nil)
	a := s.do("GET", "/v2/foo/blobs/"+string(desc.Digest), "").want(t, http.StatusOK)
	qt.Check(t, qt.Equals(a.body, helloWorld))
	s.do("PATCH", "/v2/foo/blobs/uploads/MQ", helloWorld).want(t, http.StatusAccepted).wantHeaders(t, "Range", "0-10")
	s.doReader("PATCH", "/v2/foo/blobs/uploads/MQ", io.MultiReader(strings.NewReader("!"))).want(t, http.StatusAccepted)
}
