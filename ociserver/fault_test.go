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
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// blobReader is a BlobReader with any content and descriptor.
type blobReader struct {
	io.Reader
	desc   ociregistry.Descriptor
	closed *atomic.Int32 // counts calls of Close, if it is not nil
}

func (r blobReader) Descriptor() ociregistry.Descriptor { return r.desc }

func (r blobReader) Close() error {
	if r.closed != nil {
		r.closed.Add(1)
	}
	return nil
}

// getFails makes a request whose answer must break off, and returns the part that arrived.
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

// A client can tell that an answer is not complete.
func TestContentThatBreaksOff_IsNotTakenForComplete(t *testing.T) {
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
			var closed atomic.Int32
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
			qt.Check(t, qt.Equals(closed.Load(), 2))
			qt.Check(t, qt.StringContains(log.String(), "broken off"))
		})
	}
}

// A backend need not know the size of its content.
func TestContentOfUnknownSize_IsServedWithoutALength(t *testing.T) {
	t.Parallel()
	desc := ociregistry.Descriptor{MediaType: "text/plain", Digest: digest.FromString(helloWorld), Size: -1}
	var closed atomic.Int32
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
	qt.Check(t, qt.Not(qt.Equals(closed.Load(), 0)))
}

// raced is a BlobWriter that is overtaken by another one.
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

// The answer to a client that lost a race has the state of the session.
func TestLostRace_TellsWhereTheSessionIs(t *testing.T) {
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

// forgetful is a BlobWriter whose errors do not wrap their causes.
type forgetful struct{ ociregistry.BlobWriter }

func (forgetful) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(io.Discard, r)
	if err != nil {
		err = errors.New("storage failed")
	}
	return n, err
}

// An error of a body is the client's fault, whatever error the backend returns for it.
func TestBrokenBody_IsTheClientsFault(t *testing.T) {
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

// A backend need not support ranges, which a server may ignore (RFC 9110, section 14.2).
func TestBackendWithoutRanges_ServesTheWholeBlob(t *testing.T) {
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

// If the status says that there is no referrers API, clients maintain the lists themselves.
func TestBackendWithoutReferrers_HasNoReferrersAPI(t *testing.T) {
	t.Parallel()
	s := serveBackend(t, &ociregistry.Funcs{}, nil)
	s.do("GET", "/v2/foo/referrers/"+string(absent), "").wantError(t, http.StatusNotFound, "UNKNOWN", "page not found")
	s.do("GET", "/v2/foo/referrers/bad", "").want(t, http.StatusBadRequest)
}

func TestBackendErrors_HaveTheirStatusCodeAndLogLevel(t *testing.T) {
	t.Parallel()
	upstream := func(status int, err error, headers ...string) error {
		h := http.Header{}
		for i := 0; i < len(headers); i += 2 {
			h.Set(headers[i], headers[i+1])
		}
		return ociregistry.NewHTTPError(err, status, &http.Response{Header: h}, nil)
	}
	remote := func(err error) error {
		return &ociregistry.OpError{Op: "GetTag", Registry: "registry.test", Repository: "foo", Err: err}
	}
	tests := []struct {
		err     error
		status  int
		code    string
		headers []string
		level   string
	}{
		{errors.New("disk on fire"), 500, "UNKNOWN", nil, "ERROR"},
		{&ociregistry.OpError{Op: "GetTag", Repository: "foo", Err: ociregistry.ErrManifestUnknown}, 404, "MANIFEST_UNKNOWN", nil, "INFO"},
		{ociregistry.ErrUnsupported, 400, "UNSUPPORTED", nil, "INFO"},
		{ociregistry.ErrDenied, 403, "DENIED", nil, "INFO"},
		{ociregistry.ErrInUse, 405, "DENIED", []string{"Allow", "GET, HEAD"}, "INFO"},
		{upstream(429, ociregistry.ErrTooManyRequests, "Retry-After", "7"), 429, "TOOMANYREQUESTS", []string{"Retry-After", "7"}, "INFO"},
		{upstream(503, nil, "Retry-After", "8", "Set-Cookie", "a=b"), 503, "UNKNOWN", []string{"Retry-After", "8", "Set-Cookie", ""}, "ERROR"},
		{upstream(502, errors.New("no route")), 502, "UNKNOWN", nil, "ERROR"},
		{remote(&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}), 502, "UNKNOWN", nil, "ERROR"},
		{&ociregistry.OpError{Op: "GetTag", Repository: "foo", Err: remote(io.ErrUnexpectedEOF)}, 502, "UNKNOWN", nil, "ERROR"},
		{remote(&net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}), 504, "UNKNOWN", nil, "ERROR"},
		{remote(fmt.Errorf("waiting for the answer: %w", context.DeadlineExceeded)), 504, "UNKNOWN", nil, "ERROR"},
		{remote(ociregistry.ErrManifestUnknown), 404, "MANIFEST_UNKNOWN", nil, "INFO"},
		{remote(upstream(500, nil)), 500, "UNKNOWN", nil, "ERROR"},
		{&ociregistry.OpError{Op: "GetTag", Repository: "foo", Err: os.ErrDeadlineExceeded}, 500, "UNKNOWN", nil, "ERROR"},
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

// An upload id is as good as a password, and a client can send a path of any length.
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

func TestListThatFails_IsAnErrorUnlessThePageIsComplete(t *testing.T) {
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

func TestBackendThatPanics_IsAServerError(t *testing.T) {
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

// A mount becomes an upload only if its error means that the blob cannot be mounted.
func TestMountThatFails_StartsAnUploadOnlyWhereItCannotBeDone(t *testing.T) {
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

// The end of the context is not the backend's fault.
func TestContextThatEnds_IsServiceUnavailable(t *testing.T) {
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

// overtaken is a BlobWriter whose bytes are lost when it is closed, because another
// writer was first.
type overtaken struct {
	ociregistry.BlobWriter
	err error
}

func (w overtaken) Close() error { return w.err }

// What a writer had is not said to be there when it could not be kept.
func TestCloseThatFails_TellsWhereTheSessionIs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err    error
		status int
		want   string
	}{
		{ociregistry.ErrRangeInvalid, http.StatusRequestedRangeNotSatisfiable, "0-1"},
		{errors.New("the disk is full"), http.StatusInternalServerError, ""},
	} {
		mem, resumed := ocimem.New(), 0
		other, err := mem.PushBlobChunked(t.Context(), "foo", 0)
		qt.Assert(t, qt.IsNil(err))
		backend := &ociregistry.Funcs{
			PushBlobChunkedResume_: func(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
				if resumed++; resumed > 1 {
					return mem.PushBlobChunkedResume(ctx, repo, id, offset, chunkSize)
				}
				w, err := ocimem.New().PushBlobChunked(ctx, repo, chunkSize)
				return overtaken{w, test.err}, err
			},
		}
		s := serveBackend(t, backend, nil)
		_, err = other.Write([]byte("xy"))
		qt.Assert(t, qt.IsNil(err))
		a := s.do("PATCH", "/v2/foo/blobs/uploads/"+wire.EncodeUploadID(other.ID()), helloWorld)
		qt.Check(t, qt.Equals(a.StatusCode, test.status))
		qt.Check(t, qt.Equals(a.Header.Get("Range"), test.want))
		qt.Check(t, qt.IsNil(other.Close()))
	}
}

// A chunk that does not continue its session is told what the session keeps, and not what a
// writer has that is about to lose it.
func TestRefusedChunk_IsToldWhereTheSessionStays(t *testing.T) {
	t.Parallel()
	mem, resumed := ocimem.New(), 0
	kept, err := mem.PushBlobChunked(t.Context(), "foo", 0)
	qt.Assert(t, qt.IsNil(err))
	_, err = kept.Write([]byte("xy"))
	qt.Assert(t, qt.IsNil(err))
	s := serveBackend(t, &ociregistry.Funcs{
		PushBlobChunkedResume_: func(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
			if resumed++; resumed != 2 {
				return mem.PushBlobChunkedResume(ctx, repo, id, offset, chunkSize)
			}
			w, err := ocimem.New().PushBlobChunked(ctx, repo, chunkSize)
			if err == nil {
				_, err = w.Write([]byte(helloWorld))
			}
			return overtaken{w, ociregistry.ErrRangeInvalid}, err
		},
	}, nil)
	a := s.do("PATCH", "/v2/foo/blobs/uploads/"+wire.EncodeUploadID(kept.ID()), helloWorld, "Content-Range", "0-10").want(t, http.StatusRequestedRangeNotSatisfiable)
	qt.Check(t, qt.Equals(a.Header.Get("Range"), "0-1"))
	qt.Check(t, qt.IsNil(kept.Close()))
}
