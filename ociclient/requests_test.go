package ociclient_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/faultserver"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
	"github.com/seed-40b21970/oci/ociserver"
)

const (
	tagged    = `{"schemaVersion":2,"mediaType":"` + imageIndex + `","manifests":[]}`
	untagged  = `{"schemaVersion":2,"mediaType":"` + imageIndex + `","manifests":[],"annotations":{"a":"b"}}`
	chunkSize = 1 << 20
)

// referrerManifest returns a manifest whose subject is the tagged one.
func referrerManifest(n int) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[],"subject":{"mediaType":%[1]q,"digest":%q,"size":%d},"annotations":{"n":"%d"}}`,
		imageIndex, digest.FromString(tagged), len(tagged), n)
}

// counted returns a client of a registry, and the registry's server, which counts requests.
// The repository foo has the content, a tagged manifest and an untagged one; bar is empty.
func counted(t *testing.T, server ociserver.Options, opts ociclient.Options, rules ...rule) (ociregistry.Interface, *faultserver.Server) {
	backend := registryWith(t, content)
	for contents, tag := range map[string]string{tagged: "v1", untagged: ""} {
		_, err := backend.PushManifest(ctx, "foo", tag, []byte(contents), imageIndex)
		qt.Assert(t, qt.IsNil(err))
	}
	opts.ChunkSize = chunkSize
	srv := faultserver.New(t, ociserver.New(backend, &server), rules...)
	return clientOf(t, srv, opts, newClock()), srv
}

// anyDigest matches a digest in a URL.
var anyDigest = regexp.MustCompile(`sha256(%3A|:)[0-9a-f]{64}`)

// shape returns the lines of requests without the parts that depend on the run or on the
// content.
func shape(lines []string) []string {
	shapes := make([]string, len(lines))
	for i, line := range lines {
		if before, id, ok := strings.Cut(line, "/blobs/uploads/"); ok && id != "" && id[0] != '?' {
			_, query, _ := strings.Cut(id, "?")
			line = strings.TrimSuffix(before+"/blobs/uploads/ID?"+query, "?")
		}
		for name, d := range map[string]digest.Digest{"CONTENT": contentDigest, "TAGGED": digest.FromString(tagged), "UNTAGGED": digest.FromString(untagged)} {
			line = strings.NewReplacer(string(d), name, strings.Replace(string(d), ":", "%3A", 1), name, strings.Replace(string(d), ":", "-", 1), "TAG-OF-"+name).Replace(line)
		}
		shapes[i] = anyDigest.ReplaceAllString(line, "")
	}
	return shapes
}

// TestRequestCounts has the requests of each operation, which are the minimum.
func TestRequestCounts(t *testing.T) {
	t.Parallel()
	type registry = ociregistry.Interface
	uploadOf := func(parts int) []string {
		requests := []string{"POST /v2/foo/blobs/uploads/"}
		for range parts - 1 {
			requests = append(requests, "PATCH /v2/foo/blobs/uploads/ID")
		}
		return append(requests, "PUT /v2/foo/blobs/uploads/ID?digest=")
	}
	large := pattern(2*chunkSize + 10_000)
	pushOf := func(content string, again bool) func(registry) error {
		return func(r registry) error {
			var from io.Reader = strings.NewReader(content)
			if !again {
				from = once(content)
			}
			return second(r.PushBlob(ctx, "foo", blobDesc(content), from))
		}
	}
	write := func(w ociregistry.BlobWriter, err error, content string) error {
		if err == nil {
			_, err = io.WriteString(w, content)
		}
		if err == nil {
			_, err = w.Commit(digest.FromString(content))
		}
		return err
	}
	writeOf := func(content string) func(registry) error {
		return func(r registry) error {
			w, err := r.PushBlobChunked(ctx, "foo", chunkSize)
			return write(w, err, content)
		}
	}
	resumeAt := func(offset int64) func(registry) error {
		return func(r registry) error {
			w, err := r.PushBlobChunked(ctx, "foo", chunkSize)
			if err != nil {
				return err
			}
			if _, err := io.WriteString(w, content); err != nil {
				return err
			}
			if err := w.Close(); err != nil {
				return err
			}
			if w, err = r.PushBlobChunkedResume(ctx, "foo", w.ID(), offset, chunkSize); err != nil {
				return err
			}
			_, err = w.Commit(contentDigest)
			return err
		}
	}
	pushReferrer := func(n int) func(registry) error {
		return func(r registry) error {
			return second(r.PushManifest(ctx, "foo", fmt.Sprintf("r%d", n), referrerManifest(n), imageIndex))
		}
	}
	tests := []struct {
		name   string
		server ociserver.Options
		client ociclient.Options
		before func(registry) error // not counted; may be nil
		call   func(registry) error
		want   []string
	}{
		{name: "ResolveTag", call: func(r registry) error { return second(r.ResolveTag(ctx, "foo", "v1")) }, want: []string{"HEAD /v2/foo/manifests/v1"}},
		{name: "ResolveManifest", call: func(r registry) error { return second(r.ResolveManifest(ctx, "foo", digest.FromString(tagged))) }, want: []string{"HEAD /v2/foo/manifests/TAGGED"}},
		{name: "ResolveBlob", call: resolveBlob, want: []string{"HEAD /v2/foo/blobs/CONTENT"}},
		{name: "GetTag", call: func(r registry) error { return second(readAll(r.GetTag(ctx, "foo", "v1"))) }, want: []string{"GET /v2/foo/manifests/v1"}},
		{
			name:   "GetTag, without digest",
			server: ociserver.Options{OmitDigestFromTagGetResponse: true},
			call:   func(r registry) error { return second(readAll(r.GetTag(ctx, "foo", "v1"))) },
			want:   []string{"GET /v2/foo/manifests/v1"},
		},
		{name: "GetManifest", call: func(r registry) error { return second(readAll(r.GetManifest(ctx, "foo", digest.FromString(tagged)))) }, want: []string{"GET /v2/foo/manifests/TAGGED"}},
		{name: "GetBlob", call: func(r registry) error { return second(readAll(getBlob(r))) }, want: []string{"GET /v2/foo/blobs/CONTENT"}},
		{
			name:   "GetBlob, smaller than a part",
			client: ociclient.Options{Parallel: ociclient.Parallel{Concurrency: 4}},
			call:   func(r registry) error { return second(readAll(getBlob(r))) },
			want:   []string{"GET /v2/foo/blobs/CONTENT"},
		},
		{
			name:   "GetBlob, in three parts",
			client: ociclient.Options{Parallel: ociclient.Parallel{Concurrency: 2, PartSize: 10}},
			call:   func(r registry) error { return second(readAll(getBlob(r))) },
			want:   []string{"GET /v2/foo/blobs/CONTENT", "GET /v2/foo/blobs/CONTENT", "GET /v2/foo/blobs/CONTENT"},
		},
		{name: "GetBlobRange", call: func(r registry) error { return second(readAll(r.GetBlobRange(ctx, "foo", contentDigest, 2, 5))) }, want: []string{"GET /v2/foo/blobs/CONTENT"}},
		{name: "GetBlobRange, empty", call: func(r registry) error { return second(readAll(r.GetBlobRange(ctx, "foo", contentDigest, 2, 2))) }, want: []string{"HEAD /v2/foo/blobs/CONTENT"}},
		{name: "GetBlobRange, to the end", call: func(r registry) error { return second(readAll(r.GetBlobRange(ctx, "foo", contentDigest, 2, 1000))) }, want: []string{"GET /v2/foo/blobs/CONTENT"}},
		{name: "PushBlob", call: pushOf("new", true), want: uploadOf(1)},
		{name: "PushBlob, once", call: pushOf("new", false), want: uploadOf(1)},
		{name: "PushBlob, large", call: pushOf(large, true), want: uploadOf(1)},
		{name: "PushBlob, large and once", call: pushOf(large, false), want: uploadOf(3)},
		{name: "PushBlob, known and asked for", client: ociclient.Options{CheckBlobs: true}, call: pushOf(content, true), want: []string{"HEAD /v2/foo/blobs/CONTENT"}},
		{
			name:   "PushBlob, mounted",
			client: ociclient.Options{MountFrom: []string{"foo"}},
			call: func(r registry) error {
				return second(r.PushBlob(ctx, "bar", blobDesc(content), strings.NewReader(content)))
			},
			want: []string{"POST /v2/bar/blobs/uploads/?mount=CONTENT&from=foo"},
		},
		{
			name:   "PushBlob, mounted in vain",
			client: ociclient.Options{MountFrom: []string{"foo"}},
			call: func(r registry) error {
				return second(r.PushBlob(ctx, "bar", blobDesc("x"), strings.NewReader("x")))
			},
			want: []string{"POST /v2/bar/blobs/uploads/?mount=&from=foo", "PUT /v2/bar/blobs/uploads/ID?digest="},
		},
		{name: "PushBlobChunked", call: writeOf("new"), want: uploadOf(1)},
		{name: "PushBlobChunked, large", call: writeOf(large), want: uploadOf(3)},
		{
			name: "PushBlobChunkedResume",
			call: resumeAt(int64(len(content))),
			want: []string{"POST /v2/foo/blobs/uploads/", "PATCH /v2/foo/blobs/uploads/ID", "PUT /v2/foo/blobs/uploads/ID?digest=CONTENT"},
		},
		{
			name: "PushBlobChunkedResume, wherever it is",
			call: resumeAt(-1),
			want: []string{"POST /v2/foo/blobs/uploads/", "PATCH /v2/foo/blobs/uploads/ID", "GET /v2/foo/blobs/uploads/ID", "PUT /v2/foo/blobs/uploads/ID?digest=CONTENT"},
		},
		{name: "MountBlob", call: func(r registry) error { return second(r.MountBlob(ctx, "foo", "bar", contentDigest)) }, want: []string{"POST /v2/bar/blobs/uploads/?mount=CONTENT&from=foo"}},
		{name: "PushManifest", call: func(r registry) error { return second(r.PushManifest(ctx, "foo", "", []byte(tagged), imageIndex)) }, want: []string{"PUT /v2/foo/manifests/TAGGED"}},
		{name: "PushManifest, tag", call: func(r registry) error { return second(r.PushManifest(ctx, "foo", "v2", []byte(tagged), imageIndex)) }, want: []string{"PUT /v2/foo/manifests/v2"}},
		{name: "PushManifest, tags", call: func(r registry) error {
			return second(r.PushManifest(ctx, "foo", "v2", []byte(tagged), imageIndex, "v3", "v4"))
		}, want: []string{"PUT /v2/foo/manifests/v2?tag=v3&tag=v4"}},
		{name: "PushManifest, subject", call: pushReferrer(1), want: []string{"PUT /v2/foo/manifests/r1"}},
		{
			name:   "PushManifest, subject, by tag",
			server: ociserver.Options{DisableReferrersAPI: true},
			call:   pushReferrer(1),
			want:   []string{"PUT /v2/foo/manifests/r1", "GET /v2/foo/manifests/TAG-OF-TAGGED", "PUT /v2/foo/manifests/TAG-OF-TAGGED"},
		},
		{
			name:   "PushManifest, another subject, by tag", // the old list is deleted
			server: ociserver.Options{DisableReferrersAPI: true},
			before: pushReferrer(1),
			call:   pushReferrer(2),
			want:   []string{"PUT /v2/foo/manifests/r2", "GET /v2/foo/manifests/TAG-OF-TAGGED", "PUT /v2/foo/manifests/TAG-OF-TAGGED", "DELETE /v2/foo/manifests/"},
		},
		{name: "DeleteBlob", call: func(r registry) error { return r.DeleteBlob(ctx, "foo", contentDigest) }, want: []string{"DELETE /v2/foo/blobs/CONTENT"}},
		{name: "DeleteTag", call: func(r registry) error { return r.DeleteTag(ctx, "foo", "v1") }, want: []string{"DELETE /v2/foo/manifests/v1"}},
		{
			name: "DeleteManifest, the first", // nothing is known about the registry yet
			call: func(r registry) error { return r.DeleteManifest(ctx, "foo", digest.FromString(untagged)) },
			want: []string{"GET /v2/foo/referrers/UNTAGGED", "DELETE /v2/foo/manifests/UNTAGGED"},
		},
		{
			name:   "DeleteManifest",
			before: pushReferrer(1),
			call:   func(r registry) error { return r.DeleteManifest(ctx, "foo", digest.FromString(untagged)) },
			want:   []string{"DELETE /v2/foo/manifests/UNTAGGED"},
		},
		{name: "Tags", call: func(r registry) error { return second(ociregistry.All(r.Tags(ctx, "foo", ""))) }, want: []string{"GET /v2/foo/tags/list?n=1000"}},
		{
			name:   "Tags, as many as a page",
			client: ociclient.Options{ListPageSize: 1},
			call:   func(r registry) error { return second(ociregistry.All(r.Tags(ctx, "foo", ""))) },
			want:   []string{"GET /v2/foo/tags/list?n=1", "GET /v2/foo/tags/list?n=1&last=v1"}, // there could be more
		},
		{name: "Repositories", call: func(r registry) error { return second(ociregistry.All(r.Repositories(ctx, ""))) }, want: []string{"GET /v2/_catalog?n=1000"}},
		{name: "Referrers", call: func(r registry) error {
			return second(ociregistry.All(r.Referrers(ctx, "foo", digest.FromString(tagged), "")))
		}, want: []string{"GET /v2/foo/referrers/TAGGED"}},
		{
			name:   "Referrers, by tag",
			server: ociserver.Options{DisableReferrersAPI: true},
			before: func(r registry) error { return second(ociregistry.All(r.Referrers(ctx, "foo", contentDigest, ""))) },
			call: func(r registry) error {
				return second(ociregistry.All(r.Referrers(ctx, "foo", digest.FromString(tagged), "")))
			},
			want: []string{"GET /v2/foo/manifests/TAG-OF-TAGGED"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			reg, srv := counted(t, test.server, test.client)
			if test.before != nil {
				qt.Assert(t, qt.IsNil(test.before(reg)))
				srv.Lines()
			}
			qt.Assert(t, qt.IsNil(test.call(reg)))
			qt.Assert(t, qt.DeepEquals(shape(srv.Lines()), test.want))
		})
	}
}

// TestRequestCountsWithToken counts the requests for tokens: the registry refuses the first
// request for a scope, which is then repeated.
func TestRequestCountsWithToken(t *testing.T) {
	t.Parallel()
	var srv *faultserver.Server
	challenge := func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+srv.URL+`/token",service="registry.test"`)
		w.WriteHeader(http.StatusUnauthorized)
	}
	transport := ociauth.NewStdTransport(ociauth.StdTransportParams{Transport: newTransport(t), Config: everywhere{Username: "user", Password: "secret"}})
	reg, srv := counted(t, ociserver.Options{}, ociclient.Options{Transport: transport},
		rule{On: "GET /token", Status: 200, Answer: `{"token":"t","expires_in":300}`},
		rule{On: "", Header: header{"Authorization": ""}, Handler: challenge},
	)
	steps := []struct {
		name string
		call func() error
		want []string
	}{
		{"the first", func() error { return resolveBlob(reg) }, []string{"HEAD", "GET /token", "HEAD"}},
		{"the next", func() error { return second(readAll(getBlob(reg))) }, []string{"GET"}},
		{"a list", func() error { return second(ociregistry.All(reg.Tags(ctx, "foo", ""))) }, []string{"GET"}},
		{"the first push", func() error { return push(reg) }, []string{"GET /token", "POST", "PUT"}},
		{"the next push", func() error { return push(reg) }, []string{"POST", "PUT"}},
		{"and after it", func() error { return resolveBlob(reg) }, []string{"HEAD"}},
	}
	for _, step := range steps {
		qt.Assert(t, qt.IsNil(step.call()), qt.Commentf("%s", step.name))
		var got []string
		for _, line := range srv.Lines() {
			if path, _, _ := strings.Cut(line, "?"); path != "GET /token" {
				line, _, _ = strings.Cut(line, " ")
			} else {
				line = path
			}
			got = append(got, line)
		}
		qt.Assert(t, qt.DeepEquals(got, step.want), qt.Commentf("%s", step.name))
	}

	// With the scope in advance, one token suffices.
	srv.Lines()
	ctx := ociauth.ContextWithScope(context.Background(), ociauth.ParseScope("repository:bar:pull,push repository:foo:pull"))
	_, err := reg.MountBlob(ctx, "foo", "bar", contentDigest)
	qt.Assert(t, qt.IsNil(err))
	_, err = reg.ResolveBlob(ctx, "bar", contentDigest)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.DeepEquals(methods(srv.Lines()), []string{"GET", "POST", "HEAD"}))
}
