package ociserver_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// told is a call of a hook. The error is nil for one of OnEvent.
type told struct {
	event ociserver.Event
	err   error
}

// tell returns options whose hooks send what they are told, without durations.
func tell(t testing.TB) (*ociserver.Options, chan told) {
	calls := make(chan told, 100)
	send := func(e ociserver.Event, err error) {
		qt.Check(t, qt.IsTrue(e.Duration > 0))
		e.Duration = 0
		calls <- told{e, err}
	}
	return &ociserver.Options{
		OnEvent:   func(_ context.Context, e ociserver.Event) { send(e, nil) },
		OnFailure: func(_ context.Context, e ociserver.Event, err error) { send(e, err) },
	}, calls
}

// onlyCall returns the only call of a hook.
func onlyCall(t testing.TB, calls chan told) told {
	t.Helper()
	got := <-calls
	qt.Assert(t, qt.HasLen(calls, 0))
	return got
}

func statusOf(err error) int {
	_, status := ociregistry.MarshalError(err)
	return status
}

func TestOnFailure_IsCalledOnceForEachRequestThatFails(t *testing.T) {
	t.Parallel()
	opts, calls := tell(t)
	opts.MaxBlobSize = 20
	s := serve(t, opts)
	s.pushBlob("foo", helloWorld)
	d := digest.FromString(helloWorld)
	<-calls
	loc := s.startUpload("foo")
	pull, push, deletion := ociserver.ActionPull, ociserver.ActionPush, ociserver.ActionDelete
	only := ociregistry.Descriptor{Digest: absent}
	for _, test := range []struct {
		request string
		body    string
		headers []string
		want    ociserver.Event
		err     error
		status  int
	}{
		{"GET /v2/foo/blobs/" + string(absent), "", nil, ociserver.Event{Action: pull, Descriptor: only}, ociregistry.ErrBlobUnknown, 404},
		{"GET /v2/foo/blobs/" + string(d), "", []string{"Range", "bytes=99-"}, ociserver.Event{Action: pull, Descriptor: ociregistry.Descriptor{Digest: d}}, ociregistry.ErrRangeInvalid, 416},
		{"GET /v2/foo/blobs/" + string(d), "", []string{"If-Match", `"x"`}, ociserver.Event{Action: pull, Descriptor: ociregistry.Descriptor{Digest: d}}, ociregistry.ErrPreconditionFailed, 412},
		{"GET /v2/foo/manifests/v1", "", nil, ociserver.Event{Action: pull, Manifest: true, Tags: []string{"v1"}}, ociregistry.ErrManifestUnknown, 404},
		{"POST /v2/foo/blobs/uploads/?digest=" + string(absent), "x", nil, ociserver.Event{Action: push, Descriptor: only, Bytes: 1}, ociregistry.ErrDigestInvalid, 400},
		{"POST /v2/foo/blobs/uploads/?digest=" + string(absent), strings.Repeat("x", 21), nil, ociserver.Event{Action: push, Descriptor: only}, ociregistry.ErrSizeInvalid, 413},
		{"PATCH " + loc, "hello", []string{"Content-Range", "5-9"}, ociserver.Event{Action: push}, ociregistry.ErrRangeInvalid, 416},
		{"PUT " + loc + "?digest=" + string(absent), "hello", nil, ociserver.Event{Action: push, Descriptor: only, Bytes: 5}, ociregistry.ErrDigestInvalid, 400},
		{"PATCH " + loc, "hello", nil, ociserver.Event{Action: push}, ociregistry.ErrBlobUploadUnknown, 404},
		{"PUT /v2/foo/manifests/v1?tag=v2", "{", []string{"Content-Type", "application/vnd.oci.image.manifest.v1+json"}, ociserver.Event{Action: push, Manifest: true, Tags: []string{"v1", "v2"}, Bytes: 1}, ociregistry.ErrManifestInvalid, 400},
		{"DELETE /v2/foo/manifests/v1", "", nil, ociserver.Event{Action: deletion, Manifest: true, Tags: []string{"v1"}}, ociregistry.ErrManifestUnknown, 404},
		{"DELETE /v2/foo/manifests/" + string(absent), "", nil, ociserver.Event{Action: deletion, Manifest: true, Descriptor: only}, ociregistry.ErrManifestUnknown, 404},
		{"DELETE /v2/foo/blobs/" + string(absent), "", nil, ociserver.Event{Action: deletion, Descriptor: only}, ociregistry.ErrBlobUnknown, 404},
	} {
		method, path, _ := strings.Cut(test.request, " ")
		s.do(method, path, test.body, test.headers...).want(t, test.status)
		got := onlyCall(t, calls)
		test.want.Repository = "foo"
		qt.Check(t, qt.DeepEquals(got.event, test.want), qt.Commentf("%s", test.request))
		qt.Check(t, qt.ErrorIs(got.err, test.err), qt.Commentf("%s", test.request))
		qt.Check(t, qt.Equals(statusOf(got.err), test.status), qt.Commentf("%s", test.request))
	}
}

func TestOnFailure_IsNotCalledForWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	opts, calls := tell(t)
	s := serve(t, opts)
	for _, request := range []string{
		"GET /v2/", "POST /v2/", "GET /elsewhere", "OPTIONS /v2/foo/tags/list",
		"GET /v2/Foo/blobs/" + string(absent), "GET /v2/foo/blobs/sha256:xyz", "PUT /v2/foo/manifests/.v1",
		"HEAD /v2/foo/blobs/" + string(absent), "HEAD /v2/foo/manifests/v1",
		"GET /v2/foo/tags/list", "GET /v2/_catalog?n=x", "GET /v2/foo/referrers/" + string(absent),
		"GET /v2/foo/blobs/uploads/unknown", "DELETE /v2/foo/blobs/uploads/unknown",
		"POST /v2/foo/blobs/uploads/", "POST /v2/foo/blobs/uploads/?from=bar&mount=" + string(absent),
	} {
		method, path, _ := strings.Cut(request, " ")
		s.do(method, path, "")
		qt.Check(t, qt.HasLen(calls, 0), qt.Commentf("%s", request))
	}
}

func TestOnFailure_TellsOfRefusals(t *testing.T) {
	t.Parallel()
	opts, calls := tell(t)
	opts.Authorize = func(*http.Request, []ociserver.Access) (func(ociserver.Access) bool, error) {
		return nil, ociserver.Unauthorized("Bearer realm=\"x\"")
	}
	s := serve(t, opts)
	s.do("POST", "/v2/foo/blobs/uploads/?from=bar&mount="+string(absent), "").want(t, http.StatusUnauthorized)
	got := onlyCall(t, calls)
	qt.Check(t, qt.ErrorIs(got.err, ociregistry.ErrUnauthorized))
	qt.Check(t, qt.DeepEquals(got.event, ociserver.Event{
		Action: ociserver.ActionMount, Repository: "foo", From: "bar", Descriptor: ociregistry.Descriptor{Digest: absent},
	}))
}

func TestOnFailure_TellsOfAnswersThatBreakOff(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk on fire")
	desc := ociregistry.Descriptor{MediaType: "text/plain", Digest: absent, Size: 11}
	for _, test := range []struct {
		name    string
		headers []string
		size    int64
		want    int64 // bytes
	}{
		{"whole", nil, 11, 5},
		{"unknown size", nil, -1, 5},
		{"range", []string{"Range", "bytes=0-9"}, 11, 5},
		{"ranges", []string{"Range", "bytes=0-3,4-9"}, 11, 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			opts, calls := tell(t)
			desc := desc
			desc.Size = test.size
			open := func() (ociregistry.BlobReader, error) {
				return blobReader{io.MultiReader(strings.NewReader("hello"), iotest.ErrReader(broken)), desc, nil}, nil
			}
			h := ociserver.New(&ociregistry.Funcs{
				GetBlob_: func(context.Context, string, ociregistry.Digest) (ociregistry.BlobReader, error) { return open() },
				GetBlobRange_: func(context.Context, string, ociregistry.Digest, int64, int64) (ociregistry.BlobReader, error) {
					return open()
				},
				ResolveBlob_: func(context.Context, string, ociregistry.Digest) (ociregistry.Descriptor, error) { return desc, nil },
			}, opts)
			req := httptest.NewRequest("GET", "/v2/foo/blobs/"+string(absent), nil)
			for i := 0; i < len(test.headers); i += 2 {
				req.Header.Set(test.headers[i], test.headers[i+1])
			}
			qt.Check(t, qt.PanicMatches(func() { h.ServeHTTP(httptest.NewRecorder(), req) }, http.ErrAbortHandler.Error()))
			got := onlyCall(t, calls)
			qt.Check(t, qt.ErrorIs(got.err, broken))
			qt.Check(t, qt.DeepEquals(got.event, ociserver.Event{Action: ociserver.ActionPull, Repository: "foo", Descriptor: desc, Bytes: test.want}))
		})
	}
}

// goneAfter is a response whose client goes away after some bytes.
type goneAfter struct {
	*httptest.ResponseRecorder
	left int
	gone context.CancelFunc
}

var errReset = errors.New("connection reset by peer")

func (w *goneAfter) Write(p []byte) (int, error) {
	n := min(len(p), w.left)
	if w.left -= n; n < len(p) {
		w.gone()
		return n, errReset
	}
	return n, nil
}

func TestOnFailure_KnowsClientsThatGoAway(t *testing.T) {
	t.Parallel()
	t.Run("pull", func(t *testing.T) {
		t.Parallel()
		opts, calls := tell(t)
		backend, paths := withBlobs(t)
		for i, path := range paths {
			ctx, gone := context.WithCancel(t.Context())
			w := &goneAfter{httptest.NewRecorder(), 50, gone}
			req := httptest.NewRequest("GET", path, nil).WithContext(ctx)
			qt.Check(t, qt.PanicMatches(func() { ociserver.New(backend, opts).ServeHTTP(w, req) }, http.ErrAbortHandler.Error()))
			got := onlyCall(t, calls)
			qt.Check(t, qt.ErrorIs(got.err, errReset))
			qt.Check(t, qt.Equals(statusOf(got.err), ociserver.StatusClientGone))
			qt.Check(t, qt.Equals(got.event.Descriptor.Size, int64(answerSizes[i])))
			qt.Check(t, qt.Equals(got.event.Bytes, 50))
		}
	})
	t.Run("push", func(t *testing.T) {
		t.Parallel()
		opts, calls := tell(t)
		ctx, gone := context.WithCancel(t.Context())
		body := io.MultiReader(strings.NewReader("hello"), readerFunc(func([]byte) (int, error) {
			gone()
			return 0, io.ErrUnexpectedEOF
		}))
		req := httptest.NewRequest("POST", "/v2/foo/blobs/uploads/?digest="+string(absent), body).WithContext(ctx)
		ociserver.New(ocimem.New(), opts).ServeHTTP(httptest.NewRecorder(), req)
		got := onlyCall(t, calls)
		qt.Check(t, qt.ErrorIs(ctx.Err(), context.Canceled))
		qt.Check(t, qt.IsNotNil(got.err))
		qt.Check(t, qt.DeepEquals(got.event, ociserver.Event{
			Action: ociserver.ActionPush, Repository: "foo", Descriptor: ociregistry.Descriptor{Digest: absent}, Bytes: 5,
		}))
	})
}

func TestOnFailure_TellsOfPanics(t *testing.T) {
	t.Parallel()
	path := "/v2/foo/blobs/" + string(absent)
	serve := func(t *testing.T, v any, w http.ResponseWriter, content io.Reader) told {
		opts, calls := tell(t)
		h := ociserver.New(&ociregistry.Funcs{
			GetBlob_: func(context.Context, string, ociregistry.Digest) (ociregistry.BlobReader, error) {
				if content == nil {
					panic(v)
				}
				return blobReader{content, ociregistry.Descriptor{MediaType: "text/plain", Digest: absent, Size: -1}, nil}, nil
			},
		}, opts)
		func() {
			defer func() { recover() }()
			h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		}()
		got := onlyCall(t, calls)
		qt.Check(t, qt.Equals(got.event.Action, ociserver.ActionPull))
		return got
	}
	t.Run("before the answer", func(t *testing.T) {
		t.Parallel()
		w := httptest.NewRecorder()
		got := serve(t, "boom", w, nil)
		qt.Check(t, qt.ErrorMatches(got.err, ".*panic: boom"))
		qt.Check(t, qt.Equals(statusOf(got.err), http.StatusInternalServerError))
		qt.Check(t, qt.Equals(w.Code, http.StatusInternalServerError))
		qt.Check(t, qt.IsFalse(strings.Contains(w.Body.String(), "boom")))
	})
	t.Run("in the answer", func(t *testing.T) {
		t.Parallel()
		got := serve(t, nil, httptest.NewRecorder(), readerFunc(func([]byte) (int, error) { panic("boom") }))
		qt.Check(t, qt.ErrorMatches(got.err, ".*panic: boom"))
	})
	t.Run("to abort", func(t *testing.T) {
		t.Parallel()
		got := serve(t, http.ErrAbortHandler, httptest.NewRecorder(), nil)
		qt.Check(t, qt.ErrorIs(got.err, http.ErrAbortHandler))
	})
}

// A request has one event, even if a hook panics.
func TestOnFailure_IsNotCalledAfterOnEvent(t *testing.T) {
	t.Parallel()
	events, failures := 0, 0
	h := ociserver.New(ocimem.New(), &ociserver.Options{
		OnEvent:   func(context.Context, ociserver.Event) { events++; panic("boom") },
		OnFailure: func(context.Context, ociserver.Event, error) { failures++; panic("boom") },
	})
	d := string(digest.FromString("x"))
	for _, path := range []string{"/v2/foo/blobs/uploads/?digest=" + d, "/v2/foo/blobs/uploads/?digest=" + string(absent)} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", path, strings.NewReader("x")))
		qt.Check(t, qt.Equals(w.Code, http.StatusInternalServerError))
	}
	qt.Check(t, qt.Equals(events, 1))
	qt.Check(t, qt.Equals(failures, 1))
}
