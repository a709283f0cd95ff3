package ociserver_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

func TestOnEvent_IsCalledForEachSuccess(t *testing.T) {
	t.Parallel()
	events := make(chan ociserver.Event, 1)
	s := serve(t, &ociserver.Options{OnEvent: func(ctx context.Context, e ociserver.Event) {
		if ctx.Err() != nil {
			t.Errorf("event with an ended context: %+v", e)
		}
		events <- e
	}})
	next := func(want ociserver.Event) {
		t.Helper()
		got := <-events
		qt.Check(t, qt.IsTrue(got.Duration > 0))
		got.Duration = 0
		qt.Assert(t, qt.DeepEquals(got, want))
	}
	none := func() {
		t.Helper()
		select {
		case e := <-events:
			t.Fatalf("unexpected event %+v", e)
		default:
		}
	}
	d := digest.FromString(helloWorld)
	blob := ociregistry.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: 11}

	s.do("POST", "/v2/foo/blobs/uploads/?digest="+string(d), helloWorld).want(t, http.StatusCreated)
	next(ociserver.Event{Action: ociserver.ActionPush, Repository: "foo", Descriptor: blob, Bytes: 11})

	loc := s.startUpload("foo")
	s.do("PATCH", loc, "hello").want(t, http.StatusAccepted)
	s.do("GET", loc, "").want(t, http.StatusNoContent)
	none()
	s.do("PUT", loc+"?digest="+string(d), " world").want(t, http.StatusCreated)
	next(ociserver.Event{Action: ociserver.ActionPush, Repository: "foo", Descriptor: blob, Bytes: 6})

	s.do("POST", "/v2/bar/blobs/uploads/?from=foo&mount="+string(d), "").want(t, http.StatusCreated)
	next(ociserver.Event{Action: ociserver.ActionMount, Repository: "bar", From: "foo", Descriptor: blob})
	s.do("POST", "/v2/baz/blobs/uploads/?mount="+string(d), "").want(t, http.StatusCreated)
	next(ociserver.Event{Action: ociserver.ActionMount, Repository: "baz", Descriptor: blob})
	s.do("POST", "/v2/bar/blobs/uploads/?from=foo&mount="+string(absent), "").want(t, http.StatusAccepted)
	none()

	s.do("GET", "/v2/foo/blobs/"+string(d), "").want(t, http.StatusOK)
	next(ociserver.Event{Action: ociserver.ActionPull, Repository: "foo", Descriptor: blob, Bytes: 11})
	s.do("GET", "/v2/foo/blobs/"+string(d), "", "Range", "bytes=1-4").want(t, http.StatusPartialContent)
	next(ociserver.Event{Action: ociserver.ActionPull, Repository: "foo", Descriptor: blob, Bytes: 4})

	m := digest.FromString("something")
	manifest := ociregistry.Descriptor{MediaType: "text/plain", Digest: m, Size: 9}
	s.do("PUT", "/v2/foo/manifests/latest?tag=v1", "something", "Content-Type", "text/plain").want(t, http.StatusCreated)
	next(ociserver.Event{Action: ociserver.ActionPush, Repository: "foo", Manifest: true, Tags: []string{"latest", "v1"}, Descriptor: manifest, Bytes: 9})
	s.do("GET", "/v2/foo/manifests/latest", "").want(t, http.StatusOK)
	next(ociserver.Event{Action: ociserver.ActionPull, Repository: "foo", Manifest: true, Tags: []string{"latest"}, Descriptor: manifest, Bytes: 9})
	s.do("GET", "/v2/foo/manifests/"+string(m), "").want(t, http.StatusOK)
	next(ociserver.Event{Action: ociserver.ActionPull, Repository: "foo", Manifest: true, Descriptor: manifest, Bytes: 9})

	// Neither is what was not sent, nor what failed.
	for _, path := range []string{"/v2/foo/blobs/" + string(d), "/v2/foo/manifests/latest"} {
		s.do("HEAD", path, "").want(t, http.StatusOK)
		s.do("GET", path, "", "If-None-Match", "*").want(t, http.StatusNotModified)
		s.do("GET", path, "", "If-Match", `"x"`).want(t, http.StatusPreconditionFailed)
	}
	s.do("GET", "/v2/foo/blobs/"+string(absent), "").want(t, http.StatusNotFound)
	s.do("GET", "/v2/foo/blobs/"+string(d), "", "Range", "bytes=99-").want(t, http.StatusRequestedRangeNotSatisfiable)
	s.do("GET", "/v2/foo/tags/list", "").want(t, http.StatusOK)
	s.do("POST", "/v2/foo/blobs/uploads/?digest="+string(absent), "x").want(t, http.StatusBadRequest)
	none()

	s.do("DELETE", "/v2/foo/manifests/latest", "").want(t, http.StatusAccepted)
	next(ociserver.Event{Action: ociserver.ActionDelete, Repository: "foo", Manifest: true, Tags: []string{"latest"}})
	s.do("DELETE", "/v2/foo/manifests/"+string(m), "").want(t, http.StatusAccepted)
	next(ociserver.Event{Action: ociserver.ActionDelete, Repository: "foo", Manifest: true, Descriptor: ociregistry.Descriptor{Digest: m}})
	s.do("DELETE", "/v2/foo/blobs/"+string(d), "").want(t, http.StatusAccepted)
	next(ociserver.Event{Action: ociserver.ActionDelete, Repository: "foo", Descriptor: ociregistry.Descriptor{Digest: d}})
	s.do("DELETE", "/v2/foo/blobs/"+string(d), "").want(t, http.StatusNotFound)
	none()
}

// journal is a response that records when it is written to.
type journal struct {
	http.ResponseWriter
	notes *[]string
}

func (j journal) WriteHeader(status int) {
	*j.notes = append(*j.notes, "header")
	j.ResponseWriter.WriteHeader(status)
}

func (j journal) Write(p []byte) (int, error) {
	*j.notes = append(*j.notes, "content")
	return j.ResponseWriter.Write(p)
}

// A client that has the answer to a push finds the effects of its event.
func TestOnEvent_ComesBeforeTheAnswerToAChangeAndAfterAPull(t *testing.T) {
	t.Parallel()
	var notes []string
	h := ociserver.New(ocimem.New(), &ociserver.Options{
		OnEvent: func(context.Context, ociserver.Event) { notes = append(notes, "event") },
	})
	d := string(digest.FromString("x"))
	for _, test := range []struct {
		request string
		want    []string
	}{
		{"POST /v2/foo/blobs/uploads/?digest=" + d, []string{"event", "header"}},
		{"POST /v2/bar/blobs/uploads/?from=foo&mount=" + d, []string{"event", "header"}},
		{"PUT /v2/foo/blobs/uploads/MQ?digest=" + d, []string{"event", "header"}},
		{"PUT /v2/foo/manifests/latest", []string{"event", "header"}},
		{"GET /v2/foo/manifests/latest", []string{"header", "content", "event"}},
		{"GET /v2/foo/blobs/" + d, []string{"header", "content", "event"}},
		{"DELETE /v2/foo/manifests/" + d, []string{"event", "header"}},
		{"DELETE /v2/foo/blobs/" + d, []string{"event", "header"}},
	} {
		method, path, _ := strings.Cut(test.request, " ")
		notes = nil
		h.ServeHTTP(journal{httptest.NewRecorder(), &notes}, httptest.NewRequest(method, path, strings.NewReader("x")))
		qt.Check(t, qt.DeepEquals(notes, test.want), qt.Commentf("%s", test.request))
	}
}
