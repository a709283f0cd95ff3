package ociotel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-quicktest/qt"
	"go.opentelemetry.io/otel/codes"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociotel"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociserver"
)

func TestHandler_HasNamesOfRoutes(t *testing.T) {
	t.Parallel()
	o := newTelemetry(t)
	h := ociotel.Handler(ociserver.New(ocimem.New(), nil), o.opts)
	const id = "0123456789abcdef0123"
	d := string(absent)
	for request, want := range map[string]string{
		"GET /v2/":                                          "GET /v2/",
		"GET /v2/_catalog?n=5":                              "GET /v2/_catalog",
		"GET /v2/a/b/tags/list":                             "GET /v2/{name}/tags/list",
		"GET /v2/a/b/referrers/" + d:                        "GET /v2/{name}/referrers/{digest}",
		"GET /v2/a/b/blobs/" + d:                            "GET /v2/{name}/blobs/{digest}",
		"HEAD /v2/a/b/blobs/" + d:                           "HEAD /v2/{name}/blobs/{digest}",
		"DELETE /v2/a/b/blobs/" + d:                         "DELETE /v2/{name}/blobs/{digest}",
		"POST /v2/a/b/blobs/uploads/":                       "POST /v2/{name}/blobs/uploads/",
		"POST /v2/a/b/blobs/uploads/?mount=" + d:            "POST /v2/{name}/blobs/uploads/",
		"PATCH /v2/a/b/blobs/uploads/" + id:                 "PATCH /v2/{name}/blobs/uploads/{reference}",
		"PUT /v2/a/b/blobs/uploads/" + id + "?digest=" + d:  "PUT /v2/{name}/blobs/uploads/{reference}",
		"GET /v2/a/b/manifests/v1":                          "GET /v2/{name}/manifests/{reference}",
		"PUT /v2/a/b/manifests/" + d:                        "PUT /v2/{name}/manifests/{reference}",
		"GET /elsewhere":                                    "GET",
		"POST /v2/a/tags/list":                              "POST",
		"BREW /v2/a/b/blobs/" + d:                           "HTTP",
		"PUT /v2/a/b/blobs/uploads/" + id + "?secret=" + id: "PUT", // without a digest
	} {
		method, target, _ := strings.Cut(request, " ")
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, target, nil))
		s := o.only()
		qt.Check(t, qt.Equals(s.Name, want), qt.Commentf("%s", request))
		_, route, _ := strings.Cut(want, " ")
		qt.Check(t, qt.Equals(attr(s, "http.route"), route), qt.Commentf("%s", request))
		qt.Check(t, qt.IsFalse(strings.Contains(fmt.Sprint(s), id)), qt.Commentf("%s", request))
	}
	for _, p := range o.points("http.server.request.duration") {
		qt.Check(t, qt.IsFalse(strings.Contains(p, "a/b")), qt.Commentf("%s", p))
		qt.Check(t, qt.IsFalse(strings.Contains(p, id)), qt.Commentf("%s", p))
	}
}

func TestHandler_SaysWhatTheRequestNames(t *testing.T) {
	t.Parallel()
	o := newTelemetry(t)
	h := ociotel.Handler(ociserver.New(ocimem.New(), nil), o.opts)
	d := string(absent)
	for _, test := range []struct{ request, repository, tags, manifest, blob string }{
		{"GET /v2/foo/blobs/" + d, "foo", "", "", d},
		{"GET /v2/foo/manifests/" + d, "foo", "", d, ""},
		{"GET /v2/foo/referrers/" + d, "foo", "", d, ""},
		{"PUT /v2/foo/manifests/v1?tag=v2", "foo", `["v1","v2"]`, "", ""},
	} {
		method, target, _ := strings.Cut(test.request, " ")
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, target, nil))
		s := o.only()
		qt.Check(t, qt.Equals(attr(s, "container.image.name"), test.repository))
		qt.Check(t, qt.Equals(attr(s, "container.image.tags"), test.tags))
		qt.Check(t, qt.Equals(attr(s, "oci.manifest.digest"), test.manifest))
		qt.Check(t, qt.Equals(attr(s, "oci.blob.digest"), test.blob))
	}
}

// A server that is observed works as one that is not: sessions find their way, answers break
// off, and files are sent by the system.
func TestHandler_ChangesNothing(t *testing.T) {
	t.Parallel()
	o := newTelemetry(t)
	ocitest.Run(t, func(t testing.TB) ociregistry.Interface {
		srv := httptest.NewServer(ociotel.Handler(ociserver.New(ociotel.New(ocimem.New(), o.opts), nil), o.opts))
		t.Cleanup(srv.Close)
		c, err := ociclient.New(strings.TrimPrefix(srv.URL, "http://"), &ociclient.Options{
			Insecure: true, Transport: ociotel.Transport(nil, o.opts),
		})
		qt.Assert(t, qt.IsNil(err))
		return c
	}, &ocitest.Options{AdoptsUploadIDs: true, Remote: true})
}

func TestHandler_TellsOfAnswersThatBreakOff(t *testing.T) {
	t.Parallel()
	o := newTelemetry(t)
	h := ociotel.Handler(ociserver.New(&ociregistry.Funcs{
		GetBlob_: func(context.Context, string, ociregistry.Digest) (ociregistry.BlobReader, error) {
			return brokenBlob{io.MultiReader(strings.NewReader("hello"), iotest.ErrReader(errors.New("disk on fire")))}, nil
		},
	}, nil), o.opts)
	qt.Check(t, qt.PanicMatches(func() {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/v2/foo/blobs/"+string(absent), nil))
	}, http.ErrAbortHandler.Error()))
	s := o.only()
	qt.Check(t, qt.Equals(s.Status.Code, codes.Error))
	qt.Check(t, qt.Equals(attr(s, "error.type"), "aborted"))
	points := o.points("http.server.request.duration")
	qt.Assert(t, qt.HasLen(points, 1))
	qt.Check(t, qt.StringContains(points[0], "error.type=aborted"))

	boom := ociotel.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("boom") }), o.opts)
	qt.Check(t, qt.PanicMatches(func() { boom.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/v2/", nil)) }, "boom"))
}

type brokenBlob struct{ io.Reader }

func (brokenBlob) Close() error { return nil }
func (brokenBlob) Descriptor() ociregistry.Descriptor {
	return ociregistry.Descriptor{MediaType: "text/plain", Digest: absent, Size: 11}
}

// fileSender is a response that knows whether a file came to it as one.
type fileSender struct {
	*httptest.ResponseRecorder
	file bool
}

func (w *fileSender) ReadFrom(r io.Reader) (int64, error) {
	if l, ok := r.(*io.LimitedReader); ok {
		r = l.R
	}
	_, w.file = r.(interface{ Stat() (os.FileInfo, error) })
	return io.Copy(w.ResponseRecorder, r)
}

func TestHandler_SendsFilesBySystemCalls(t *testing.T) {
	t.Parallel()
	o := newTelemetry(t)
	dir, err := ocifs.New(t.TempDir(), nil)
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { dir.Close() })
	blob := ocitest.NewBlob(1, 1<<20)
	_, err = dir.PushBlob(t.Context(), "foo", blob.Descriptor, blob.NewReader())
	qt.Assert(t, qt.IsNil(err))
	w := &fileSender{ResponseRecorder: httptest.NewRecorder()}
	h := ociotel.Handler(ociserver.New(ociotel.New(dir, o.opts), nil), o.opts)
	h.ServeHTTP(w, httptest.NewRequest("GET", "/v2/foo/blobs/"+string(blob.Descriptor.Digest), nil))
	qt.Check(t, qt.Equals(w.Code, http.StatusOK))
	qt.Check(t, qt.IsTrue(w.file))
	qt.Check(t, qt.DeepEquals(o.points("oci.registry.content.read"), []string{"oci.method=GetBlob 1048576"}))
}

// A server ends clients that stall by the deadlines of their connections.
func TestHandler_KeepsDeadlines(t *testing.T) {
	t.Parallel()
	failed := make(chan error, 2)
	srv := httptest.NewServer(ociotel.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c := http.NewResponseController(w)
		failed <- c.SetReadDeadline(time.Now().Add(time.Hour))
		failed <- c.SetWriteDeadline(time.Now().Add(time.Hour))
	}), newTelemetry(t).opts))
	t.Cleanup(srv.Close)
	resp, err := http.Get(srv.URL + "/v2/")
	qt.Assert(t, qt.IsNil(err))
	resp.Body.Close()
	qt.Check(t, qt.IsNil(<-failed))
	qt.Check(t, qt.IsNil(<-failed))
}

// Clients choose their Host header.
func TestHandler_HasTheServerOfTheOptions(t *testing.T) {
	t.Parallel()
	o := newTelemetry(t)
	o.opts.Server = "registry.example.com"
	h := ociotel.Handler(ociserver.New(ocimem.New(), nil), o.opts)
	for i := range 20 {
		req := httptest.NewRequest("GET", "/v2/", nil)
		req.Host = fmt.Sprintf("h%d.example.com", i)
		h.ServeHTTP(httptest.NewRecorder(), req)
	}
	points := o.points("http.server.request.duration")
	qt.Assert(t, qt.HasLen(points, 1))
	qt.Check(t, qt.StringContains(points[0], "server.address=registry.example.com"))
}

// The spans of a client and of its server are one trace.
func TestTransport_PassesTheTraceOn(t *testing.T) {
	t.Parallel()
	o := newTelemetry(t)
	srv := httptest.NewServer(ociotel.Handler(ociserver.New(ociotel.New(ocimem.New(), o.opts), nil), o.opts))
	t.Cleanup(srv.Close)
	c, err := ociclient.New(strings.TrimPrefix(srv.URL, "http://"), &ociclient.Options{Insecure: true, Transport: ociotel.Transport(nil, o.opts)})
	qt.Assert(t, qt.IsNil(err))
	r := ociotel.New(c, o.opts)
	_, err = r.ResolveBlob(t.Context(), "foo", absent)
	qt.Assert(t, qt.IsNotNil(err))
	srv.Close() // waits for the spans of the server
	parents := make(map[string]oteltrace.SpanID)
	ids := make(map[string]oteltrace.SpanID)
	for _, s := range o.spans.GetSpans() {
		name := s.Name + " " + s.SpanKind.String()
		if s.Name == "ociregistry.ResolveBlob" && s.Parent.IsRemote() == false && s.Parent.IsValid() {
			name += " of the server"
		}
		parents[name], ids[name] = s.Parent.SpanID(), s.SpanContext.SpanID()
	}
	const route = "HEAD /v2/{name}/blobs/{digest}"
	qt.Check(t, qt.Equals(parents[route+" client"], ids["ociregistry.ResolveBlob internal"]))
	qt.Check(t, qt.Equals(parents[route+" server"], ids[route+" client"]))
	qt.Check(t, qt.Equals(parents["ociregistry.ResolveBlob internal of the server"], ids[route+" server"]))
}

func TestTransport_KeepsSecretsOutOfSpans(t *testing.T) {
	t.Parallel()
	const secret = "0123456789abcdef0123"
	for _, test := range []struct{ method, target, want string }{
		{"GET", "http://user:pass@r.example/v2/foo/tags/list?n=1&last=a", "n=1"},
		{"PATCH", "http://r.example/v2/foo/blobs/uploads/" + secret + "?_state=" + secret, "http://r.example/v2/foo/blobs/uploads/REDACTED?REDACTED"},
		{"GET", "https://bucket.example/a/b?X-Amz-Signature=" + secret, "https://bucket.example/a/b?REDACTED"},
	} {
		o := newTelemetry(t)
		var sent string
		tr := ociotel.Transport(roundTripper(func(req *http.Request) (*http.Response, error) {
			sent = req.URL.String()
			return &http.Response{StatusCode: 200, Body: http.NoBody, Request: req}, nil
		}), o.opts)
		req, err := http.NewRequestWithContext(t.Context(), test.method, test.target, nil)
		qt.Assert(t, qt.IsNil(err))
		resp, err := tr.RoundTrip(req)
		qt.Assert(t, qt.IsNil(err))
		resp.Body.Close()
		qt.Check(t, qt.Equals(sent, test.target))
		qt.Check(t, qt.Equals(req.URL.String(), test.target))
		qt.Check(t, qt.Equals(resp.Request.URL.String(), test.target))
		s := o.only()
		qt.Check(t, qt.StringContains(attr(s, "url.full"), test.want))
		qt.Check(t, qt.IsFalse(strings.Contains(fmt.Sprint(s), secret)))
		qt.Check(t, qt.IsFalse(strings.Contains(fmt.Sprint(s), "pass")))
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
