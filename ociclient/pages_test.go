package ociclient_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/faultserver"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

const loginPage = "<!DOCTYPE html><html><body>log in</body></html>"

// pages has responses with status 200 that are not what was asked for.
var pages = map[string]rule{
	"a login page":      {Status: 200, Set: header{"Content-Type": "text/html; charset=utf-8"}, Answer: loginPage},
	"a page without":    {Status: 200, Answer: loginPage},
	"an error object":   {Status: 200, Set: header{"Content-Type": "application/json"}, Answer: `{"errors":[{"code":"DENIED"}]}`},
	"an error":          {Status: 200, Set: header{"Content-Type": imageManifest}, Answer: `{"error":"no"}`},
	"an empty body":     {Status: 200, Set: header{"Content-Type": imageManifest}},
	"an array":          {Status: 200, Set: header{"Content-Type": "application/json"}, Answer: `[]`},
	"a manifest's page": {Status: 200, Set: header{"Content-Type": "text/html"}, Answer: `{"schemaVersion":2,"x":"y"}`},
}

func TestSuccessStatusDoesNotMakeContent(t *testing.T) {
	t.Parallel()
	calls := map[string]func(ociregistry.Interface) error{
		"GetTag":       func(r ociregistry.Interface) error { return second(getTag(r)) },
		"ResolveTag":   func(r ociregistry.Interface) error { return second(r.ResolveTag(ctx, "foo", "latest")) },
		"GetManifest":  func(r ociregistry.Interface) error { return second(r.GetManifest(ctx, "foo", contentDigest)) },
		"GetBlob":      func(r ociregistry.Interface) error { return second(readAll(getBlob(r))) },
		"Tags":         func(r ociregistry.Interface) error { return second(ociregistry.All(r.Tags(ctx, "foo", ""))) },
		"Repositories": func(r ociregistry.Interface) error { return second(ociregistry.All(r.Repositories(ctx, ""))) },
		"Referrers": func(r ociregistry.Interface) error {
			return second(ociregistry.All(r.Referrers(ctx, "foo", contentDigest, "")))
		},
	}
	for what, page := range pages {
		for name, call := range calls {
			t.Run(name+" "+what, func(t *testing.T) {
				t.Parallel()
				srv := faultserver.New(t, nil, page)
				reg := clientOf(t, srv, ociclient.Options{}, newClock())
				qt.Check(t, qt.IsNotNil(call(reg)))
				// The same holds behind a proxy.
				proxy := httptest.NewServer(ociserver.New(reg, nil))
				t.Cleanup(proxy.Close)
				further, err := ociclient.New(strings.TrimPrefix(proxy.URL, "http://"), &ociclient.Options{Insecure: true, Retry: ociclient.RetryPolicy{Attempts: 1}})
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.IsNotNil(call(further)))
			})
		}
	}
}

func TestPageProvesNoBlob(t *testing.T) {
	t.Parallel()
	for _, parts := range []int{0, 3} {
		srv := faultserver.New(t, nil, pages["a login page"])
		reg := clientOf(t, srv, ociclient.Options{Parallel: ociclient.Parallel{Concurrency: parts, PartSize: 7}}, newClock())
		qt.Check(t, qt.IsNotNil(resolveBlob(reg)))
		qt.Check(t, qt.IsNotNil(second(readAll(getRange(reg)))))
		qt.Check(t, qt.IsNotNil(second(readAll(reg.GetBlobRange(ctx, "foo", contentDigest, 0, 5)))))
		qt.Check(t, qt.IsNotNil(second(readAll(reg.GetBlobRange(ctx, "foo", contentDigest, 0, -1)))))
	}
	// Content with the right digest counts, whatever its Content-Type.
	reg, _ := scripted(t, rule{Status: 200, Set: header{"Content-Type": "text/html", "Docker-Content-Digest": string(contentDigest)}, Answer: content})
	wantBlob(t, reg, content)
	qt.Check(t, qt.Equals(second(readAll(getRange(reg))), nil))
	reg, _ = scripted(t, rule{Status: 200, Set: header{"Content-Type": "text/html"}, Answer: content})
	wantBlob(t, reg, content)
}

func TestManifestByTagIsRecognized(t *testing.T) {
	t.Parallel()
	typed := `{"schemaVersion":2,"mediaType":"` + imageManifest + `"}`
	const custom = "text, and no JSON"
	tests := []struct {
		name        string
		contentType string
		digest      ociregistry.Digest // in the header
		answer      string
		want        string // media type, or empty for an error
	}{
		{"its own type", imageManifest, "", typed, imageManifest},
		{"a type with parameters", imageManifest + "; charset=utf-8", "", `{"schemaVersion":2}`, imageManifest},
		{"octet-stream", "application/octet-stream", "", typed, imageManifest},
		{"text", "text/plain; charset=utf-8", "", typed, imageManifest},
		{"JSON", "application/json", "", typed, imageManifest},
		{"none", "", "", typed, imageManifest},
		{"JSON, with its digest", "application/json", digest.FromString(typed), typed, imageManifest},
		{"a page's type, with its digest", "text/html", digest.FromString(typed), typed, imageManifest},
		{"a type of its own, with its digest", "text/x-custom", digest.FromString(custom), custom, "text/x-custom"},
		{"a type of its own, without", "text/x-custom", "", custom, ""},
		{"an error's type", "application/problem+json", "", typed, imageManifest},
		{"no type", "text", "", typed, imageManifest},
		{"JSON, without a type of its own", "application/json", "", `{"schemaVersion":2,"manifests":[]}`, imageIndex},
		{"JSON, with a page's type of its own", "application/json", "", `{"mediaType":"text/html"}`, "application/json"},
		{"a version in quotation marks", imageManifest, "", `{"schemaVersion":"2","mediaType":"` + imageManifest + `"}`, imageManifest},
		{"a page's type and another", "text/html,application/json", "", typed, ""},
		{"a field in another case", imageManifest, "", `{"SchemaVersion":2}`, ""},
		{"a type of its own, with the digest of nothing", "text/x-custom", digest.FromString(""), "", ""},
		{"another digest", imageManifest, otherDigest, typed, ""},
		{"no digest", imageManifest, "sha256:x", typed, ""},
		{"a page's type", "text/html", "", typed, ""},
		{"an index without version", imageIndex, "", `{"manifests":[]}`, imageIndex},
		{"an old image", "application/vnd.docker.distribution.manifest.v1+prettyjws", "", `{"schemaVersion":1,"fsLayers":[]}`, "application/vnd.docker.distribution.manifest.v1+prettyjws"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			reg, _ := scripted(t, rule{Handler: func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = nil
				if test.contentType != "" {
					w.Header().Set("Content-Type", test.contentType)
				}
				if test.digest != "" {
					w.Header().Set("Docker-Content-Digest", string(test.digest))
				}
				io.WriteString(w, test.answer)
			}})
			r, err := getTag(reg)
			desc, resolveErr := reg.ResolveTag(ctx, "foo", "latest")
			if test.want == "" {
				qt.Assert(t, qt.IsNotNil(err))
				if !errors.Is(err, ociregistry.ErrDigestInvalid) { // HEAD believes a digest
					qt.Assert(t, qt.IsNotNil(resolveErr))
				}
				return
			}
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.IsNil(resolveErr))
			qt.Check(t, qt.Equals(r.Descriptor().MediaType, test.want))
			qt.Check(t, qt.DeepEquals(desc, r.Descriptor()))
		})
	}
}

func TestLengthThatCannotBeIsNone(t *testing.T) {
	t.Parallel()
	backend := registryWith(t, content, "")
	desc, err := backend.PushManifest(ctx, "foo", "latest", []byte(`{"schemaVersion":2,"mediaType":"`+imageIndex+`","manifests":[]}`), imageIndex)
	qt.Assert(t, qt.IsNil(err))
	for name, set := range map[string]header{
		"nothing": {"Content-Length": "0"},
		"encoded": {"Content-Length": "7", "Content-Encoding": "gzip"},
		"none":    {"Content-Length": ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := faultserver.New(t, ociserver.New(backend, nil), rule{On: "HEAD ", Set: set})
			reg := clientOf(t, srv, ociclient.Options{}, newClock())
			proxy := httptest.NewServer(ociserver.New(reg, nil))
			t.Cleanup(proxy.Close)
			further, err := ociclient.New(strings.TrimPrefix(proxy.URL, "http://"), &ociclient.Options{Insecure: true})
			qt.Assert(t, qt.IsNil(err))
			for _, reg := range []ociregistry.Interface{reg, further} {
				got, err := reg.ResolveBlob(ctx, "foo", contentDigest)
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.Equals(got.Size, int64(len(content))))
				got, err = reg.ResolveBlob(ctx, "foo", digest.FromString(""))
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.Equals(got.Size, 0))
				got, err = reg.ResolveTag(ctx, "foo", "latest")
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.DeepEquals(got, desc))
				got, err = reg.ResolveManifest(ctx, "foo", desc.Digest)
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.DeepEquals(got, desc))
			}
			for _, r := range srv.Requests("HEAD ") {
				qt.Check(t, qt.Equals(r.Header.Get("Accept-Encoding"), "identity"))
			}
		})
	}
}

// An empty response is not a part of a blob that is not empty, with or without a length.
func TestEmptyAnswerIsNoPartOfABlob(t *testing.T) {
	t.Parallel()
	empty := digest.FromString("")
	for name, answer := range map[string]rule{
		"of length 0": {Status: 200, Set: header{"Content-Length": "0"}},
		"chunked":     {Handler: func(w http.ResponseWriter, _ *http.Request) { http.NewResponseController(w).Flush() }},
	} {
		for _, parts := range []int{0, 3} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				srv := faultserver.New(t, nil, answer)
				reg := clientOf(t, srv, ociclient.Options{Parallel: ociclient.Parallel{Concurrency: parts, PartSize: 7}}, newClock())
				qt.Check(t, qt.ErrorIs(second(readAll(getBlob(reg))), ociregistry.ErrDigestInvalid))
				for _, r := range [][2]int64{{0, 5}, {0, -1}, {3, 5}, {3, -1}} {
					_, err := readAll(reg.GetBlobRange(ctx, "foo", contentDigest, r[0], r[1]))
					qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid), qt.Commentf("%d", r))
				}
				for _, end := range []int64{5, -1} {
					got, err := readAll(reg.GetBlobRange(ctx, "foo", empty, 0, end))
					qt.Check(t, qt.IsNil(err))
					qt.Check(t, qt.Equals(got, ""))
				}
			})
		}
	}
}

func TestReferrersTagWithoutSchemaVersionIsRead(t *testing.T) {
	t.Parallel()
	a := referrer("a", signature)
	reg, _ := scripted(t,
		rule{On: "GET /v2/foo/referrers/", Status: 404},
		rule{On: "GET " + manifests, Status: 200, Set: header{"Content-Type": imageIndex}, Answer: `{"manifests":[` + descJSON(a) + `]}`})
	got, err := ociregistry.All(reg.Referrers(ctx, "foo", contentDigest, ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(names(got), names([]ociregistry.Descriptor{a})))
}

// closeConnection closes the connection of a request without a response.
func closeConnection(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	conn.Close()
}

func TestErrorsOfTheTransportAreNotTheEnd(t *testing.T) {
	t.Parallel()
	for _, parts := range []int{0, 3} {
		transport := newTransport(t)
		transport.DisableKeepAlives = true
		reg, srv := faulty(t, ociclient.Options{Transport: transport, Parallel: ociclient.Parallel{Concurrency: parts, PartSize: 100}})
		r, err := getBlob(reg)
		qt.Assert(t, qt.IsNil(err))
		defer r.Close()
		_, err = r.(io.Seeker).Seek(3, io.SeekStart)
		qt.Assert(t, qt.IsNil(err))
		srv.Script(rule{Handler: closeConnection})
		for _, err := range []error{second(io.ReadAll(r)), second(getBlob(reg)), resolveBlob(reg), second(getTag(reg)),
			second(ociregistry.All(reg.Tags(ctx, "foo", "")))} {
			var op *ociregistry.OpError
			qt.Assert(t, qt.ErrorAs(err, &op))
			qt.Check(t, qt.Equals(op.Registry, srv.Host()))
			qt.Check(t, qt.IsFalse(errors.Is(err, io.EOF)))
		}
	}
	// The same holds for other errors of the transport.
	reg, err := ociclient.New("registry.test", &ociclient.Options{
		Retry:     ociclient.RetryPolicy{Attempts: 1},
		Transport: transportFunc(func(*http.Request) (*http.Response, error) { return nil, io.EOF }),
	})
	qt.Assert(t, qt.IsNil(err))
	for _, err := range []error{second(getBlob(reg)), resolveBlob(reg), second(getTag(reg)), second(ociregistry.All(reg.Tags(ctx, "foo", "")))} {
		qt.Check(t, qt.ErrorMatches(err, ".*registry.test.*"))
		qt.Check(t, qt.IsFalse(errors.Is(err, io.EOF)))
	}
}
