package ociclient_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/faultserver"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

func TestSchemeIsHTTPSUnlessInsecure(t *testing.T) {
	t.Parallel()
	for insecure, want := range map[bool]string{false: "https://", true: "http://"} {
		w := &world{}
		_ = resolveBlob(clientIn(t, w, "localhost:5000", ociclient.Options{Insecure: insecure}))
		qt.Assert(t, qt.HasLen(w.log, 1))
		qt.Assert(t, qt.StringContains(w.log[0], " "+want+"localhost:5000/"))
	}
	// The client does not fall back to the other scheme either.
	_, srv := scripted(t)
	reg, err := ociclient.New(srv.Host(), &ociclient.Options{Transport: newTransport(t), Retry: ociclient.RetryPolicy{Attempts: 1}})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNotNil(resolveBlob(reg)))
	qt.Assert(t, qt.HasLen(srv.Lines(), 0))
}

func TestUserAgentIsSent(t *testing.T) {
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

func TestRedirectsAreFollowedSafely(t *testing.T) {
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

// The transport of ociauth sends no credentials to another origin.
func TestRedirectTakesNoCredentialsToAnotherOrigin(t *testing.T) {
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

// A redirect does not turn a request that changes something into a GET.
func TestRedirectedPutStaysPut(t *testing.T) {
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

func TestRedirectLoopEnds(t *testing.T) {
	t.Parallel()
	reg, srv := scripted(t, rule{On: "GET ", Status: 307, Set: header{"Location": blobURL}})
	_, err := getBlob(reg)
	qt.Assert(t, qt.ErrorMatches(err, ".*more than 10 redirects"))
	qt.Assert(t, qt.HasLen(srv.Lines(), 10))
}

func TestLogHasNoSecrets(t *testing.T) {
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
	for _, want := range []string{"client=client-1", "method=GET", "path=" + blobURL, "status=307", "status=503", "retrying", "method=PUT", "path=" + uploads + "…", "host=" + srv.Host()} {
		qt.Check(t, qt.StringContains(log, want))
	}
	qt.Assert(t, qt.IsFalse(strings.Contains(log, "s3cret")), qt.Commentf("%s", log))
	qt.Assert(t, qt.IsFalse(strings.Contains(log, "czNjcmV0")), qt.Commentf("%s", log))
}
