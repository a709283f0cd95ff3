package ociclient_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
)

func TestErrorBodiesAreRead(t *testing.T) {
	t.Parallel()
	html := header{"Content-Type": "text/html"}
	text := header{"Content-Type": "text/plain; charset=utf-8"}
	tests := []struct {
		name   string
		status int
		set    header
		body   string
		want   string // the error without its operation
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

func TestEndlessErrorBodyIsBounded(t *testing.T) {
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

func TestErrorsNameTheCallAndMatchSentinels(t *testing.T) {
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
			// A response to HEAD has no body: the endpoint determines what is unknown.
			qt.Assert(t, qt.IsTrue(strings.HasPrefix(err.Error(), op+" "+where+": 404 ") || strings.Contains(err.Error(), op+" "+where+": unsupported: ")), qt.Commentf("%v", err))
			qt.Assert(t, qt.IsTrue(test.is == nil || errors.Is(err, test.is)), qt.Commentf("%v", err))
			var operr *ociregistry.OpError
			qt.Assert(t, qt.ErrorAs(err, &operr))
			qt.Assert(t, qt.Equals(operr.Registry, srv.Host()))
		})
	}
}
