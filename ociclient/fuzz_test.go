package ociclient

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
)

// The fuzz tests of this file have what a registry, or a proxy, can write into a response.
// Package wire parses Link, Range, Warning and WWW-Authenticate, and has its own.

func FuzzRetryAfter(f *testing.F) {
	now := time.Unix(1_700_000_000, 0)
	for _, s := range []string{"", "0", "120", "-1", "1700000060", "9223372036854775807", "99999999999999999999", "Tue, 14 Nov 2023 22:14:20 GMT", "soon"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		qt.Assert(t, qt.IsTrue(retryAfter(value, now) >= 0))
	})
}

func FuzzErrorBody(f *testing.F) {
	for _, s := range []string{"", "no", "<html>", `{"errors":[{"code":"DENIED","message":"no","detail":{"a":[1]}}]}`, `{"errors":[{}]}`, "\x1b[31m\xff", `{"errors":`} {
		f.Add(404, "text/plain", []byte(s))
		f.Add(500, "application/json", []byte(s))
	}
	f.Fuzz(func(t *testing.T, status int, contentType string, body []byte) {
		if status < 300 || status > 999 || len(body) > maxErrorBody {
			return
		}
		resp := &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {contentType}}, Body: http.NoBody}
		err := ociregistry.NewHTTPError(bodyError(resp, body, ociregistry.ErrBlobUnknown), status, resp, body)
		qt.Assert(t, qt.Not(qt.Equals(err.Error(), "")))
		qt.Assert(t, qt.IsTrue(transient(err) == transientStatus(status)))
		data, answered := ociregistry.MarshalError(err) // as a proxy does
		qt.Assert(t, qt.IsTrue(len(data) > 0 && answered >= 400 && answered <= 599))

		text := readable(contentType, body)
		qt.Assert(t, qt.IsTrue(utf8.ValidString(text) && len(text) <= 200))
		qt.Assert(t, qt.IsFalse(strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })))
	})
}

// FuzzLocation checks that a Location takes a request only where it may go.
func FuzzLocation(f *testing.F) {
	for _, s := range []string{"", "/v2/foo/blobs/uploads/1?a=b", "1", "//other.test/x", "https://other.test:443/x#y", "http://registry.test/", "https://user:secret@registry.test/x", "file:///etc/passwd", "https:", "%zz", "\x00"} {
		f.Add(s)
	}
	asked, _ := url.Parse("https://registry.test/v2/foo/blobs/uploads/")
	f.Fuzz(func(t *testing.T, value string) {
		resp := &http.Response{StatusCode: 307, Header: http.Header{"Location": {value}}, Request: &http.Request{URL: asked}}
		for _, method := range []string{"GET", "PUT"} {
			u, err := redirect(resp, method)
			if err != nil {
				qt.Assert(t, qt.IsFalse(value != "" && strings.Contains(err.Error(), "secret")))
				continue
			}
			qt.Assert(t, qt.IsTrue(u.Scheme == "https" && u.Host != "" && u.User == nil && u.Fragment == ""))
			qt.Assert(t, qt.IsTrue(!wire.SameOrigin(u, asked) || u.Host == asked.Host))
		}
		resp.Header = http.Header{"Link": {"<" + value + ">; rel=next"}}
		if next, err := nextPage(resp); err == nil && next != nil {
			qt.Assert(t, qt.IsTrue(next.Scheme == "https" && next.Host == "registry.test" && next.User == nil))
		}
	})
}

// FuzzUploadByID checks that an id, which can come from anybody, leads to an upload of its
// repository or nowhere, and that an upload keeps its id.
func FuzzUploadByID(f *testing.F) {
	for _, s := range []string{"1", "1?state=x", "60#1", "/v2/foo/blobs/upload/1", "/v2/bar/blobs/uploads/1", "../x", "%2e%2e", "a%2Fb", "https://other.test/x", "?", "#", "1#2#3", strings.Repeat("\n", 4000)} {
		f.Add(s)
	}
	r, err := New("registry.test", nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, id string) {
		u, err := r.(*client).uploadByID("foo", wire.EncodeUploadID(id))
		if err != nil {
			qt.Assert(t, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
			return
		}
		qt.Assert(t, qt.IsTrue(u.location.Scheme == "https" && u.location.Host == "registry.test"))
		parsed, err := url.Parse(u.location.String()) // as a server does
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsTrue(isUploadPath(parsed.Path, "foo")), qt.Commentf("%s", u.location))
		again, err := r.(*client).uploadByID("foo", u.id())
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(again.location.String(), u.location.String()))
		qt.Assert(t, qt.Equals(max(again.minChunk, 0), max(u.minChunk, 0)))
	})
}
