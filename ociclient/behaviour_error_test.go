package ociclient_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/faultserver"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

func TestBehaviour22_ErrorBodies(t *testing.T) {
	t.Parallel()
	html := header{"Content-Type": "text/html"}
	text := header{"Content-Type": "text/plain; charset=utf-8"}
	tests := []struct {
		name   string
		status int
		set    header
		body   string
		want   string // the error after what it is about
		is     error
	}{
		{"an error", 403, nil, `{"errors":[{"code":"DENIED","message":"not you","detail":{"a":1}}]}`, "403 Forbidden: denied: not you", ociregistry.ErrDenied},
		{"several", 400, nil, `{"errors":[{"code":"NAME_INVALID","message":"a"},{"code":"SIZE_INVALID"}]}`, "400 Bad Request: name invalid: a; size invalid", ociregistry.ErrSizeInvalid},
		{"a code of its own", 404, nil, `{"errors":[{"code":"NOT_HERE","message":"x"}]}`, "404 Not Found: blob unknown:.*: not here: x", ociregistry.ErrBlobUnknown},
		{"empty", 403, nil, "", "403 Forbidden: denied.*", ociregistry.ErrDenied},
		{"empty, of another status", 418, nil, "", "418 I'm a teapot", nil},
		{"HTML", 404, html, "<html><body>secret</body></html>", "404 Not Found: blob unknown[^<]*", ociregistry.ErrBlobUnknown},
		{"HTML of another status", 418, html, "<html>\n", "418 I'm a teapot", nil},
		{"HTML that says it is text", 418, text, "\n<!DOCTYPE html><html>", "418 I'm a teapot", nil},
		{"text", 403, text, "  go away\x00\x1b[31m\nmore", `403 Forbidden: denied.*: go away\[31m`, ociregistry.ErrDenied},
		{"long text", 418, text, strings.Repeat("ä", 1000), "418 I'm a teapot: ä{100}", nil},
		{"JSON that is none", 403, nil, `{"errors":[`, "403 Forbidden: denied.*", ociregistry.ErrDenied},
		{"JSON without errors", 403, nil, `{"errors":[]}`, "403 Forbidden: denied.*", ociregistry.ErrDenied},
		{"other JSON", 403, nil, `[1]`, "403 Forbidden: denied.*", ociregistry.ErrDenied},
		{"too long", 403, nil, `{"errors":[{"code":"DENIED","message":"` + strings.Repeat("x", 9000) + `"}]}`, "403 Forbidden: denied.*resource is denied", ociregistry.ErrDenied},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			set := header{"X-Request-Id": "1"}
			for name, value := range test.set {
				set[name] = value
			}
			reg, _ := scripted(t, rule{On: "GET ", Status: test.status, Set: set, Answer: test.body})
			_, err := getBlob(reg)
			qt.Assert(t, qt.ErrorMatches(err, "GetBlob [^ ]*: "+test.want))
			qt.Assert(t, qt.IsTrue(test.is == nil || errors.Is(err, test.is)))
			var herr ociregistry.HTTPError
			qt.Assert(t, qt.ErrorAs(err, &herr))
			qt.Assert(t, qt.Equals(herr.StatusCode(), test.status))
			qt.Assert(t, qt.Equals(herr.Response().Header.Get("X-Request-Id"), "1"))
			qt.Assert(t, qt.Equals(string(herr.ResponseBody()), test.body[:min(len(test.body), 8<<10)]))
		})
	}
}

func TestBehaviour22_EndlessBody(t *testing.T) {
	t.Parallel()
	reg, _ := scripted(t, rule{On: "GET ", Handler: func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		for {
			if _, err := w.Write(make([]byte, 1<<10)); err != nil {
				return
			}
		}
	}})
	_, err := getBlob(reg)
	qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrDenied))
}

func TestBehaviour23_Warnings(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []string
	opts := ociclient.Options{OnWarning: func(_ context.Context, text string) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, text)
	}}
	warnings := []string{
		`299 - "this is deprecated"`,
		`299 - "with \"quotes\" and \\"`,
		`299 - "one", 299 - "and another"`,
		`299 - "this is deprecated"`,
		`299 - ""`, `299 - "not ended`, `199 - "not ours"`, `299 agent "not ours"`, `299 - unquoted`, ``, `299 - "` + strings.Repeat("x", 5000) + `"`,
	}
	srv := faultserver.New(t, nil, rule{On: "", Handler: func(w http.ResponseWriter, req *http.Request) {
		w.Header()["Warning"] = warnings
		w.WriteHeader(http.StatusNotFound)
	}})
	reg := clientOf(t, srv, opts, newClock())
	for range 3 {
		qt.Assert(t, qt.IsNotNil(resolveBlob(reg)))
	}
	qt.Assert(t, qt.DeepEquals(got, []string{"this is deprecated", `with "quotes" and \`, "one", "and another"}))
}

func TestBehaviour24_Errors(t *testing.T) {
	t.Parallel()
	d := contentDigest
	at := "@" + string(d)
	tests := []struct {
		want string // operation and repository
		is   error
		call func(ociregistry.Interface) error
	}{
		{"GetBlob foo" + at, ociregistry.ErrBlobUnknown, func(r ociregistry.Interface) error { return second(r.GetBlob(ctx, "foo", d)) }},
		{"GetBlobRange foo" + at, ociregistry.ErrBlobUnknown, func(r ociregistry.Interface) error { return second(r.GetBlobRange(ctx, "foo", d, 1, 2)) }},
		{"ResolveBlob foo" + at, ociregistry.ErrBlobUnknown, func(r ociregistry.Interface) error { return second(r.ResolveBlob(ctx, "foo", d)) }},
		{"GetManifest foo" + at, ociregistry.ErrManifestUnknown, func(r ociregistry.Interface) error { return second(r.GetManifest(ctx, "foo", d)) }},
		{"GetTag foo:v1", ociregistry.ErrManifestUnknown, func(r ociregistry.Interface) error { return second(r.GetTag(ctx, "foo", "v1")) }},
		{"ResolveManifest foo" + at, ociregistry.ErrManifestUnknown, func(r ociregistry.Interface) error { return second(r.ResolveManifest(ctx, "foo", d)) }},
		{"ResolveTag foo:v1", ociregistry.ErrManifestUnknown, func(r ociregistry.Interface) error { return second(r.ResolveTag(ctx, "foo", "v1")) }},
		{"PushBlob foo" + at, nil, push},
		{"PushBlobChunked foo", nil, func(r ociregistry.Interface) error { return second(r.PushBlobChunked(ctx, "foo", 0)) }},
		{"PushBlobChunkedResume foo", ociregistry.ErrBlobUploadUnknown, func(r ociregistry.Interface) error { return second(r.PushBlobChunkedResume(ctx, "foo", "aWQ", -1, 0)) }},
		{"MountBlob foo" + at, ociregistry.ErrBlobUnknown, func(r ociregistry.Interface) error { return second(r.MountBlob(ctx, "bar", "foo", d)) }},
		{"PushManifest foo:v1", nil, func(r ociregistry.Interface) error {
			return second(r.PushManifest(ctx, "foo", "v1", []byte("{}"), imageManifest))
		}},
		{"DeleteBlob foo" + at, ociregistry.ErrBlobUnknown, func(r ociregistry.Interface) error { return r.DeleteBlob(ctx, "foo", d) }},
		{"DeleteManifest foo" + at, ociregistry.ErrManifestUnknown, func(r ociregistry.Interface) error { return r.DeleteManifest(ctx, "foo", d) }},
		{"DeleteTag foo:v1", ociregistry.ErrManifestUnknown, func(r ociregistry.Interface) error { return r.DeleteTag(ctx, "foo", "v1") }},
		{"Repositories ", nil, func(r ociregistry.Interface) error { return second(ociregistry.All(r.Repositories(ctx, ""))) }},
		{"Tags foo", ociregistry.ErrNameUnknown, func(r ociregistry.Interface) error { return second(ociregistry.All(r.Tags(ctx, "foo", ""))) }},
	}
	for _, test := range tests {
		t.Run(test.want, func(t *testing.T) {
			t.Parallel()
			reg, srv := scripted(t, rule{On: "", Status: 404})
			err := test.call(reg)
			op, repo, _ := strings.Cut(test.want, " ")
			where := srv.Host()
			if repo != "" {
				where += "/" + repo
			}
			qt.Assert(t, qt.IsNotNil(err))
			// HEAD has no body: what is unknown, the endpoint tells.
			qt.Assert(t, qt.IsTrue(strings.HasPrefix(err.Error(), op+" "+where+": 404 ") || strings.Contains(err.Error(), op+" "+where+": unsupported: ")), qt.Commentf("%v", err))
			qt.Assert(t, qt.IsTrue(test.is == nil || errors.Is(err, test.is)), qt.Commentf("%v", err))
			var operr *ociregistry.OpError
			qt.Assert(t, qt.ErrorAs(err, &operr))
			qt.Assert(t, qt.Equals(operr.Registry, srv.Host()))
		})
	}
}

func second[T any](_ T, err error) error { return err }

func TestBehaviour25_Scheme(t *testing.T) {
	t.Parallel()
	for insecure, want := range map[bool]string{false: "https://", true: "http://"} {
		w := &world{}
		_ = resolveBlob(clientIn(t, w, "localhost:5000", ociclient.Options{Insecure: insecure}))
		qt.Assert(t, qt.HasLen(w.log, 1))
		qt.Assert(t, qt.StringContains(w.log[0], " "+want+"localhost:5000/"))
	}
	// Nor is it tried when the other does not do.
	_, srv := scripted(t)
	reg, err := ociclient.New(srv.Host(), &ociclient.Options{Transport: newTransport(t), Retry: ociclient.RetryPolicy{Attempts: 1}})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNotNil(resolveBlob(reg)))
	qt.Assert(t, qt.HasLen(srv.Lines(), 0))
}

func TestBehaviour25_UserAgent(t *testing.T) {
	t.Parallel()
	for agent, want := range map[string]string{"": "ociclient", "test/1.0": "test/1.0"} {
		reg, srv := faulty(t, ociclient.Options{UserAgent: agent})
		wantBlob(t, reg, content)
		qt.Assert(t, qt.IsNil(push(reg)))
		for _, r := range srv.Requests("") {
			qt.Assert(t, qt.DeepEquals(r.Header["User-Agent"], []string{want}))
		}
	}
}

func TestBehaviour25_Redirects(t *testing.T) {
	t.Parallel()
	const from = "GET https://registry.test/v2/foo/blobs/"
	ok := answer(200, "Content-Length", "0")
	tests := []struct {
		name   string
		status int
		to     string
		want   string // the second request, or empty for none
	}{
		{"the same origin", 307, "/x?sig=1", "GET https://registry.test/x?sig=1 repository:foo:pull"},
		{"another host", 307, "https://cdn.test/x?sig=1", "GET https://cdn.test/x?sig=1"},
		{"a host below", 302, "https://cdn.registry.test/x", "GET https://cdn.registry.test/x"},
		{"another port", 301, "https://registry.test:8443/x", "GET https://registry.test:8443/x"},
		{"permanently", 308, "https://cdn.test/x", "GET https://cdn.test/x"},
		{"see other", 303, "https://cdn.test/x", "GET https://cdn.test/x"},
		{"its own name by http", 307, "http://registry.test/x", "GET https://registry.test/x repository:foo:pull"},
		{"down to http at another port", 307, "http://registry.test:80/x", ""},
		{"down to http elsewhere", 307, "http://cdn.test/x", ""},
		{"to a file", 307, "file:///etc/passwd", ""},
		{"nowhere", 307, "", ""},
		{"no redirect", 304, "https://cdn.test/x", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := &world{answers: map[string]*http.Response{
				from:                               answer(test.status, "Location", test.to, "WWW-Authenticate", `Basic realm="x"`),
				"GET https://registry.test/x":      ok,
				"GET https://cdn.test/":            ok,
				"GET https://cdn.registry.test/":   ok,
				"GET https://registry.test:8443/x": ok,
			}}
			_, err := getBlob(clientIn(t, w, "registry.test", ociclient.Options{}))
			if test.want == "" {
				qt.Assert(t, qt.IsNotNil(err))
				qt.Assert(t, qt.HasLen(w.log, 1))
				return
			}
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.HasLen(w.log, 2))
			qt.Assert(t, qt.Equals(w.log[1], test.want))
		})
	}
}

// With the transport of ociauth, what another origin gets has no credentials.
func TestBehaviour25_Credentials(t *testing.T) {
	t.Parallel()
	cdn := faultserver.New(t, nil, rule{On: "GET /x", Status: 200, Answer: content})
	srv := faultserver.New(t, nil,
		rule{On: "GET ", Header: header{"Authorization": ""}, Status: 401, Set: header{"WWW-Authenticate": `Basic realm="x"`}},
		rule{On: "GET ", Status: 307, Set: header{"Location": cdn.URL + "/x"}},
	)
	transport := ociauth.NewStdTransport(ociauth.StdTransportParams{Transport: newTransport(t), Config: everywhere{Username: "user", Password: "secret"}})
	wantBlob(t, clientOf(t, srv, ociclient.Options{Transport: transport}, newClock()), content)
	qt.Assert(t, qt.HasLen(srv.Lines(), 2))
	for _, r := range cdn.Requests("") {
		qt.Assert(t, qt.Equals(r.Header.Get("Authorization"), ""))
	}
}

// A request that changes something stays one when it is redirected.
func TestBehaviour25_RedirectedPut(t *testing.T) {
	t.Parallel()
	to := "/v2/bar/manifests/v1"
	reg, srv := scripted(t,
		rule{On: "PUT /v2/foo/", Times: 1, Status: 307, Set: header{"Location": to}},
		rule{On: "PUT " + to, Body: index, Status: 201},
		rule{On: "PUT /v2/foo/", Status: 303, Set: header{"Location": to}},
	)
	_, err := reg.PushManifest(ctx, "foo", "v1", []byte(index), imageIndex)
	qt.Assert(t, qt.IsNil(err))
	_, err = reg.PushManifest(ctx, "foo", "v1", []byte(index), imageIndex)
	qt.Assert(t, qt.ErrorMatches(err, ".*303.*"))
	qt.Assert(t, qt.DeepEquals(srv.Lines(), []string{"PUT /v2/foo/manifests/v1", "PUT " + to, "PUT /v2/foo/manifests/v1"}))
}

func TestBehaviour25_RedirectLoop(t *testing.T) {
	t.Parallel()
	reg, srv := scripted(t, rule{On: "GET ", Status: 307, Set: header{"Location": blobURL}})
	_, err := getBlob(reg)
	qt.Assert(t, qt.ErrorMatches(err, ".*more than 10 redirects"))
	qt.Assert(t, qt.HasLen(srv.Lines(), 10))
}

func TestBehaviour25_Log(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	opts := ociclient.Options{
		DebugID: "client-1",
		Logger:  slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	srv := faultserver.New(t, nil,
		rule{On: "GET ", Header: header{"Authorization": ""}, Status: 401, Set: header{"WWW-Authenticate": `Basic realm="x"`}},
		rule{On: "GET " + blobURL, Status: 307, Set: header{"Location": "/storage/s3cret?sig=s3cret"}},
		rule{On: "GET /storage/", Times: 1, Status: 503},
		rule{On: "GET /storage/", Status: 200, Answer: content},
		rule{On: "POST ", Status: 202, Set: header{"Location": uploads + "s3cret?state=s3cret"}},
		rule{On: "PUT ", Status: 201},
	)
	opts.Transport = ociauth.NewStdTransport(ociauth.StdTransportParams{Transport: newTransport(t), Config: everywhere{Username: "s3cret-user", Password: "s3cret"}})
	reg := clientOf(t, srv, opts, newClock())
	wantBlob(t, reg, content)
	qt.Assert(t, qt.IsNil(push(reg)))
	log := buf.String()
	for _, want := range []string{"client=client-1", "method=GET", "path=" + blobURL, "status=307", "status=503", "trying again", "method=PUT", "path=" + uploads + "…", "host=" + srv.Host()} {
		qt.Check(t, qt.StringContains(log, want))
	}
	qt.Assert(t, qt.IsFalse(strings.Contains(log, "s3cret")), qt.Commentf("%s", log))
	qt.Assert(t, qt.IsFalse(strings.Contains(log, "czNjcmV0")), qt.Commentf("%s", log))
}

func TestBehaviour26_Bounded(t *testing.T) {
	t.Parallel()
	const limit = 3
	release := make(chan struct{})
	arrived := make(chan struct{}, 100)
	srv := faultserver.New(t, nil, rule{On: "HEAD ", Status: 200, Set: header{"Content-Length": "21"}, Do: func(*http.Request) {
		arrived <- struct{}{}
		<-release
	}})
	reg := clientOf(t, srv, ociclient.Options{MaxConcurrent: limit}, newClock())
	results := make(chan error, 10)
	for range 10 {
		go func() { results <- resolveBlob(reg) }()
	}
	for range limit {
		<-arrived
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	_, err := reg.ResolveBlob(ctx, "foo", contentDigest) // waits for a slot
	qt.Assert(t, qt.ErrorIs(err, context.Canceled))
	qt.Assert(t, qt.HasLen(srv.Requests(""), limit))
	close(release)
	for range 10 {
		qt.Assert(t, qt.IsNil(<-results))
	}
}

// Whatever becomes of a request, its slot is free after it: with only one, the
// next would wait for ever.
func TestBehaviour26_SlotsAreFreed(t *testing.T) {
	t.Parallel()
	opts := ociclient.Options{MaxConcurrent: 1, ChunkSize: 10, Retry: ociclient.RetryPolicy{Attempts: 2}}
	tests := map[string]struct {
		rules []rule
		call  func(context.Context, ociregistry.Interface) error
	}{
		"read":          {nil, func(_ context.Context, r ociregistry.Interface) error { return second(readAll(getBlob(r))) }},
		"closed unread": {nil, func(_ context.Context, r ociregistry.Interface) error { b, err := getBlob(r); b.Close(); return err }},
		"read to EOF alone": {nil, func(_ context.Context, r ociregistry.Interface) error {
			b, _ := getBlob(r)
			return second(io.ReadAll(b))
		}},
		"sought": {nil, func(_ context.Context, r ociregistry.Interface) error {
			b, err := getBlob(r)
			if err != nil {
				return err
			}
			defer b.Close()
			b.Read(make([]byte, 1))
			b.(io.Seeker).Seek(5, io.SeekStart)
			return second(b.Read(make([]byte, 1)))
		}},
		"broken":       {[]rule{{On: "GET ", Times: 1, Cut: 5}}, func(_ context.Context, r ociregistry.Interface) error { return second(readAll(getBlob(r))) }},
		"error":        {[]rule{{On: "GET ", Times: 1, Status: 403}}, func(_ context.Context, r ociregistry.Interface) error { return second(getBlob(r)) }},
		"reset":        {[]rule{{On: "GET ", Times: 2, LoseAnswer: true}}, func(_ context.Context, r ociregistry.Interface) error { return second(getBlob(r)) }},
		"redirect":     {[]rule{{On: "GET ", Times: 1, Status: 307, Set: header{"Location": blobURL}, Answer: "x"}}, func(_ context.Context, r ociregistry.Interface) error { return second(readAll(getBlob(r))) }},
		"bad redirect": {[]rule{{On: "GET ", Times: 1, Status: 307, Answer: "x"}}, func(_ context.Context, r ociregistry.Interface) error { return second(getBlob(r)) }},
		"wrong header": {[]rule{{On: "GET ", Times: 1, Set: header{"Docker-Content-Digest": string(otherDigest)}}}, func(_ context.Context, r ociregistry.Interface) error { return second(getBlob(r)) }},
		"wrong range": {[]rule{{On: "GET ", Times: 1, Status: 206, Answer: "x"}}, func(_ context.Context, r ociregistry.Interface) error {
			return second(r.GetBlobRange(ctx, "foo", contentDigest, 4, 5))
		}},
		"push":         {nil, func(_ context.Context, r ociregistry.Interface) error { return push(r) }},
		"push refused": {[]rule{{On: "PUT ", Times: 1, Status: 403}}, func(_ context.Context, r ociregistry.Interface) error { return push(r) }},
		"push cut":     {[]rule{{On: "PUT ", Times: 1, CutRequest: 5}}, func(_ context.Context, r ociregistry.Interface) error { return push(r) }},
		"push in chunks": {[]rule{{On: "PATCH ", Every: 2, LoseAnswer: true}}, func(_ context.Context, r ociregistry.Interface) error {
			return second(r.PushBlob(ctx, "foo", blobDesc(content), once(content)))
		}},
		"a list stopped": {nil, func(_ context.Context, r ociregistry.Interface) error {
			for range r.Tags(ctx, "foo", "") {
				break
			}
			return nil
		}},
		"HEAD":         {nil, func(_ context.Context, r ociregistry.Interface) error { return resolveBlob(r) }},
		"HEAD without": {[]rule{{On: "HEAD ", Times: 1, Status: 405}}, func(_ context.Context, r ociregistry.Interface) error { return resolveBlob(r) }},
		"context ends": {nil, func(ctx context.Context, r ociregistry.Interface) error {
			return second(r.GetBlob(ctx, "foo", contentDigest))
		}},
		"warning in vain": {[]rule{{On: "HEAD ", Times: 1, Set: header{"Warning": "x"}}}, func(_ context.Context, r ociregistry.Interface) error { return resolveBlob(r) }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg, srv := faulty(t, opts, test.rules...)
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			if name == "context ends" {
				srv.Script(rule{On: "GET ", Times: 1, Do: func(req *http.Request) {
					cancel()
					<-req.Context().Done()
				}})
			}
			err := test.call(ctx, reg)
			qt.Assert(t, qt.Equals(errors.Is(err, context.Canceled), name == "context ends"))
			wantBlob(t, reg, content)
		})
	}
}
