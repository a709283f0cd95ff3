package ociserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// guard is an authorization hook that records its calls.
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

func TestAuthorize_IsAskedForWhatTheRequestNeeds(t *testing.T) {
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

func TestAuthorize_RefusalIsAnsweredAndTheBackendIsNotCalled(t *testing.T) {
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

// The client may not have sent its body yet, because it waits for "100 Continue".
func TestAuthorize_RefusesBeforeTheBodyIsRead(t *testing.T) {
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

func TestCatalog_ShowsWhatMayBePulled(t *testing.T) {
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

func TestMount_WithoutFromNeedsPullOfEverything(t *testing.T) {
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
func TestUnauthorized_UpstreamChallengeIsNotPassedOn(t *testing.T) {
	t.Parallel()
	upstream := ociregistry.NewHTTPError(ociregistry.ErrUnauthorized, http.StatusUnauthorized, &http.Response{
		Header: http.Header{"Www-Authenticate": {`Bearer realm="https://upstream.example.com/token"`}},
	}, nil)
	s := serveBackend(t, &ociregistry.Funcs{NewError: func(context.Context, string, string) error { return upstream }}, nil)
	s.do("GET", "/v2/foo/manifests/x", "").want(t, http.StatusUnauthorized).
		wantHeaders(t, "WWW-Authenticate", `Basic realm="registry", charset="UTF-8"`)
}
