package ociserver_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
	"github.com/seed-40b21970/oci/ociunify"
)

// wantHarmless checks that an answer is harmless in a browser.
func (a *answer) wantHarmless(t testing.TB) *answer {
	t.Helper()
	return a.wantHeaders(t, "X-Content-Type-Options", "nosniff", "Content-Security-Policy", "sandbox; default-src 'none'")
}

func TestEveryAnswerIsHarmlessInABrowser(t *testing.T) {
	t.Parallel()
	s := serve(t, &ociserver.Options{
		LocationsForDescriptor: func(isManifest bool, desc ociregistry.Descriptor) ([]string, error) {
			if desc.Size == 0 {
				return []string{"https://elsewhere.example/"}, nil
			}
			return nil, nil
		},
	})
	blob, empty := string(s.pushBlob("foo", helloWorld)), string(s.pushBlob("foo", ""))
	s.pushManifest("foo", "latest", "something")
	for _, r := range []struct {
		request string
		headers []string
		status  int
	}{
		{"GET /v2/", nil, 200},
		{"GET /v2/foo/manifests/latest", nil, 200},
		{"HEAD /v2/foo/manifests/latest", nil, 200},
		{"GET /v2/foo/manifests/latest", []string{"If-None-Match", "*"}, 304},
		{"GET /v2/foo/blobs/" + blob, nil, 200},
		{"GET /v2/foo/blobs/" + blob, []string{"Range", "bytes=1-2"}, 206},
		{"GET /v2/foo/blobs/" + blob, []string{"Range", "bytes=1-2,4-5"}, 206},
		{"GET /v2/foo/blobs/" + blob, []string{"Range", "bytes=99-"}, 416},
		{"GET /v2/foo/blobs/" + empty, nil, 307},
		{"GET /v2/foo/blobs/" + string(absent), nil, 404},
		{"GET /v2/foo/blobs/x", nil, 400},
		{"GET /v2/_catalog", nil, 200},
		{"GET /v2/foo/tags/list", nil, 200},
		{"GET /v2/foo/referrers/" + string(absent), nil, 200},
		{"GET /v2/nothing", nil, 404},
		{"GET /elsewhere", nil, 404},
		{"PUT /v2/", nil, 405},
		{"OPTIONS /v2/", nil, 204},
		{"POST /v2/foo/blobs/uploads/", nil, 202},
		{"PATCH /v2/foo/blobs/uploads/MQ", nil, 202},
		{"GET /v2/foo/blobs/uploads/MQ", nil, 204},
		{"PUT /v2/foo/manifests/other", nil, 201},
		{"DELETE /v2/foo/manifests/latest", nil, 202},
	} {
		method, path, _ := strings.Cut(r.request, " ")
		s.do(method, path, "x", r.headers...).want(t, r.status).wantHarmless(t)
	}
	serveBackend(t, &ociregistry.Funcs{
		GetTag_: func(context.Context, string, string) (ociregistry.BlobReader, error) { panic("out of cheese") },
	}, nil).do("GET", "/v2/foo/manifests/latest", "").want(t, 500).wantHarmless(t)
}

// badTypes are media types that browsers have taken for HTML, or have replaced by a guess
// from the content.
var badTypes = []string{"json", "text/html,json", "text/html, application/json", "text/html json", "/", "html/", "*/*, text/html"}

func TestMediaTypeIsParsedBeforeItIsStored(t *testing.T) {
	t.Parallel()
	disk, err := ocifs.New(t.TempDir(), nil)
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { disk.Close() })
	memory := serve(t, nil)
	client, err := ociclient.New(strings.TrimPrefix(memory.url, "http://"), &ociclient.Options{Insecure: true})
	qt.Assert(t, qt.IsNil(err))
	for name, backend := range map[string]ociregistry.Interface{
		"ocimem": ocimem.New(), "ocifs": disk, "a proxy": client,
	} {
		s := serveBackend(t, backend, nil)
		for _, mediaType := range badTypes {
			s.do("PUT", "/v2/foo/manifests/latest", `{"a":"b"}`, "Content-Type", mediaType).
				wantError(t, http.StatusBadRequest, "MANIFEST_INVALID", "badly formed media type")
			s.do("PUT", "/v2/foo/manifests/latest", `{"mediaType":"`+mediaType+`"}`).
				wantError(t, http.StatusBadRequest, "MANIFEST_INVALID", "badly formed media type")
			_, err := backend.PushManifest(t.Context(), "foo", "latest", []byte("x"), mediaType)
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrManifestInvalid), qt.Commentf("%s", name))
		}
		qt.Check(t, qt.HasLen(s.repositories(), 0), qt.Commentf("%s", name))

		s.do("PUT", "/v2/foo/manifests/latest", "x", "Content-Type", "Text/HTML; charset=utf-8").want(t, http.StatusCreated)
		s.do("GET", "/v2/foo/manifests/latest", "").want(t, http.StatusOK).wantHeaders(t, "Content-Type", "Text/HTML").wantHarmless(t)
	}
}

// An origin can send any media type. A server in front of it sends only well-formed ones.
func TestMediaTypeOfAnOriginIsParsed(t *testing.T) {
	t.Parallel()
	manifest := imageManifest(digest.FromString("{}"), "", nil)
	d := string(digest.FromString(manifest))
	for _, contentType := range badTypes {
		origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Docker-Content-Digest", d)
			w.Header().Set("Content-Length", "0")
			if req.Method == "GET" {
				w.Header().Del("Content-Length")
				w.Write([]byte(manifest))
			}
		}))
		t.Cleanup(origin.Close)
		client, err := ociclient.New(strings.TrimPrefix(origin.URL, "http://"), &ociclient.Options{Insecure: true})
		qt.Assert(t, qt.IsNil(err))
		cache := ociunify.NewCache(ocimem.New(), client, nil)
		t.Cleanup(func() { cache.Close() })
		for _, backend := range []ociregistry.Interface{client, cache} {
			s := serveBackend(t, backend, nil)
			for _, path := range []string{"manifests/latest", "manifests/" + d, "blobs/" + d} {
				a := s.do("GET", "/v2/foo/"+path, "").wantHarmless(t)
				if a.StatusCode == http.StatusOK {
					got := a.Header.Get("Content-Type")
					known := []string{"application/octet-stream", ocispec.MediaTypeImageManifest}
					qt.Check(t, qt.IsTrue(slices.Contains(known, got)), qt.Commentf("%s as %q: %q", path, contentType, got))
					qt.Check(t, qt.Equals(a.body, manifest))
				}
			}
		}
	}

	// Whatever the backend is.
	for _, mediaType := range append(badTypes, "") {
		desc := ociregistry.Descriptor{MediaType: mediaType, Digest: absent, Size: 3}
		open := func() (ociregistry.BlobReader, error) {
			return blobReader{Reader: strings.NewReader("foo"), desc: desc}, nil
		}
		s := serveBackend(t, &ociregistry.Funcs{
			GetTag_:      func(context.Context, string, string) (ociregistry.BlobReader, error) { return open() },
			ResolveTag_:  func(context.Context, string, string) (ociregistry.Descriptor, error) { return desc, nil },
			GetBlob_:     func(context.Context, string, ociregistry.Digest) (ociregistry.BlobReader, error) { return open() },
			ResolveBlob_: func(context.Context, string, ociregistry.Digest) (ociregistry.Descriptor, error) { return desc, nil },
		}, nil)
		for _, path := range []string{"manifests/latest", "blobs/" + string(absent)} {
			for _, method := range []string{"GET", "HEAD"} {
				s.do(method, "/v2/foo/"+path, "").want(t, http.StatusOK).wantHeaders(t, "Content-Type", "application/octet-stream").wantHarmless(t)
			}
		}
	}
}

func TestOptionsTellsMethods(t *testing.T) {
	t.Parallel()
	g := &guard{err: ociregistry.ErrDenied}
	s := serve(t, &ociserver.Options{Authorize: g.authorize})
	for path, allow := range map[string]string{
		"/v2":                                  "GET, HEAD, OPTIONS",
		"/v2/":                                 "GET, HEAD, OPTIONS",
		"/v2/_catalog":                         "GET, HEAD, OPTIONS",
		"/v2/foo/tags/list":                    "GET, HEAD, OPTIONS",
		"/v2/foo/referrers/" + string(absent):  "GET, HEAD, OPTIONS",
		"/v2/foo/blobs/" + string(absent):      "GET, HEAD, DELETE, OPTIONS",
		"/v2/foo/blobs/uploads/":               "POST, OPTIONS",
		"/v2/foo/blobs/uploads/MQ":             "PATCH, PUT, GET, HEAD, DELETE, OPTIONS",
		"/v2/foo/manifests/latest":             "GET, HEAD, PUT, DELETE, OPTIONS",
		"/v2/foo/manifests/" + string(absent):  "GET, HEAD, PUT, DELETE, OPTIONS",
		"/v2/foo/manifests/latest?x=%zz&n=foo": "GET, HEAD, PUT, DELETE, OPTIONS",
	} {
		a := s.do("OPTIONS", path, "").want(t, http.StatusNoContent).wantHeaders(t, "Allow", allow)
		for name := range a.Header {
			qt.Check(t, qt.IsFalse(strings.HasPrefix(name, "Access-Control-")), qt.Commentf("%s", name))
		}
	}
	s.do("OPTIONS", "/v2/nothing", "").want(t, http.StatusNotFound)
	s.do("GET", "/v2/", "").want(t, http.StatusForbidden)
}

func TestPagesOfNamedOriginsMayUseTheRegistry(t *testing.T) {
	t.Parallel()
	const ui, other = "https://ui.example", "http://localhost:8080"
	for _, test := range []struct {
		allowed     []string
		origin      string
		allow       string
		credentials string
	}{
		{nil, ui, "", ""},
		{[]string{ui, other}, ui, ui, "true"},
		{[]string{ui, other}, other, other, "true"},
		{[]string{ui, other}, "https://evil.example", "", ""},
		{[]string{ui}, "https://ui.example.evil.example", "", ""},
		{[]string{ui}, "http://ui.example", "", ""},
		{[]string{ui}, "", "", ""},
		{[]string{ui, "null"}, "null", "", ""},
		{[]string{"*"}, "https://evil.example", "*", ""},
		{[]string{"*"}, "null", "*", ""},
		{[]string{"*"}, "*", "*", ""},
		{[]string{"*", ui}, ui, ui, "true"},
		{[]string{"*", ui}, "https://evil.example", "*", ""},
	} {
		g := &guard{err: ociserver.Unauthorized(`Basic realm="x"`)}
		s := serve(t, &ociserver.Options{AllowedOrigins: test.allowed, Authorize: g.authorize})
		vary := ""
		if test.allowed != nil {
			vary = "Origin"
		}
		origin := []string{"X", "x"}
		if test.origin != "" {
			origin = []string{"Origin", test.origin}
		}
		preflight := append([]string{"Access-Control-Request-Method", "DELETE", "Access-Control-Request-Headers", "authorization"}, origin...)
		a := s.do("OPTIONS", "/v2/foo/manifests/latest", "", preflight...).want(t, http.StatusNoContent).wantHeaders(t,
			"Access-Control-Allow-Origin", test.allow,
			"Access-Control-Allow-Credentials", test.credentials,
			"Vary", vary)
		if test.allow != "" {
			a.wantHeaders(t, "Access-Control-Allow-Methods", "GET, HEAD, PUT, DELETE, OPTIONS", "Access-Control-Max-Age", "3600")
			qt.Check(t, qt.StringContains(a.Header.Get("Access-Control-Allow-Headers"), "Authorization"))
		} else {
			a.wantHeaders(t, "Access-Control-Allow-Methods", "", "Access-Control-Allow-Headers", "")
		}

		// The answer to the request itself, if it is an error too.
		for status, err := range map[int]error{http.StatusUnauthorized: g.err, http.StatusNotFound: nil} {
			g.err = err
			for _, method := range []string{"GET", "HEAD"} {
				a := s.do(method, "/v2/foo/manifests/latest", "", origin...).want(t, status).wantHeaders(t,
					"Access-Control-Allow-Origin", test.allow,
					"Access-Control-Allow-Credentials", test.credentials,
					"Access-Control-Allow-Methods", "",
					"Vary", vary)
				exposed := a.Header.Get("Access-Control-Expose-Headers")
				qt.Check(t, qt.Equals(exposed != "", test.allow != ""))
				for _, name := range []string{"Docker-Content-Digest", "Link", "Location", "WWW-Authenticate", "OCI-Subject", "Range"} {
					qt.Check(t, qt.Equals(strings.Contains(exposed, name), test.allow != ""), qt.Commentf("%s", name))
				}
			}
		}
	}
}
