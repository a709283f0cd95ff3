package wire

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

const (
	fooDigest = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
	sha512Foo = "sha512:f7fbba6e0636f890e56fbbf3283e524c6fa3204ae298382d624741d0dc6638326e282c41be5e4254d8820772c5518a2c5a8c0c7f7eda19594a7eb539453e1ed7"
)

// requests has requests, each with the form that URL returns.
var requests = []struct {
	url  string
	want Request
}{
	{"/v2/", Request{Kind: Ping, ListN: -1}},
	{"/v2/_catalog", Request{Kind: Catalog, ListN: -1}},
	{"/v2/_catalog?n=10&last=foo%2Fbar", Request{Kind: Catalog, ListN: 10, ListLast: "foo/bar"}},
	{"/v2/foo/tags/list", Request{Kind: TagsList, Repository: "foo", ListN: -1}},
	{"/v2/foo/bar/tags/list?n=0&ns=docker.io", Request{Kind: TagsList, Repository: "foo/bar", ListN: 0, Namespace: "docker.io"}},
	{"/v2/foo/referrers/" + fooDigest, Request{Kind: Referrers, Repository: "foo", Digest: fooDigest, ListN: -1}},
	{
		"/v2/foo/referrers/" + fooDigest + "?artifactType=application%2Fx%2By&last=sha256%3A12",
		Request{Kind: Referrers, Repository: "foo", Digest: fooDigest, ArtifactType: "application/x+y", ListLast: "sha256:12", ListN: -1},
	},
	{"/v2/foo/blobs/" + fooDigest, Request{Kind: BlobGet, Repository: "foo", Digest: fooDigest, ListN: -1}},
	{"/v2/foo/blobs/" + sha512Foo, Request{Kind: BlobHead, Repository: "foo", Digest: sha512Foo, ListN: -1}},
	{"/v2/foo/blobs/" + fooDigest, Request{Kind: BlobDelete, Repository: "foo", Digest: fooDigest, ListN: -1}},
	{"/v2/foo/blobs/uploads/", Request{Kind: UploadStart, Repository: "foo", ListN: -1}},
	{"/v2/foo/blobs/uploads/?digest-algorithm=sha512", Request{Kind: UploadStart, Repository: "foo", Algorithm: digest.SHA512, ListN: -1}},
	{"/v2/foo/blobs/uploads/?digest=" + url.QueryEscape(fooDigest), Request{Kind: BlobPost, Repository: "foo", Digest: fooDigest, ListN: -1}},
	{"/v2/foo/blobs/uploads/?mount=" + url.QueryEscape(fooDigest), Request{Kind: BlobMount, Repository: "foo", Digest: fooDigest, ListN: -1}},
	{
		"/v2/foo/blobs/uploads/?mount=" + url.QueryEscape(fooDigest) + "&from=bar%2Fbaz",
		Request{Kind: BlobMount, Repository: "foo", Digest: fooDigest, FromRepository: "bar/baz", ListN: -1},
	},
	{"/v2/foo/blobs/uploads/MQ", Request{Kind: UploadStatus, Repository: "foo", UploadID: "1", ListN: -1}},
	{"/v2/foo/blobs/uploads/aHR0cHM6Ly94L3k_ej0x", Request{Kind: UploadChunk, Repository: "foo", UploadID: "https://x/y?z=1", ListN: -1}},
	{"/v2/foo/blobs/uploads/MQ?digest=" + url.QueryEscape(fooDigest), Request{Kind: UploadFinish, Repository: "foo", UploadID: "1", Digest: fooDigest, ListN: -1}},
	{"/v2/foo/blobs/uploads/MQ", Request{Kind: UploadCancel, Repository: "foo", UploadID: "1", ListN: -1}},
	{"/v2/foo/manifests/latest", Request{Kind: ManifestGet, Repository: "foo", Tag: "latest", ListN: -1}},
	{"/v2/foo/manifests/" + fooDigest + "?ns=docker.io%3A443", Request{Kind: ManifestHead, Repository: "foo", Digest: fooDigest, Namespace: "docker.io:443", ListN: -1}},
	{"/v2/foo/manifests/" + fooDigest + "?tag=a&tag=b", Request{Kind: ManifestPut, Repository: "foo", Digest: fooDigest, Tags: []string{"a", "b"}, ListN: -1}},
	{"/v2/foo/manifests/v1", Request{Kind: ManifestDelete, Repository: "foo", Tag: "v1", ListN: -1}},

	// Names that look like other parts of a path.
	{"/v2/foo/blobs/manifests/latest", Request{Kind: ManifestGet, Repository: "foo/blobs", Tag: "latest", ListN: -1}},
	{"/v2/manifests/manifests/list", Request{Kind: ManifestGet, Repository: "manifests", Tag: "list", ListN: -1}},
	{"/v2/foo/blobs/uploads/tags/list", Request{Kind: TagsList, Repository: "foo/blobs/uploads", ListN: -1}},
	{"/v2/foo/blobs/uploads/blobs/uploads/", Request{Kind: UploadStart, Repository: "foo/blobs/uploads", ListN: -1}},
	{"/v2/tags/list/tags/list", Request{Kind: TagsList, Repository: "tags/list", ListN: -1}},
	{"/v2/uploads/blobs/" + fooDigest, Request{Kind: BlobGet, Repository: "uploads", Digest: fooDigest, ListN: -1}},
}

func TestParseRequest(t *testing.T) {
	t.Parallel()
	for _, test := range requests {
		u, err := url.Parse(test.url)
		qt.Assert(t, qt.IsNil(err))
		got, err := ParseRequest(test.want.Kind.Method(), u)
		qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", test.url))
		qt.Assert(t, qt.DeepEquals(got, test.want))
		qt.Assert(t, qt.Equals(test.want.URL(), test.url))
	}
}

func TestParseRequestOtherForms(t *testing.T) {
	t.Parallel()
	tests := []struct {
		method, url string
		want        Request
	}{
		{"GET", "/v2", Request{Kind: Ping, ListN: -1}},
		{"HEAD", "/v2/", Request{Kind: Ping, ListN: -1}},
		{"HEAD", "/v2/foo/tags/list", Request{Kind: TagsList, Repository: "foo", ListN: -1}},
		{"HEAD", "/v2/foo/blobs/uploads/MQ", Request{Kind: UploadStatus, Repository: "foo", UploadID: "1", ListN: -1}},
		{"POST", "/v2/foo/blobs/uploads", Request{Kind: UploadStart, Repository: "foo", ListN: -1}},
		{"POST", "/v2/foo/blobs/uploads?digest=&mount=&x=y", Request{Kind: UploadStart, Repository: "foo", ListN: -1}},
		{"GET", "/v2/foo/blobs/sha256%3A" + fooDigest[7:], Request{Kind: BlobGet, Repository: "foo", Digest: fooDigest, ListN: -1}},
		{"GET", "/v2/foo/tags/list?n=007", Request{Kind: TagsList, Repository: "foo", ListN: 7}},
		{"DELETE", "/v2/foo/manifests/v1?ns=docker.io&n=x", Request{Kind: ManifestDelete, Repository: "foo", Tag: "v1", ListN: -1}},
	}
	for _, test := range tests {
		u, err := url.Parse(test.url)
		qt.Assert(t, qt.IsNil(err))
		got, err := ParseRequest(test.method, u)
		qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", test.url))
		qt.Check(t, qt.DeepEquals(got, test.want))
	}
}

func TestParseRequestErrors(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 10<<10)
	tests := []struct {
		method, url string
		status      int
		body        string
	}{
		{"GET", "/", 404, `{"code":"UNKNOWN","message":"page not found"}`},
		{"GET", "/v1/", 404, `{"code":"UNKNOWN","message":"page not found"}`},
		{"GET", "/v2/bad", 404, `{"code":"UNKNOWN","message":"page not found"}`},
		{"GET", "/v2/_catalog/", 404, `{"code":"UNKNOWN","message":"page not found"}`},
		{"GET", "/v2/foo/tags/list/", 404, `{"code":"UNKNOWN","message":"page not found"}`},
		{"GET", "/v2/foo/tags/", 404, `{"code":"UNKNOWN","message":"page not found"}`},
		{"GET", "/v2/foo/manifests/", 404, `{"code":"UNKNOWN","message":"page not found"}`},
		{"GET", "/v2/foo/uploads/MQ", 404, `{"code":"UNKNOWN","message":"page not found"}`},
		{"GET", "/v2/blobs/" + fooDigest, 404, `{"code":"UNKNOWN","message":"page not found"}`},
		{"POST", "/v2/blobs/uploads/", 404, `{"code":"UNKNOWN","message":"page not found"}`},
		{"POST", "/v2/foo/blobs/uploads//", 404, `{"code":"UNKNOWN","message":"page not found"}`},
		{"GET", "/v2/foo%2Fbar/manifests/x", 404, `{"code":"UNKNOWN","message":"page not found"}`},
		{"GET", "/v2/foo%2fblobs/" + fooDigest, 404, `{"code":"UNKNOWN","message":"page not found"}`},
		{"GET", "/v2/foo/blobs/uploads/..%2F..%2Fetc", 404, `{"code":"UNKNOWN","message":"page not found"}`},

		{"FOO", "/v2/foo/blobs/" + fooDigest, 405, `{"code":"UNKNOWN","message":"method not allowed"}`},
		{"GET", "/v2/foo/blobs/uploads/", 405, `{"code":"UNKNOWN","message":"method not allowed"}`},
		{"PUT", "/v2/", 405, `{"code":"UNKNOWN","message":"method not allowed"}`},

		{"GET", "/v2/Foo/manifests/x", 400, `{"code":"NAME_INVALID","message":"invalid repository name"}`},
		{"GET", "/v2//manifests/x", 400, `{"code":"NAME_INVALID","message":"invalid repository name"}`},
		{"GET", "/v2/foo/../bar/manifests/x", 400, `{"code":"NAME_INVALID","message":"invalid repository name"}`},
		{"GET", "/v2/%2e%2e/manifests/x", 400, `{"code":"NAME_INVALID","message":"invalid repository name"}`},
		{"GET", "/v2/foo%00/manifests/x", 400, `{"code":"NAME_INVALID","message":"invalid repository name"}`},
		{"GET", "/v2/" + long + "/manifests/x", 400, `{"code":"NAME_INVALID","message":"invalid repository name"}`},
		{"POST", "/v2/foo/blobs/uploads/?mount=" + fooDigest + "&from=B", 400, `{"code":"NAME_INVALID","message":"invalid repository name"}`},
		{"GET", "/v2/Foo/blobs/sha256:asd", 400, `{"code":"NAME_INVALID","message":"invalid repository name"}`},

		{"GET", "/v2/foo/blobs/sha256:asd", 400, `{"code":"DIGEST_INVALID","message":"badly formed digest"}`},
		{"GET", "/v2/foo/blobs/uploads2", 400, `{"code":"DIGEST_INVALID","message":"badly formed digest"}`},
		{"GET", "/v2/foo/blobs/sha384:" + strings.Repeat("0", 96), 400, `{"code":"DIGEST_INVALID","message":"badly formed digest"}`},
		{"GET", "/v2/foo/manifests/sha256:asd", 400, `{"code":"DIGEST_INVALID","message":"badly formed digest"}`},
		{"GET", "/v2/foo/referrers/latest", 400, `{"code":"DIGEST_INVALID","message":"badly formed digest"}`},
		{"PUT", "/v2/foo/blobs/uploads/MQ", 400, `{"code":"DIGEST_INVALID","message":"badly formed digest"}`},
		{"PUT", "/v2/foo/blobs/uploads/MQ?digest=" + long, 400, `{"code":"DIGEST_INVALID","message":"badly formed digest"}`},
		{"POST", "/v2/foo/blobs/uploads/?digest=sha256:fake", 400, `{"code":"DIGEST_INVALID","message":"badly formed digest"}`},
		{"POST", "/v2/foo/blobs/uploads/?mount=..&from=bar", 400, `{"code":"DIGEST_INVALID","message":"badly formed digest"}`},
		{"POST", "/v2/foo/blobs/uploads/?digest-algorithm=md5", 400, `{"code":"DIGEST_INVALID","message":"unsupported digest algorithm"}`},

		{"GET", "/v2/foo/manifests/.INVALID", 404, `{"code":"MANIFEST_UNKNOWN","message":"manifest unknown to registry"}`},
		{"DELETE", "/v2/foo/manifests/..", 404, `{"code":"MANIFEST_UNKNOWN","message":"manifest unknown to registry"}`},
		{"HEAD", "/v2/foo/manifests/a%00b", 404, `{"code":"MANIFEST_UNKNOWN","message":"manifest unknown to registry"}`},
		{"PUT", "/v2/foo/manifests/-x", 400, `{"code":"MANIFEST_INVALID","message":"manifest invalid: invalid tag \"-x\""}`},
		{"PUT", "/v2/foo/manifests/" + fooDigest + "?tag=ok&tag=", 400, `{"code":"MANIFEST_INVALID","message":"manifest invalid: invalid tag \"\""}`},
		{"PUT", "/v2/foo/manifests/" + long, 400, `{"code":"MANIFEST_INVALID","message":"manifest invalid: invalid tag \"` + long[:130] + `\""}`},

		{"PATCH", "/v2/foo/blobs/uploads/..", 404, `{"code":"BLOB_UPLOAD_UNKNOWN","message":"blob upload unknown to registry"}`},
		{"PATCH", "/v2/foo/blobs/uploads/MR", 404, `{"code":"BLOB_UPLOAD_UNKNOWN","message":"blob upload unknown to registry"}`},
		{"PATCH", "/v2/foo/blobs/uploads/MQ==", 404, `{"code":"BLOB_UPLOAD_UNKNOWN","message":"blob upload unknown to registry"}`},
		{"PATCH", "/v2/foo/blobs/uploads/M%0AQ", 404, `{"code":"BLOB_UPLOAD_UNKNOWN","message":"blob upload unknown to registry"}`},
		{"PATCH", "/v2/foo/blobs/uploads/" + EncodeUploadID("a\x00"), 404, `{"code":"BLOB_UPLOAD_UNKNOWN","message":"blob upload unknown to registry"}`},
		{"PATCH", "/v2/foo/blobs/uploads/" + EncodeUploadID("\xff"), 404, `{"code":"BLOB_UPLOAD_UNKNOWN","message":"blob upload unknown to registry"}`},
		{"GET", "/v2/foo/blobs/uploads/" + EncodeUploadID(long), 404, `{"code":"BLOB_UPLOAD_UNKNOWN","message":"blob upload unknown to registry"}`},

		{"GET", "/v2/foo/tags/list?n=INVALID", 400, `{"code":"UNKNOWN","message":"query parameter n is not a valid integer"}`},
		{"GET", "/v2/foo/tags/list?n=-1", 400, `{"code":"UNKNOWN","message":"query parameter n is not a valid integer"}`},
		{"GET", "/v2/foo/tags/list?n=", 400, `{"code":"UNKNOWN","message":"query parameter n is not a valid integer"}`},
		{"GET", "/v2/_catalog?n=99999999999999999999", 400, `{"code":"UNKNOWN","message":"query parameter n is not a valid integer"}`},
		{"GET", "/v2/_catalog?n=%zz", 400, `{"code":"UNKNOWN","message":"invalid query parameters"}`},
	}
	for _, test := range tests {
		u, err := url.Parse(test.url)
		qt.Assert(t, qt.IsNil(err))
		_, err = ParseRequest(test.method, u)
		qt.Assert(t, qt.IsNotNil(err), qt.Commentf("%s %.200s", test.method, test.url))
		body, status := ociregistry.MarshalError(err)
		qt.Check(t, qt.Equals(status, test.status), qt.Commentf("%s %.200s", test.method, test.url))
		qt.Check(t, qt.Equals(string(body), `{"errors":[`+test.body+`]}`), qt.Commentf("%s %.200s", test.method, test.url))
	}
}

func TestMethodErrorListsMethods(t *testing.T) {
	t.Parallel()
	tests := []struct{ url, allow string }{
		{"/v2/", "GET, HEAD, OPTIONS"},
		{"/v2/_catalog", "GET, HEAD, OPTIONS"},
		{"/v2/foo/tags/list", "GET, HEAD, OPTIONS"},
		{"/v2/foo/referrers/" + fooDigest, "GET, HEAD, OPTIONS"},
		{"/v2/foo/blobs/" + fooDigest, "GET, HEAD, DELETE, OPTIONS"},
		{"/v2/foo/blobs/uploads/", "POST, OPTIONS"},
		{"/v2/foo/blobs/uploads/MQ", "PATCH, PUT, GET, HEAD, DELETE, OPTIONS"},
		{"/v2/foo/manifests/latest", "GET, HEAD, PUT, DELETE, OPTIONS"},
	}
	for _, test := range tests {
		u, err := url.Parse(test.url)
		qt.Assert(t, qt.IsNil(err))
		_, err = ParseRequest(http.MethodOptions, u)
		var methodErr *MethodError
		qt.Assert(t, qt.IsTrue(errors.As(err, &methodErr)), qt.Commentf("%s", test.url))
		qt.Check(t, qt.Equals(methodErr.Allow, test.allow))
	}
}

func TestCheckReturnsErrorsOfTheContract(t *testing.T) {
	t.Parallel()
	tests := []struct {
		request Request
		want    error
	}{
		{Request{Kind: Ping}, nil},
		{Request{Kind: Catalog}, nil},
		{Request{Kind: BlobGet, Repository: "../x", Digest: "bad"}, ociregistry.ErrNameInvalid},
		{Request{Kind: BlobMount, Repository: "foo", FromRepository: "../x", Digest: "bad"}, ociregistry.ErrNameInvalid},
		{Request{Kind: BlobMount, Repository: "foo", Digest: "bad"}, ociregistry.ErrDigestInvalid},
		{Request{Kind: ManifestGet, Repository: "foo"}, ociregistry.ErrDigestInvalid},
		{Request{Kind: ManifestGet, Repository: "foo", Tag: "../x"}, ociregistry.ErrManifestUnknown},
		{Request{Kind: ManifestPut, Repository: "foo", Tag: "../x"}, ociregistry.ErrManifestInvalid},
		{Request{Kind: ManifestPut, Repository: "foo", Tag: "x", Tags: []string{"a b"}}, ociregistry.ErrManifestInvalid},
		{Request{Kind: UploadCancel, Repository: "foo"}, ociregistry.ErrBlobUploadUnknown},
		{Request{Kind: UploadStart, Repository: "foo", Algorithm: "md5"}, ociregistry.ErrDigestInvalid},
	}
	for _, test := range tests {
		qt.Check(t, qt.ErrorIs(test.request.Check(), test.want), qt.Commentf("%+v", test.request))
	}
}

// FuzzParseRequest checks that parsed requests are well formed, and that parsing their URL
// returns the same request.
func FuzzParseRequest(f *testing.F) {
	for _, r := range requests {
		f.Add(r.want.Kind.Method(), r.url)
	}
	f.Add("GET", "/v2/a/../b/manifests/%2e%2e?last=%00&n=1;2")
	f.Fuzz(func(t *testing.T, method, s string) {
		u, err := url.ParseRequestURI(s)
		if err != nil {
			return
		}
		r, err := ParseRequest(method, u)
		if err != nil {
			if _, status := ociregistry.MarshalError(err); status < 400 || status > 499 {
				t.Fatalf("%s %q: status %d (%v)", method, s, status, err)
			}
			return
		}
		if err := r.Check(); err != nil {
			t.Fatalf("%s %q: %+v does not pass its own check: %v", method, s, r, err)
		}
		path, _, _ := strings.Cut(r.URL(), "?")
		if strings.Contains(path, "..") || strings.Contains(path, "//") || strings.ContainsAny(path, "%\x00\\") {
			t.Fatalf("%s %q: path %q", method, s, path)
		}
		u, err = url.ParseRequestURI(r.URL())
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseRequest(r.Kind.Method(), u)
		if err != nil {
			t.Fatalf("%s %q: %+v makes %q: %v", method, s, r, r.URL(), err)
		}
		if len(r.Tags) == 0 {
			r.Tags, again.Tags = nil, nil
		}
		qt.Assert(t, qt.DeepEquals(again, r))
	})
}

// Parsing a request without a query allocates only the parts that it must decode.
func TestParseRequestAllocatesDecodedPartsOnly(t *testing.T) {
	u, err := url.Parse("/v2/library/debian/blobs/" + fooDigest)
	qt.Assert(t, qt.IsNil(err))
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := ParseRequest("GET", u); err != nil {
			t.Fatal(err)
		}
	})
	qt.Assert(t, qt.Equals(allocs, 0))
}
