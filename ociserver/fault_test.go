package ociserver_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// blobReader is a BlobReader of whatever a test wants.
type blobReader struct {
	io.Reader
	desc   ociregistry.Descriptor
	closed *bool
}

func (r blobReader) Descriptor() ociregistry.Descriptor { return r.desc }

func (r blobReader) Close() error {
	if r.closed != nil {
		*r.closed = true
	}
	return nil
}

// getFails makes a request whose answer must break off, and returns what came
// before.
func (s *site) getFails(path string) string {
	s.t.Helper()
	resp, err := s.client.Get(s.url + path)
	if err != nil {
		return "" // not even the header came
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	qt.Assert(s.t, qt.IsNotNil(err), qt.Commentf("%s: %q", path, data))
	return string(data)
}

// An answer that cannot be completed is not taken for complete.
func TestContentThatBreaksOff(t *testing.T) {
	t.Parallel()
	broken := func() io.Reader {
		return io.MultiReader(strings.NewReader("hello"), iotest.ErrReader(errors.New("disk on fire")))
	}
	tests := []struct {
		name    string
		content func() io.Reader
		size    int64
	}{
		{"error", broken, 11},
		{"error with unknown size", broken, -1},
		{"less than there should be", func() io.Reader { return strings.NewReader("hello") }, 11},
		{"more than there should be", func() io.Reader { return strings.NewReader(helloWorld + "!") }, 11},
		{"much less", func() io.Reader { return strings.NewReader("hello") }, 1 << 40},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			closed := false
			open := func() (ociregistry.BlobReader, error) {
				return blobReader{test.content(), ociregistry.Descriptor{MediaType: "text/plain", Digest: absent, Size: test.size}, &closed}, nil
			}
			backend := &ociregistry.Funcs{
				GetBlob_: func(context.Context, string, ociregistry.Digest) (ociregistry.BlobReader, error) { return open() },
				GetTag_:  func(context.Context, string, string) (ociregistry.BlobReader, error) { return open() },
			}
			s := serveBackend(t, backend, &ociserver.Options{
				Logger:  slog.New(slog.NewTextHandler(&log, nil)),
				OnEvent: func(context.Context, ociserver.Event) { t.Error("an event") },
			})
			for _, path := range []string{"/v2/foo/blobs/" + string(absent), "/v2/foo/manifests/latest"} {
				got := s.getFails(path)
				qt.Check(t, qt.IsTrue(strings.HasPrefix(helloWorld, got)))
			}
			s.close()
			qt.Check(t, qt.IsTrue(closed))
			qt.Check(t, qt.StringContains(log.String(), "broken off"))
		})
	}
}

// A backend need not know the size of what it has.
func TestContentOfUnknownSize(t *testing.T) {
	t.Parallel()
	desc := ociregistry.Descriptor{MediaType: "text/plain", Digest: digest.FromString(helloWorld), Size: -1}
	closed := false
	open := func() (ociregistry.BlobReader, error) {
		return blobReader{Reader: strings.NewReader(helloWorld), desc: desc}, nil
	}
	s := serveBackend(t, &ociregistry.Funcs{
		GetBlob_: func(context.Context, string, ociregistry.Digest) (ociregistry.BlobReader, error) { return open() },
		GetBlobRange_: func(_ context.Context, _ string, _ ociregistry.Digest, o0, o1 int64) (ociregistry.BlobReader, error) {
			return blobReader{Reader: strings.NewReader(helloWorld[o0:]), desc: desc, closed: &closed}, nil
		},
		ResolveBlob_: func(context.Context, string, ociregistry.Digest) (ociregistry.Descriptor, error) { return desc, nil },
		GetTag_:      func(context.Context, string, string) (ociregistry.BlobReader, error) { return open() },
		ResolveTag_:  func(context.Context, string, string) (ociregistry.Descriptor, error) { return desc, nil },
	}, nil)
	blob := "/v2/foo/blobs/" + string(desc.Digest)
	for _, path := range []string{blob, "/v2/foo/manifests/latest"} {
		a := s.do("GET", path, "").want(t, http.StatusOK)
		qt.Check(t, qt.Equals(a.body, helloWorld))
		a = s.do("HEAD", path, "").want(t, http.StatusOK)
		qt.Check(t, qt.Equals(a.ContentLength, -1))
	}
	for _, r := range []string{"bytes=1-4", "bytes=-4"} {
		a := s.do("GET", blob, "", "Range", r).want(t, http.StatusOK)
		qt.Check(t, qt.Equals(a.body, helloWorld))
	}
	qt.Check(t, qt.IsTrue(closed))
}

// raced is a BlobWriter that another one gets ahead of.
type raced struct {
	ociregistry.BlobWriter
	overtake func()
}

func (w raced) Write(p []byte) (int, error) {
	w.overtake()
	return w.BlobWriter.Write(p)
}

func (w raced) Commit(digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	w.overtake()
	return w.BlobWriter.Commit(digest)
}

// A client that lost a race learns where the session is now.
func TestBehaviour08_LostRace(t *testing.T) {
	t.Parallel()
	backend := ocimem.New()
	raceOn := true
	s := serveBackend(t, &ociregistry.Funcs{
		PushBlobChunkedResume_: func(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
			w, err := backend.PushBlobChunkedResume(ctx, repo, id, offset, chunkSize)
			if err != nil || !raceOn {
				return w, err
			}
			raceOn = false
			return raced{w, func() {
				other, err := backend.PushBlobChunkedResume(ctx, repo, id, offset, chunkSize)
				if err == nil {
					_, err = io.WriteString(other, "other")
				}
				qt.Check(t, qt.IsNil(err))
			}}, nil
		},
	}, nil)
	loc := "/v2/foo/blobs/uploads/MQ"
	s.do("PATCH", loc, "foo").want(t, http.StatusRequestedRangeNotSatisfiable).wantHeaders(t, "Location", loc, "Range", "0-4")
	raceOn = true
	s.do("PUT", loc+"?digest="+string(absent), "").want(t, http.StatusRequestedRangeNotSatisfiable).wantHeaders(t, "Location", loc, "Range", "0-9")
	s.do("PUT", loc+"?digest="+string(digest.FromString("otherother")), "").want(t, http.StatusCreated)
}

// forgetful is a BlobWriter that does not tell why it fails.
type forgetful struct{ ociregistry.BlobWriter }

func (forgetful) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(io.Discard, r)
	if err != nil {
		err = errors.New("storage failed")
	}
	return n, err
}

// What is wrong with a body is the client's fault, whatever the backend makes of
// it.
func TestBehaviour17_BodyIsToBlame(t *testing.T) {
	t.Parallel()
	backend := ocimem.New()
	s := serveBackend(t, &ociregistry.Funcs{
		PushBlob_: func(_ context.Context, _ string, desc ociregistry.Descriptor, r io.Reader) (ociregistry.Descriptor, error) {
			_, err := forgetful{}.ReadFrom(r)
			return desc, err
		},
		PushBlobChunkedResume_: func(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
			w, err := backend.PushBlobChunkedResume(ctx, repo, id, offset, chunkSize)
			return forgetful{w}, err
		},
	}, nil)
	for _, request := range []string{
		"POST /v2/foo/blobs/uploads/?digest=" + string(absent),
		"PATCH /v2/foo/blobs/uploads/MQ",
		"PUT /v2/foo/blobs/uploads/MQ?digest=" + string(absent),
	} {
		s.rawCutOff(request+" HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nfoo").
			wantError(t, http.StatusBadRequest, "SIZE_INVALID", "the body ended after 3 of 5 bytes")
	}
}

// Nor need it have ranges, which a server may ignore (RFC 9110, section 14.2).
func TestBehaviour05_BackendWithoutRanges(t *testing.T) {
	t.Parallel()
	desc := ociregistry.Descriptor{Digest: digest.FromString(helloWorld), Size: 11}
	s := serveBackend(t, &ociregistry.Funcs{
		GetBlob_: func(context.Context, string, ociregistry.Digest) (ociregistry.BlobReader, error) {
			return blobReader{Reader: strings.NewReader(helloWorld), desc: desc}, nil
		},
		ResolveBlob_: func(context.Context, string, ociregistry.Digest) (ociregistry.Descriptor, error) { return desc, nil },
	}, nil)
	for _, r := range []string{"bytes=1-4", "bytes=-4"} {
		a := s.do("GET", "/v2/foo/blobs/"+string(desc.Digest), "", "Range", r).want(t, http.StatusOK).wantHeaders(t, "Content-Range", "")
		qt.Check(t, qt.Equals(a.body, helloWorld))
	}
}

// Where the referrers API is missing, clients keep lists of their own; they know
// by the status that it is.
func TestBehaviour16_BackendWithoutReferrers(t *testing.T) {
	t.Parallel()
	s := serveBackend(t, &ociregistry.Funcs{}, nil)
	s.do("GET", "/v2/foo/referrers/"+string(absent), "").wantError(t, http.StatusNotFound, "UNKNOWN", "page not found")
	s.do("GET", "/v2/foo/referrers/bad", "").want(t, http.StatusBadRequest)
}

func TestBackendErrors(t *testing.T) {
	t.Parallel()
	upstream := func(status int, err error, headers ...string) error {
		h := http.Header{}
		for i := 0; i < len(headers); i += 2 {
			h.Set(headers[i], headers[i+1])
		}
		return ociregistry.NewHTTPError(err, status, &http.Response{Header: h}, nil)
	}
	remote := func(err error) error {
		return &ociregistry.OpError{Op: "GetTag", Registry: "registry.test", Repo: "foo", Err: err}
	}
	tests := []struct {
		err     error
		status  int
		code    string
		headers []string
		level   string
	}{
		{errors.New("disk on fire"), 500, "UNKNOWN", nil, "ERROR"},
		{&ociregistry.OpError{Op: "GetTag", Repo: "foo", Err: ociregistry.ErrManifestUnknown}, 404, "MANIFEST_UNKNOWN", nil, "INFO"},
		{ociregistry.ErrUnsupported, 400, "UNSUPPORTED", nil, "INFO"},
		{ociregistry.ErrDenied, 403, "DENIED", nil, "INFO"},
		{ociregistry.ErrInUse, 405, "DENIED", []string{"Allow", "GET, HEAD"}, "INFO"},
		{upstream(429, ociregistry.ErrTooManyRequests, "Retry-After", "7"), 429, "TOOMANYREQUESTS", []string{"Retry-After", "7"}, "INFO"},
		{upstream(503, nil, "Retry-After", "8", "Set-Cookie", "a=b"), 503, "UNKNOWN", []string{"Retry-After", "8", "Set-Cookie", ""}, "ERROR"},
		{upstream(502, errors.New("no route")), 502, "UNKNOWN", nil, "ERROR"},
		{remote(&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}), 502, "UNKNOWN", nil, "ERROR"},
		{&ociregistry.OpError{Op: "GetTag", Repo: "foo", Err: remote(io.ErrUnexpectedEOF)}, 502, "UNKNOWN", nil, "ERROR"},
		{remote(&net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}), 504, "UNKNOWN", nil, "ERROR"},
		{remote(fmt.Errorf("waiting for the answer: %w", context.DeadlineExceeded)), 504, "UNKNOWN", nil, "ERROR"},
		{remote(ociregistry.ErrManifestUnknown), 404, "MANIFEST_UNKNOWN", nil, "INFO"},
		{remote(upstream(500, nil)), 500, "UNKNOWN", nil, "ERROR"},
		{&ociregistry.OpError{Op: "GetTag", Repo: "foo", Err: os.ErrDeadlineExceeded}, 500, "UNKNOWN", nil, "ERROR"},
	}
	for _, test := range tests {
		var log bytes.Buffer
		s := serveBackend(t, &ociregistry.Funcs{NewError: func(context.Context, string, string) error { return test.err }},
			&ociserver.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		a := s.do("GET", "/v2/foo/manifests/latest", "", "Authorization", "Basic c2VjcmV0").want(t, test.status).wantHeaders(t, test.headers...)
		qt.Check(t, qt.StringContains(a.body, `"code":"`+test.code+`"`))
		qt.Check(t, qt.StringContains(log.String(), "level="+test.level))
		qt.Check(t, qt.Not(qt.StringContains(log.String(), "c2VjcmV0")))
		qt.Check(t, qt.Equals(strings.Count(log.String(), "\n"), 1))
		a = s.do("HEAD", "/v2/foo/manifests/latest", "").want(t, test.status).wantHeaders(t, test.headers...)
		qt.Check(t, qt.Equals(a.body, ""))
	}
}

// The id of an upload opens it, and a client can write as much as it likes.
func TestLogHasNoUploadIDs(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := serve(t, &ociserver.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	loc := s.startUpload("foo")
	encoded := loc[strings.LastIndex(loc, "/")+1:]
	id, err := base64.RawURLEncoding.DecodeString(encoded)
	qt.Assert(t, qt.IsNil(err))
	s.do("PATCH", loc, "foo", "Content-Range", "5-7").want(t, http.StatusRequestedRangeNotSatisfiable)
	s.do("PUT", loc, "foo").want(t, http.StatusBadRequest)
	s.do("POST", loc, "foo").want(t, http.StatusMethodNotAllowed)
	qt.Check(t, qt.Equals(strings.Count(log.String(), "path=/v2/foo/blobs/uploads/…"), 3))
	for _, secret := range []string{encoded, string(id)} {
		qt.Check(t, qt.Not(qt.StringContains(log.String(), secret)))
	}

	log.Reset()
	long := strings.Repeat("x", 100_000)
	s.do("GET", "/v2/"+long, "").want(t, http.StatusNotFound)
	s.do(long, "/v2/", "").want(t, http.StatusMethodNotAllowed)
	qt.Check(t, qt.Equals(strings.Count(log.String(), "\n"), 2))
	qt.Check(t, qt.IsTrue(log.Len() < 2000), qt.Commentf("%d bytes", log.Len()))
}

func TestListThatFails(t *testing.T) {
	t.Parallel()
	fail := func(yield func(string, error) bool) {
		_ = yield("a", nil) && yield("b", nil) && yield("", errors.New("disk on fire"))
	}
	s := serveBackend(t, &ociregistry.Funcs{
		Tags_: func(context.Context, string, string) iter.Seq2[string, error] { return fail },
	}, nil)
	s.do("GET", "/v2/foo/tags/list", "").wantConcealed(t, http.StatusInternalServerError)
	s.do("GET", "/v2/foo/tags/list?n=2", "").want(t, http.StatusInternalServerError).wantHeaders(t, "Link", "")
	s.do("GET", "/v2/foo/tags/list?n=1", "").want(t, http.StatusOK).wantHeaders(t, "Link", `</v2/foo/tags/list?n=1&last=a>; rel="next"`)
}

func TestBehaviour17_BackendPanics(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := serveBackend(t, &ociregistry.Funcs{
		GetTag_: func(context.Context, string, string) (ociregistry.BlobReader, error) { panic("out of cheese") },
		GetBlob_: func(context.Context, string, ociregistry.Digest) (ociregistry.BlobReader, error) {
			return blobReader{Reader: readerFunc(func([]byte) (int, error) { panic("out of cheese") })}, nil
		},
		ResolveTag_: func(context.Context, string, string) (ociregistry.Descriptor, error) { panic(http.ErrAbortHandler) },
	}, &ociserver.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	s.do("GET", "/v2/foo/manifests/latest", "").wantConcealed(t, http.StatusInternalServerError)
	qt.Check(t, qt.StringContains(log.String(), "out of cheese"))
	qt.Check(t, qt.StringContains(log.String(), "fault_test.go"))

	_, err := s.client.Get(s.url + "/v2/foo/blobs/" + string(absent))
	qt.Check(t, qt.IsNotNil(err))
	_, err = s.client.Head(s.url + "/v2/foo/manifests/latest")
	qt.Check(t, qt.IsNotNil(err))
}

// A mount that fails for another reason than that it cannot be done does not
// become an upload.
func TestMountThatFails(t *testing.T) {
	t.Parallel()
	var mountErr error
	backend := &ociregistry.Funcs{
		MountBlob_: func(context.Context, string, string, ociregistry.Digest) (ociregistry.Descriptor, error) {
			return ociregistry.Descriptor{}, mountErr
		},
		PushBlobChunked_: func(ctx context.Context, _ string, _ int) (ociregistry.BlobWriter, error) {
			qt.Check(t, qt.Equals(ociregistry.DigestAlgorithmFrom(ctx), digest.SHA512))
			return nil, ociregistry.ErrTooManyRequests
		},
	}
	s := serveBackend(t, backend, nil)
	path := "/v2/foo/blobs/uploads/?from=bar&mount=" + string(digest.SHA512.FromString("x"))
	for err, status := range map[error]int{
		errors.New("disk on fire"):       http.StatusInternalServerError,
		ociregistry.ErrBlobUnknown:       http.StatusTooManyRequests,
		ociregistry.ErrNameUnknown:       http.StatusTooManyRequests,
		ociregistry.ErrUnsupported:       http.StatusTooManyRequests,
		ociregistry.ErrDenied:            http.StatusTooManyRequests,
		ociregistry.ErrUnauthorized:      http.StatusTooManyRequests,
		ociregistry.ErrTooManyRequests:   http.StatusTooManyRequests,
		context.DeadlineExceeded:         http.StatusInternalServerError,
		ociregistry.ErrDigestInvalid:     http.StatusBadRequest,
		ociregistry.ErrBlobUploadUnknown: http.StatusNotFound,
	} {
		mountErr = err
		s.do("POST", path, "").want(t, status)
	}
}

// A backend whose context ended is not to blame.
func TestContextThatEnds(t *testing.T) {
	t.Parallel()
	backend := &ociregistry.Funcs{
		GetTag_: func(ctx context.Context, _, _ string) (ociregistry.BlobReader, error) {
			<-ctx.Done()
			return nil, &ociregistry.OpError{Op: "GetTag", Err: ctx.Err()}
		},
	}
	h := ociserver.New(backend, nil)
	s := serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ctx, cancel := context.WithTimeout(req.Context(), time.Millisecond)
		defer cancel()
		h.ServeHTTP(w, req.WithContext(ctx))
	}))
	s.do("GET", "/v2/foo/manifests/latest", "").
		wantConcealed(t, http.StatusServiceUnavailable)
}
