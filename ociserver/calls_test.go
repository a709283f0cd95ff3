package ociserver_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
)

// TestAnswers_AreThoseThatUsersOfCuelabsServerKnow checks, exchange by exchange,
// the answers that programs and tests written for cuelabs' server know. Where this
// server answers otherwise, the case says why.
func TestAnswers_AreThoseThatUsersOfCuelabsServerKnow(t *testing.T) {
	t.Parallel()
	foo, hello := string(digest.FromString("foo")), string(digest.FromString(helloWorld))
	const (
		nameUnknown = `{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}`
		badDigest   = `{"errors":[{"code":"DIGEST_INVALID","message":"badly formed digest"}]}`
		notFound    = `{"errors":[{"code":"UNKNOWN","message":"page not found"}]}`
		notAllowed  = `{"errors":[{"code":"UNKNOWN","message":"method not allowed"}]}`
		unknown     = `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown to registry"}]}`
		version     = "Docker-Distribution-API-Version: registry/2.0"
	)
	type setup struct {
		manifests []string // repository/reference=content
		blobs     []string // repository=content
		uploads   []string // repository/id=content
	}
	tests := []struct {
		name    string
		setup   setup
		request string // method and path
		body    string
		headers []string // name: value
		status  int
		answer  []string // name: value
		content string
	}{
		{name: "ping", request: "GET /v2", status: 200, answer: []string{version}},
		{name: "ping with slash", request: "GET /v2/", status: 200, answer: []string{version}},
		{name: "no such route", request: "GET /v2/bad", status: 404, answer: []string{version}, content: notFound},
		{name: "blob route without repository", request: "GET /v2/blobs/" + foo, status: 404, content: notFound},

		{name: "blob in unknown repository", request: "GET /v2/foo/blobs/" + foo, status: 404, content: nameUnknown},
		{name: "head of it", request: "HEAD /v2/foo/blobs/" + foo, status: 404},
		{name: "blob by bad digest", request: "GET /v2/foo/blobs/sha256:asd", status: 400, content: badDigest},
		{name: "head of it", request: "HEAD /v2/foo/blobs/sha256:asd", status: 400},
		{name: "bad verb for blob", request: "FOO /v2/foo/blobs/" + foo, status: 405, content: notAllowed},
		{name: "blob", setup: setup{blobs: []string{"foo=foo"}}, request: "GET /v2/foo/blobs/" + foo,
			status: 200, answer: []string{"Docker-Content-Digest: " + foo}, content: "foo"},
		{name: "head of blob", setup: setup{blobs: []string{"foo=foo"}}, request: "HEAD /v2/foo/blobs/" + foo,
			status: 200, answer: []string{"Docker-Content-Digest: " + foo, "Content-Length: 3"}},
		{name: "range", setup: setup{blobs: []string{"foo=" + helloWorld}}, request: "GET /v2/foo/blobs/" + hello,
			headers: []string{"Range: bytes=1-4"}, status: 206,
			answer:  []string{"Docker-Content-Digest: " + hello, "Content-Length: 4", "Content-Range: bytes 1-4/11"},
			content: "ello"},
		{name: "range to the end", setup: setup{blobs: []string{"foo=" + helloWorld}}, request: "GET /v2/foo/blobs/" + hello,
			headers: []string{"Range: bytes=3-"}, status: 206,
			answer:  []string{"Docker-Content-Digest: " + hello, "Content-Length: 8", "Content-Range: bytes 3-10/11"},
			content: "lo world"},
		// There it is a 500.
		{name: "range after the end", setup: setup{blobs: []string{"foo=" + helloWorld}}, request: "GET /v2/foo/blobs/" + hello,
			headers: []string{"Range: bytes=20-30"}, status: 416, answer: []string{"Content-Range: bytes */11"},
			content: `{"errors":[{"code":"RANGE_INVALID","message":"invalid content range: there are 11 bytes"}]}`},
		{name: "delete blob", setup: setup{blobs: []string{"foo=foo"}}, request: "DELETE /v2/foo/blobs/" + foo, status: 202},

		{name: "start upload", request: "POST /v2/foo/blobs/uploads/", status: 202, answer: []string{"Range: 0-0"}},
		{name: "finish without digest", request: "PUT /v2/foo/blobs/uploads/MQ", status: 400, content: badDigest},
		{name: "single post", request: "POST /v2/foo/blobs/uploads?digest=" + foo, body: "foo",
			status: 201, answer: []string{"Docker-Content-Digest: " + foo}},
		{name: "single post with bad digest", request: "POST /v2/foo/blobs/uploads?digest=sha256:fake", body: "foo",
			status: 400, content: badDigest},
		{name: "finish", request: "PUT /v2/foo/blobs/uploads/MQ?digest=" + foo, body: "foo",
			status: 201, answer: []string{"Docker-Content-Digest: " + foo}},
		{name: "finish with bad digest", request: "PUT /v2/foo/blobs/uploads/MQ?digest=sha256:baddigest", body: "foo",
			status: 400, content: badDigest},
		{name: "first chunk", request: "PATCH /v2/foo/blobs/uploads/MQ", body: "foo", headers: []string{"Content-Range: 0-2"},
			status: 202, answer: []string{"Range: 0-2", "Location: /v2/foo/blobs/uploads/MQ"}},
		{name: "finish after chunk", setup: setup{uploads: []string{"foo/MQ=foo"}}, request: "PUT /v2/foo/blobs/uploads/MQ?digest=" + foo,
			status: 201, answer: []string{"Docker-Content-Digest: " + foo}},
		{name: "malformed chunk range", request: "PATCH /v2/foo/blobs/uploads/MQ", body: "foo", headers: []string{"Content-Range: 0-bar"},
			status: 400, content: `{"errors":[{"code":"UNSUPPORTED","message":"we don't understand your Content-Range"}]}`},
		// There the message begins with what the server and its backend were doing.
		{name: "chunk that overlaps", setup: setup{uploads: []string{"foo/MQ=foo"}}, request: "PATCH /v2/foo/blobs/uploads/MQ",
			body: "bar", headers: []string{"Content-Range: 2-4"}, status: 416,
			content: `{"errors":[{"code":"RANGE_INVALID","message":"invalid content range: the upload is at byte 3"}]}`},
		{name: "second chunk", setup: setup{uploads: []string{"foo/MQ=foo"}}, request: "PATCH /v2/foo/blobs/uploads/MQ",
			body: "bar", headers: []string{"Content-Range: 3-5"}, status: 202,
			answer: []string{"Range: 0-5", "Location: /v2/foo/blobs/uploads/MQ"}},

		{name: "manifest in unknown repository", request: "GET /v2/foo/manifests/latest", status: 404, content: nameUnknown},
		{name: "head of it", request: "HEAD /v2/foo/manifests/latest", status: 404},
		{name: "unknown manifest", setup: setup{manifests: []string{"foo/latest=foo"}}, request: "GET /v2/foo/manifests/bar",
			status: 404, content: unknown},
		{name: "head of it", setup: setup{manifests: []string{"foo/latest=foo"}}, request: "HEAD /v2/foo/manifests/bar", status: 404},
		{name: "manifest by tag", setup: setup{manifests: []string{"foo/latest=foo"}}, request: "GET /v2/foo/manifests/latest",
			status: 200, content: "foo"},
		{name: "manifest by digest", setup: setup{manifests: []string{"foo/latest=foo"}}, request: "GET /v2/foo/manifests/" + foo,
			status: 200, content: "foo"},
		{name: "head of manifest", setup: setup{manifests: []string{"foo/latest=foo"}}, request: "HEAD /v2/foo/manifests/latest", status: 200},
		{name: "put manifest", request: "PUT /v2/foo/manifests/latest", body: "foo", status: 201},
		{name: "bad verb for manifest", request: "BAR /v2/foo/manifests/latest", status: 405, content: notAllowed},
		// There it is stored.
		{name: "bad index", request: "PUT /v2/foo/manifests/latest", body: "foo",
			headers: []string{"Content-Type: application/vnd.oci.image.index.v1+json"},
			status:  400, content: `{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid: not a JSON object"}]}`},

		{name: "delete in unknown repository", request: "DELETE /v2/test/honk/manifests/latest", status: 404, content: nameUnknown},
		{name: "delete unknown tag", setup: setup{manifests: []string{"honk/latest=honk"}}, request: "DELETE /v2/honk/manifests/tag-honk",
			status: 404, content: `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown to registry: tag does not exist"}]}`},
		{name: "delete tag", setup: setup{manifests: []string{"foo/latest=foo"}}, request: "DELETE /v2/foo/manifests/latest", status: 202},
		{name: "delete manifest", setup: setup{manifests: []string{"foo/latest=foo"}}, request: "DELETE /v2/foo/manifests/" + foo, status: 202},

		{name: "tags", setup: setup{manifests: []string{"foo/latest=foo", "foo/tag1=foo"}}, request: "GET /v2/foo/tags/list?n=1000",
			status: 200, content: `{"name":"foo","tags":["latest","tag1"]}`},
		{name: "some tags", setup: setup{manifests: []string{"foo/latest=foo", "foo/tag1=foo"}}, request: "GET /v2/foo/tags/list?n=1",
			status: 200, content: `{"name":"foo","tags":["latest"]}`},
		{name: "tags after", setup: setup{manifests: []string{"foo/latest=foo", "foo/tag1=foo"}}, request: "GET /v2/foo/tags/list?last=latest",
			status: 200, content: `{"name":"foo","tags":["tag1"]}`},
		{name: "tags of unknown repository", request: "GET /v2/foo/tags/list?n=1000", status: 404, content: nameUnknown},
		{name: "bad n", request: "GET /v2/foo/tags/list?n=INVALID", status: 400,
			content: `{"errors":[{"code":"UNKNOWN","message":"query parameter n is not a valid integer"}]}`},
		{name: "catalog", setup: setup{manifests: []string{"foo/latest=foo", "bar/latest=bar"}}, request: "GET /v2/_catalog?n=1000",
			status: 200, content: `{"repositories":["bar","foo"]}`},

		// There the empty list is null, and an unknown repository a 404.
		{name: "no referrers", setup: setup{manifests: []string{"foo/image=foo"}}, request: "GET /v2/foo/referrers/" + foo,
			status: 200, content: emptyIndex},
		{name: "referrers in unknown repository", request: "GET /v2/does-not-exist/referrers/" + foo, status: 200, content: emptyIndex},
		{name: "referrers of a tag", request: "GET /v2/foo/referrers/latest", status: 400, content: badDigest},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, nil)
			for _, m := range test.setup.manifests {
				where, content, _ := strings.Cut(m, "=")
				repo, tag, _ := strings.Cut(where, "/")
				s.pushManifest(repo, tag, content)
			}
			for _, b := range test.setup.blobs {
				repo, content, _ := strings.Cut(b, "=")
				s.pushBlob(repo, content)
			}
			for _, u := range test.setup.uploads {
				where, content, _ := strings.Cut(u, "=")
				repo, id, _ := strings.Cut(where, "/")
				s.do("PATCH", "/v2/"+repo+"/blobs/uploads/"+id, content).want(t, http.StatusAccepted)
			}
			method, path, _ := strings.Cut(test.request, " ")
			a := s.do(method, path, test.body, split(test.headers)...).want(t, test.status).wantHeaders(t, split(test.answer)...)
			qt.Check(t, qt.Equals(a.body, test.content))
		})
	}
}

// split splits headers into names and values.
func split(headers []string) []string {
	var all []string
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		all = append(all, name, value)
	}
	return all
}
