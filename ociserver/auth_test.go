package ociserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// guard is an authorization hook that remembers what it was asked.
type guard struct {
	mu    sync.Mutex
	calls [][]ociserver.Access
	err   error
	may   func(ociserver.Access) bool
}

func (g *guard) authorize(req *http.Request, want []ociserver.Access) (func(ociserver.Access) bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls = append(g.calls, want)
	return g.may, g.err
}

// take returns the calls since the last take.
func (g *guard) take() [][]ociserver.Access {
	g.mu.Lock()
	defer g.mu.Unlock()
	calls := g.calls
	g.calls = nil
	return calls
}

func TestBehaviour18_WhatIsAskedFor(t *testing.T) {
	t.Parallel()
	g := &guard{}
	s := serve(t, &ociserver.Options{Authorize: g.authorize})
	d := string(absent)
	access := func(repo string, action ociserver.Action) ociserver.Access {
		return ociserver.Access{Repository: repo, Action: action}
	}
	tests := []struct {
		request string
		want    []ociserver.Access
	}{
		{"GET /v2/", nil},
		{"GET /v2/_catalog", []ociserver.Access{access("", ociserver.ActionList)}},
		{"GET /v2/foo/tags/list", []ociserver.Access{access("foo", ociserver.ActionPull)}},
		{"GET /v2/foo/referrers/" + d, []ociserver.Access{access("foo", ociserver.ActionPull)}},
		{"GET /v2/foo/blobs/" + d, []ociserver.Access{access("foo", ociserver.ActionPull)}},
		{"HEAD /v2/foo/blobs/" + d, []ociserver.Access{access("foo", ociserver.ActionPull)}},
		{"GET /v2/foo/manifests/x", []ociserver.Access{access("foo", ociserver.ActionPull)}},
		{"HEAD /v2/foo/manifests/x", []ociserver.Access{access("foo", ociserver.ActionPull)}},
		{"POST /v2/foo/blobs/uploads/", []ociserver.Access{access("foo", ociserver.ActionPush)}},
		{"POST /v2/foo/blobs/uploads/?digest=" + d, []ociserver.Access{access("foo", ociserver.ActionPush)}},
		{"POST /v2/foo/blobs/uploads/?mount=" + d, []ociserver.Access{access("foo", ociserver.ActionPush)}},
		{"POST /v2/foo/blobs/uploads/?from=bar/baz&mount=" + d, []ociserver.Access{access("foo", ociserver.ActionPush), access("bar/baz", ociserver.ActionPull)}},
		{"GET /v2/foo/blobs/uploads/MQ", []ociserver.Access{access("foo", ociserver.ActionPush)}},
		{"PATCH /v2/foo/blobs/uploads/MQ", []ociserver.Access{access("foo", ociserver.ActionPush)}},
		{"PUT /v2/foo/blobs/uploads/MQ?digest=" + d, []ociserver.Access{access("foo", ociserver.ActionPush)}},
		{"DELETE /v2/foo/blobs/uploads/MQ", []ociserver.Access{access("foo", ociserver.ActionPush)}},
		{"PUT /v2/foo/manifests/x?tag=y", []ociserver.Access{access("foo", ociserver.ActionPush)}},
		{"DELETE /v2/foo/manifests/x", []ociserver.Access{access("foo", ociserver.ActionDelete)}},
		{"DELETE /v2/foo/manifests/" + d, []ociserver.Access{access("foo", ociserver.ActionDelete)}},
		{"DELETE /v2/foo/blobs/" + d, []ociserver.Access{access("foo", ociserver.ActionDelete)}},
	}
	for _, test := range tests {
		method, path, _ := strings.Cut(test.request, " ")
		s.do(method, path, "")
		qt.Check(t, qt.DeepEquals(g.take(), [][]ociserver.Access{test.want}), qt.Commentf("%s", test.request))
	}
	for _, bad := range []string{"/v2/x", "/v2/FOO/tags/list", "/v2/foo/blobs/bad"} {
		s.do("GET", bad, "")
		qt.Check(t, qt.HasLen(g.take(), 0))
	}
}

func TestBehaviour18_Refusals(t *testing.T) {
	t.Parallel()
	const bearer = `Bearer realm="https://auth.example.com/token",service="x",scope="repository:foo:pull"`
	tests := []struct {
		err       error
		status    int
		code      string
		challenge string
	}{
		{ociserver.Unauthorized(bearer), 401, "UNAUTHORIZED", bearer},
		{fmt.Errorf("token expired: %w", ociserver.Unauthorized(bearer)), 401, "UNAUTHORIZED", bearer},
		{ociserver.Unauthorized(""), 401, "UNAUTHORIZED", `Basic realm="registry", charset="UTF-8"`},
		{ociregistry.ErrUnauthorized, 401, "UNAUTHORIZED", `Basic realm="registry", charset="UTF-8"`},
		{ociregistry.ErrDenied, 403, "DENIED", ""},
		{ociregistry.ErrTooManyRequests, 429, "TOOMANYREQUESTS", ""},
		{errors.New("the token server is down"), 500, "UNKNOWN", ""},
	}
	for _, test := range tests {
		backend := &ociregistry.Funcs{NewError: func(_ context.Context, method, _ string) error {
			t.Errorf("the backend's %s was called", method)
			return errors.New("called")
		}}
		s := serveBackend(t, backend, &ociserver.Options{Authorize: (&guard{err: test.err}).authorize})
		for _, request := range []string{
			"GET /v2/",
			"GET /v2/_catalog",
			"GET /v2/foo/manifests/x",
			"PUT /v2/foo/manifests/x",
			"DELETE /v2/foo/manifests/x",
			"POST /v2/foo/blobs/uploads/?digest=" + string(absent),
			"POST /v2/foo/blobs/uploads/?from=bar&mount=" + string(absent),
		} {
			method, path, _ := strings.Cut(request, " ")
			a := s.do(method, path, "").want(t, test.status).wantHeaders(t, "WWW-Authenticate", test.challenge)
			qt.Check(t, qt.StringContains(a.body, `"code":"`+test.code+`"`))
		}
	}
	qt.Check(t, qt.ErrorIs(ociserver.Unauthorized(bearer), error(ociregistry.ErrUnauthorized)))
}

// A client that is refused has not sent its body: it waits for "100 Continue".
func TestBehaviour18_RefusedBeforeTheBody(t *testing.T) {
	t.Parallel()
	read := false
	body := readerFunc(func([]byte) (int, error) {
		read = true
		return 0, io.EOF
	})
	h := ociserver.New(ocimem.New(), &ociserver.Options{Authorize: (&guard{err: ociregistry.ErrDenied}).authorize})
	s := serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		req.Body = io.NopCloser(body)
		h.ServeHTTP(w, req)
	}))
	s.do("POST", "/v2/foo/blobs/uploads/?digest="+string(absent), "x").want(t, http.StatusForbidden)
	s.do("PUT", "/v2/foo/manifests/x", "x").want(t, http.StatusForbidden)
	qt.Check(t, qt.IsFalse(read))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestBehaviour18_CatalogShowsWhatMayBePulled(t *testing.T) {
	t.Parallel()
	g := &guard{may: func(a ociserver.Access) bool {
		return a.Action == ociserver.ActionPull && strings.HasPrefix(a.Repository, "open/")
	}}
	s := serve(t, &ociserver.Options{Authorize: g.authorize})
	var want []string
	for i, name := range numbered("", 30) {
		repo := "hidden/" + name
		if i%3 == 0 {
			repo = "open/" + name
			want = append(want, repo)
		}
		s.pushManifest(repo, "latest", "something")
		s.pushManifest("closed/"+name, "latest", "something")
	}
	for query, wantPages := range map[string]int{"": 1, "?n=3": 4, "?n=5": 2, "?n=10": 1, "?n=1": 10} {
		pages := s.pages("/v2/_catalog" + query)
		var got []string
		for _, a := range pages {
			var list struct{ Repositories []string }
			qt.Assert(t, qt.IsNil(json.Unmarshal([]byte(a.body), &list)))
			got = append(got, list.Repositories...)
			qt.Check(t, qt.Not(qt.StringContains(a.Header.Get("Link"), "hidden")))
			qt.Check(t, qt.Not(qt.StringContains(a.Header.Get("Link"), "closed")))
		}
		qt.Check(t, qt.DeepEquals(got, want), qt.Commentf("%s", query))
		qt.Check(t, qt.Equals(len(pages), wantPages), qt.Commentf("%s", query))
	}

	g.may = nil
	a := s.do("GET", "/v2/_catalog", "").want(t, http.StatusOK)
	qt.Check(t, qt.Equals(a.body, `{"repositories":[]}`))
}

func TestBehaviour18_MountWithoutFrom(t *testing.T) {
	t.Parallel()
	everything := ociserver.Access{Action: ociserver.ActionPull}
	tests := []struct {
		name   string
		may    func(ociserver.Access) bool
		status int
	}{
		{"no function", nil, http.StatusAccepted},
		{"each repository by itself", func(a ociserver.Access) bool { return a != everything }, http.StatusAccepted},
		{"everything", func(a ociserver.Access) bool { return a == everything }, http.StatusCreated},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := &guard{may: test.may}
			s := serve(t, &ociserver.Options{Authorize: g.authorize})
			d := string(s.pushBlob("secret", helloWorld))
			s.do("POST", "/v2/foo/blobs/uploads/?mount="+d, "").want(t, test.status)
			// With a source, the hook was asked for it.
			s.do("POST", "/v2/bar/blobs/uploads/?from=secret&mount="+d, "").want(t, http.StatusCreated)
		})
	}
}

// The challenge of a registry behind this one would lead clients to send their
// credentials there.
func TestBehaviour18_UpstreamChallengeIsNotPassedOn(t *testing.T) {
	t.Parallel()
	upstream := ociregistry.NewHTTPError(ociregistry.ErrUnauthorized, http.StatusUnauthorized, &http.Response{
		Header: http.Header{"Www-Authenticate": {`Bearer realm="https://upstream.example.com/token"`}},
	}, nil)
	s := serveBackend(t, &ociregistry.Funcs{NewError: func(context.Context, string, string) error { return upstream }}, nil)
	s.do("GET", "/v2/foo/manifests/x", "").want(t, http.StatusUnauthorized).
		wantHeaders(t, "WWW-Authenticate", `Basic realm="registry", charset="UTF-8"`)
}

func TestBehaviour19_Events(t *testing.T) {
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

// journal is a response that notes when it is written to.
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

// Who gets the answer to a push finds what the event has caused.
func TestBehaviour19_Order(t *testing.T) {
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

func TestBehaviour20_Namespace(t *testing.T) {
	t.Parallel()
	upstream := ocimem.New()
	direct := serveBackend(t, upstream, nil)
	d := string(direct.pushManifest("library/debian", "latest", "upstream"))
	blob := string(direct.pushBlob("library/debian", helloWorld))

	s := serve(t, &ociserver.Options{Namespace: func(ns string) (ociregistry.Interface, bool) {
		return upstream, ns != "quay.io"
	}})
	s.pushManifest("library/debian", "latest", "own")
	for _, path := range []string{
		"/v2/library/debian/manifests/latest", "/v2/library/debian/manifests/" + d,
		"/v2/library/debian/blobs/" + blob, "/v2/library/debian/tags/list", "/v2/library/debian/referrers/" + d,
	} {
		for _, method := range []string{"GET", "HEAD"} {
			s.do(method, path+"?ns=docker.io", "").want(t, http.StatusOK).wantHeaders(t, "OCI-Namespace", "docker.io")
		}
		for _, ns := range []string{"quay.io", "..", "a%0Ab", "%00"} {
			s.do("GET", path+"?ns="+ns, "").want(t, http.StatusNotFound).wantHeaders(t, "OCI-Namespace", "")
		}
	}
	a := s.do("GET", "/v2/library/debian/manifests/latest?ns=docker.io", "").want(t, http.StatusOK)
	qt.Check(t, qt.Equals(a.body, "upstream"))
	a = s.do("GET", "/v2/library/debian/manifests/latest", "").want(t, http.StatusOK).wantHeaders(t, "OCI-Namespace", "")
	qt.Check(t, qt.Equals(a.body, "own"))

	// Pages stay in their namespace.
	direct.pushManifest("library/debian", "stable", "upstream")
	pages := s.pages("/v2/library/debian/tags/list?n=1&ns=docker.io")
	qt.Check(t, qt.Equals(len(pages), 2))
	qt.Check(t, qt.IsTrue(slices.ContainsFunc(pages, func(a *answer) bool { return strings.Contains(a.body, "stable") })))

	// Whether there is such a namespace is not to be found out without leave.
	guarded := serve(t, &ociserver.Options{
		Authorize: (&guard{err: ociregistry.ErrDenied}).authorize,
		Namespace: func(string) (ociregistry.Interface, bool) { return nil, false },
	})
	guarded.do("GET", "/v2/foo/tags/list?ns=docker.io", "").want(t, http.StatusForbidden)

	// What is no read goes to the registry itself, and without the option so
	// does everything.
	s.do("PUT", "/v2/foo/manifests/x?ns=docker.io", "something").want(t, http.StatusCreated)
	direct.do("GET", "/v2/foo/manifests/x", "").want(t, http.StatusNotFound)
	a = direct.do("GET", "/v2/library/debian/manifests/latest?ns=quay.io", "").want(t, http.StatusOK).wantHeaders(t, "OCI-Namespace", "")
	qt.Check(t, qt.Equals(a.body, "upstream"))
}
