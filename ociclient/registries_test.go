package ociclient_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociserver"
)

// The tests of this file imitate what registries in use do, as the tests in
// internal/interop have found it.

// clientOfHandler returns a client of h, and a function that returns the methods and ranges
// of the requests since its last call.
func clientOfHandler(t *testing.T, h http.HandlerFunc) (reg ociregistry.Interface, requests func() []string) {
	var mu sync.Mutex
	var log []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		log = append(log, strings.TrimSpace(req.Method+" "+req.Header.Get("Range")))
		mu.Unlock()
		h(w, req)
	}))
	t.Cleanup(srv.Close)
	reg, err := ociclient.New(strings.TrimPrefix(srv.URL, "http://"), &ociclient.Options{Insecure: true, ListPageSize: 3})
	qt.Assert(t, qt.IsNil(err))
	return reg, func() []string {
		mu.Lock()
		defer mu.Unlock()
		taken := log
		log = nil
		return taken
	}
}

// TestRangesAreReadWhereOnlyClosedOnesAreKnown reads from a registry that refuses ranges
// that are open or extend beyond the end, and does not say the size, like ggcr's.
func TestRangesAreReadWhereOnlyClosedOnesAreKnown(t *testing.T) {
	t.Parallel()
	content := "0123456789"
	cut := false // a response with the whole blob breaks
	refuse := false
	reg, requests := clientOfHandler(t, func(w http.ResponseWriter, req *http.Request) {
		size := len(content)
		first, last := 0, size-1
		switch rng := req.Header.Get("Range"); {
		case req.Method == http.MethodHead:
			w.Header().Set("Content-Length", strconv.Itoa(size))
			return
		case rng != "":
			if n, _ := fmt.Sscanf(rng, "bytes=%d-%d", &first, &last); n != 2 || last >= size || first > last || refuse {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, size))
			w.WriteHeader(http.StatusPartialContent)
		case cut:
			w.Header().Set("Content-Length", strconv.Itoa(size))
			io.WriteString(w, content[:4])
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, content[first:last+1])
	})
	dg := digest.FromString(content)
	tests := []struct {
		from, to int64
		want     string
		requests string
	}{
		{2, 5, "234", "GET bytes=2-4"},
		{3, -1, "3456789", "GET bytes=3-, HEAD, GET bytes=3-9"},
		{0, 20, "0123456789", "GET bytes=0-19, HEAD, GET bytes=0-9"},
		{10, -1, "", "GET bytes=10-, HEAD"},
		{4, 4, "", "HEAD"},
	}
	for _, test := range tests {
		r, err := reg.GetBlobRange(t.Context(), "foo", dg, test.from, test.to)
		qt.Assert(t, qt.IsNil(err))
		got, err := io.ReadAll(r)
		r.Close()
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(string(got), test.want))
		qt.Check(t, qt.Equals(strings.Join(requests(), ", "), test.requests))
	}
	_, err := reg.GetBlobRange(t.Context(), "foo", dg, 11, -1)
	qt.Check(t, qt.ErrorMatches(err, ".*416.*"))
	refuse = true // whatever the range
	_, err = reg.GetBlobRange(t.Context(), "foo", dg, 2, 5)
	qt.Check(t, qt.ErrorMatches(err, ".*416.*"))
	refuse = false

	// A reader continues with such a range, too.
	cut = true
	requests()
	r, err := reg.GetBlob(t.Context(), "foo", dg)
	qt.Assert(t, qt.IsNil(err))
	ocitest.CheckContent(t, r, []byte(content), "")
	qt.Check(t, qt.DeepEquals(requests(), []string{"GET", "GET bytes=4-9"}))
}

// TestContentIsVerifiedWhereRegistryNamesAnotherAlgorithm pushes and pulls by SHA-512
// at a registry that names content by SHA-256 only, like distribution's.
func TestContentIsVerifiedWhereRegistryNamesAnotherAlgorithm(t *testing.T) {
	t.Parallel()
	content := []byte("a blob")
	names := digest.FromBytes(content)
	registry := ociserver.New(ocimem.New(), nil)
	reg, _ := clientOfHandler(t, func(w http.ResponseWriter, req *http.Request) {
		registry.ServeHTTP(renamed{w, names.String()}, req)
	})
	desc := ociregistry.Descriptor{MediaType: "application/octet-stream", Digest: digest.SHA512.FromBytes(content), Size: int64(len(content))}
	_, err := reg.PushBlob(t.Context(), "foo", desc, bytes.NewReader(content))
	qt.Assert(t, qt.IsNil(err))
	got, err := reg.ResolveBlob(t.Context(), "foo", desc.Digest)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got, desc))
	r, err := reg.GetBlob(t.Context(), "foo", desc.Digest)
	qt.Assert(t, qt.IsNil(err))
	ocitest.CheckContent(t, r, content, "")

	// A malformed digest, or another one of the same algorithm, is still an error.
	for _, names = range []digest.Digest{"x", "sha1:aa", digest.SHA512.FromString("other")} {
		_, err = reg.ResolveBlob(t.Context(), "foo", desc.Digest)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid), qt.Commentf("%s", names))
	}
}

// renamed sends one digest in the header for all content.
type renamed struct {
	http.ResponseWriter
	digest string
}

func (w renamed) WriteHeader(status int) {
	if w.Header().Get("Docker-Content-Digest") != "" {
		w.Header().Set("Docker-Content-Digest", w.digest)
	}
	w.ResponseWriter.WriteHeader(status)
}

// TestSessionIsAskedAtItsNewestLocation loses the answer to a chunk at a registry that
// knows a session only at the location in that answer, like distribution's.
func TestSessionIsAskedAtItsNewestLocation(t *testing.T) {
	t.Parallel()
	registry := ociserver.New(ocimem.New(), nil)
	newest, lose := 0, true
	var mu sync.Mutex
	reg, _ := clientOfHandler(t, func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if req.Method == http.MethodPost || !strings.Contains(req.URL.Path, "/uploads/") {
			registry.ServeHTTP(located{w, newest}, req)
			return
		}
		if req.URL.Query().Get("state") != strconv.Itoa(newest) {
			ociregistry.WriteError(w, ociregistry.ErrRangeInvalid)
			return
		}
		newest++
		if lose && (req.Method == http.MethodPatch || req.Method == http.MethodPut) {
			lose = false
			io.Copy(io.Discard, req.Body)
			panic(http.ErrAbortHandler)
		}
		registry.ServeHTTP(located{w, newest}, req)
	})
	content := bytes.Repeat([]byte("0123456789abcdef"), 1000)
	tests := map[string]func() io.Reader{
		"Whole":  func() io.Reader { return bytes.NewReader(content) },
		"Chunks": func() io.Reader { return io.MultiReader(bytes.NewReader(content)) },
	}
	for name, open := range tests {
		t.Run(name, func(t *testing.T) {
			lose = true
			desc := ociregistry.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromBytes(content), Size: int64(len(content))}
			repo := strings.ToLower(name)
			_, err := reg.PushBlob(t.Context(), repo, desc, open())
			qt.Assert(t, qt.IsNil(err))
			r, err := reg.GetBlob(t.Context(), repo, desc.Digest)
			qt.Assert(t, qt.IsNil(err))
			ocitest.CheckContent(t, r, content, "")
		})
	}
}

// located adds a state to the locations of sessions.
type located struct {
	http.ResponseWriter
	state int
}

func (w located) WriteHeader(status int) {
	if loc := w.Header().Get("Location"); strings.Contains(loc, "/uploads/") {
		w.Header().Set("Location", loc+"?state="+strconv.Itoa(w.state))
	}
	w.ResponseWriter.WriteHeader(status)
}

// TestInvalidSessionThatIsGoneIsUnknown checks that a session is unknown if the registry
// answers 404, whatever the code of the error.
func TestInvalidSessionThatIsGoneIsUnknown(t *testing.T) {
	t.Parallel()
	reg, _ := clientOfHandler(t, func(w http.ResponseWriter, req *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"errors":[{"code":"BLOB_UPLOAD_INVALID","message":"blob upload invalid"}]}`)
	})
	_, err := reg.PushBlobChunkedResume(t.Context(), "foo", "eA", -1, 0)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadInvalid))
	_, err = reg.GetBlob(t.Context(), "foo", digest.FromString("x"))
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadInvalid))
	qt.Check(t, qt.Not(qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown)))
}

// TestUnorderedListIsListedInOrder lists from a registry whose lists have no order, and
// begin anywhere, like ggcr's catalog.
func TestUnorderedListIsListedInOrder(t *testing.T) {
	t.Parallel()
	pages := []string{`["c","a","b"]`, `["d","b","e"]`, `["a","e","f"]`}
	reg, requests := clientOfHandler(t, func(w http.ResponseWriter, req *http.Request) {
		page := pages[0]
		pages = append(pages[1:], page)
		io.WriteString(w, `{"repositories":`+page+`}`)
	})
	got, err := ociregistry.All(reg.Repositories(t.Context(), ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got, []string{"a", "b", "c"}))
	qt.Check(t, qt.HasLen(requests(), 2))
}

// TestRefusedPageSizeIsLeftToTheRegistry lists from a registry that refuses large pages, as
// distribution's can be configured to.
func TestRefusedPageSizeIsLeftToTheRegistry(t *testing.T) {
	t.Parallel()
	reg, requests := clientOfHandler(t, func(w http.ResponseWriter, req *http.Request) {
		switch q := req.URL.Query(); {
		case q.Get("n") == "3":
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"errors":[{"code":"PAGINATION_NUMBER_INVALID","message":"invalid number of results requested"}]}`)
		case q.Get("last") == "":
			w.Header().Set("Link", `</v2/_catalog?last=b&n=2>; rel="next"`)
			io.WriteString(w, `{"repositories":["a","b"]}`)
		default:
			io.WriteString(w, `{"repositories":["c"]}`)
		}
	})
	got, err := ociregistry.All(reg.Repositories(t.Context(), ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got, []string{"a", "b", "c"}))
	qt.Check(t, qt.HasLen(requests(), 3))
}
