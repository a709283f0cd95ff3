package ociserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// pages follows the Links from path on, and returns the answers.
func (s *site) pages(path string) []*answer {
	s.t.Helper()
	var all []*answer
	for ok := true; ok; {
		a := s.do("GET", path, "").want(s.t, http.StatusOK)
		all = append(all, a)
		qt.Assert(s.t, qt.IsTrue(len(all) < 1000))
		path, ok = wire.ParseNextLink(a.Header["Link"])
	}
	return all
}

func TestBehaviour14_TagsList(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	s.do("GET", "/v2/foo/tags/list", "").
		wantError(t, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
	s.do("GET", "/v2/foo/tags/list?n=0", "").want(t, http.StatusNotFound)

	s.pushBlob("foo", helloWorld)
	a := s.do("GET", "/v2/foo/tags/list", "").want(t, http.StatusOK).wantHeaders(t, "Content-Type", "application/json")
	qt.Check(t, qt.Equals(a.body, `{"name":"foo","tags":[]}`))

	s.pushManifest("foo", "tag1", "something")
	s.pushManifest("foo", "latest", "something")
	s.pushManifest("foo", "Zero", "something")
	tests := []struct{ query, tags, last string }{
		{"", `"Zero","latest","tag1"`, ""},
		{"?n=1000", `"Zero","latest","tag1"`, ""},
		{"?n=3", `"Zero","latest","tag1"`, ""},
		{"?n=2", `"Zero","latest"`, "latest"},
		{"?n=1", `"Zero"`, "Zero"},
		{"?n=1&last=Zero", `"latest"`, "latest"},
		{"?n=1&last=latest", `"tag1"`, ""},
		{"?last=latest", `"tag1"`, ""},
		{"?last=m", `"tag1"`, ""},
		{"?last=tag1", ``, ""},
		{"?last=%00", `"Zero","latest","tag1"`, ""},
		{"?n=0", ``, ""},
		{"?n=2147483647", `"Zero","latest","tag1"`, ""},
	}
	for _, test := range tests {
		a := s.do("GET", "/v2/foo/tags/list"+test.query, "").want(t, http.StatusOK)
		qt.Check(t, qt.Equals(a.body, `{"name":"foo","tags":[`+test.tags+`]}`), qt.Commentf("%s", test.query))
		link := ""
		if test.last != "" {
			link = `</v2/foo/tags/list?n=` + strings.TrimPrefix(strings.Split(test.query, "&")[0], "?n=") + `&last=` + test.last + `>; rel="next"`
		}
		a.wantHeaders(t, "Link", link)
	}
	for _, n := range []string{"INVALID", "-1", "", "1.5", "99999999999999999999"} {
		s.do("GET", "/v2/foo/tags/list?n="+n, "").
			wantError(t, http.StatusBadRequest, "UNKNOWN", "query parameter n is not a valid integer")
	}
	head := s.do("HEAD", "/v2/foo/tags/list", "").want(t, http.StatusOK)
	qt.Check(t, qt.Equals(head.body, ""))
	head.wantHeaders(t, "Content-Length", fmt.Sprint(len(`{"name":"foo","tags":["Zero","latest","tag1"]}`)))
}

func TestBehaviour14_TagsListPages(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	names := numbered("t", 1001)
	for tags := range slices.Chunk(names, 200) {
		s.do("PUT", "/v2/foo/manifests/"+tags[0]+"?tag="+strings.Join(tags, "&tag="), "something").want(t, http.StatusCreated)
	}
	for query, wantPages := range map[string]int{"": 2, "?n=100": 11, "?n=1001": 1, "?n=999": 2, "?n=7": 143} {
		var got []string
		pages := s.pages("/v2/foo/tags/list" + query)
		for _, a := range pages {
			var list struct{ Tags []string }
			qt.Assert(t, qt.IsNil(json.Unmarshal([]byte(a.body), &list)))
			got = append(got, list.Tags...)
		}
		qt.Check(t, qt.DeepEquals(got, names), qt.Commentf("%s", query))
		qt.Check(t, qt.Equals(len(pages), wantPages), qt.Commentf("%s", query))
	}
}

func TestBehaviour14_MaxListPageSize(t *testing.T) {
	t.Parallel()
	s := serve(t, &ociserver.Options{MaxListPageSize: 2})
	for _, tag := range []string{"a", "b", "c"} {
		s.pushManifest("foo", tag, "something")
	}
	for _, path := range []string{"/v2/foo/tags/list", "/v2/_catalog"} {
		s.do("GET", path+"?n=3", "").wantError(t, http.StatusBadRequest, "UNSUPPORTED", "query parameter n is too large (n=3, max=2)")
		s.do("GET", path+"?n=2", "").want(t, http.StatusOK)
	}
	qt.Check(t, qt.Equals(len(s.pages("/v2/foo/tags/list")), 2))
}

func TestBehaviour15_Catalog(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	a := s.do("GET", "/v2/_catalog", "").want(t, http.StatusOK)
	qt.Check(t, qt.Equals(a.body, `{"repositories":[]}`))
	for _, repo := range []string{"foo", "bar", "foo/bar"} {
		s.pushManifest(repo, "latest", "something")
	}
	tests := []struct{ query, repos, link string }{
		{"?n=1000", `"bar","foo","foo/bar"`, ""},
		{"", `"bar","foo","foo/bar"`, ""},
		{"?n=2", `"bar","foo"`, `</v2/_catalog?n=2&last=foo>; rel="next"`},
		{"?last=bar&n=1", `"foo"`, `</v2/_catalog?n=1&last=foo>; rel="next"`},
		{"?last=foo", `"foo/bar"`, ""},
		{"?n=0", ``, ""},
	}
	for _, test := range tests {
		a := s.do("GET", "/v2/_catalog"+test.query, "").want(t, http.StatusOK).wantHeaders(t, "Link", test.link)
		qt.Check(t, qt.Equals(a.body, `{"repositories":[`+test.repos+`]}`), qt.Commentf("%s", test.query))
	}
	s.do("GET", "/v2/_catalog?n=x", "").wantError(t, http.StatusBadRequest, "UNKNOWN", "query parameter n is not a valid integer")
}

const emptyIndex = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`

func TestBehaviour16_Referrers(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	a := s.do("GET", "/v2/absent/referrers/"+string(absent), "").want(t, http.StatusOK).
		wantHeaders(t, "Content-Type", ocispec.MediaTypeImageIndex, "OCI-Filters-Applied", "")
	qt.Check(t, qt.Equals(a.body, emptyIndex))

	subject := s.pushImage("foo", "latest", "", nil)
	a = s.do("GET", "/v2/foo/referrers/"+string(subject), "").want(t, http.StatusOK)
	qt.Check(t, qt.Equals(a.body, emptyIndex))

	referrer := s.pushImage("foo", "", subject, map[string]string{"key": "value"})
	a = s.do("GET", "/v2/foo/referrers/"+string(subject), "").want(t, http.StatusOK)
	var index ocispec.Index
	qt.Assert(t, qt.IsNil(json.Unmarshal([]byte(a.body), &index)))
	qt.Check(t, qt.Equals(index.SchemaVersion, 2))
	qt.Check(t, qt.Equals(index.MediaType, ocispec.MediaTypeImageIndex))
	qt.Check(t, qt.DeepEquals(index.Manifests, []ocispec.Descriptor{{
		MediaType:    ocispec.MediaTypeImageManifest,
		Digest:       referrer,
		Size:         int64(len(imageManifest("sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", subject, map[string]string{"key": "value"}))),
		ArtifactType: "application/vnd.example.thing",
		Annotations:  map[string]string{"key": "value"},
	}}))

	a = s.do("GET", "/v2/foo/referrers/"+string(subject)+"?artifactType=application/x", "").want(t, http.StatusOK).
		wantHeaders(t, "OCI-Filters-Applied", "artifactType")
	qt.Check(t, qt.Equals(a.body, emptyIndex))
	a = s.do("GET", "/v2/foo/referrers/"+string(subject)+"?artifactType=application/vnd.example.thing", "").want(t, http.StatusOK).
		wantHeaders(t, "OCI-Filters-Applied", "artifactType")
	qt.Check(t, qt.StringContains(a.body, string(referrer)))

	s.do("GET", "/v2/foo/referrers/sha256:x", "").wantError(t, http.StatusBadRequest, "DIGEST_INVALID", "badly formed digest")
	s.do("GET", "/v2/FOO/referrers/"+string(subject), "").wantError(t, http.StatusBadRequest, "NAME_INVALID", "invalid repository name")
}

// referrers returns the digests that the pages from path on list, and how many
// pages they are.
func (s *site) referrers(path string) (digests []string, pages int) {
	s.t.Helper()
	all := s.pages(path)
	for _, a := range all {
		qt.Check(s.t, qt.Equals(a.Header.Get("Content-Type"), ocispec.MediaTypeImageIndex))
		var index ocispec.Index
		qt.Assert(s.t, qt.IsNil(json.Unmarshal([]byte(a.body), &index)))
		for _, desc := range index.Manifests {
			digests = append(digests, string(desc.Digest))
		}
	}
	return digests, len(all)
}

func TestBehaviour16_ReferrersPages(t *testing.T) {
	t.Parallel()
	s := serve(t, &ociserver.Options{ReferrersPageSize: 3})
	var want []string
	for i := range 8 {
		want = append(want, string(s.pushImage("foo", "", absent, map[string]string{"n": fmt.Sprint(i)})))
	}
	slices.Sort(want)
	got, pages := s.referrers("/v2/foo/referrers/" + string(absent))
	qt.Check(t, qt.DeepEquals(got, want))
	qt.Check(t, qt.Equals(pages, 3))

	// The filter holds for the pages after the first as well.
	first := s.do("GET", "/v2/foo/referrers/"+string(absent)+"?artifactType=application/vnd.example.thing", "").want(t, http.StatusOK)
	next, ok := wire.ParseNextLink(first.Header["Link"])
	qt.Assert(t, qt.IsTrue(ok))
	s.do("GET", next, "").want(t, http.StatusOK).wantHeaders(t, "OCI-Filters-Applied", "artifactType")
}

// A page asks the backend for what comes after the page before.
func TestReferrersPage_BeginsWhereTheOneBeforeEnded(t *testing.T) {
	t.Parallel()
	const n = 40
	mem := ocimem.New()
	yielded := 0
	s := serveBackend(t, &ociregistry.Funcs{
		PushBlob_: mem.PushBlob, PushManifest_: mem.PushManifest,
		Referrers_: func(ctx context.Context, repo string, d ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
			return func(yield func(ociregistry.Descriptor, error) bool) {
				for desc, err := range mem.Referrers(ctx, repo, d, artifactType) {
					if yielded++; !yield(desc, err) {
						return
					}
				}
			}
		},
	}, &ociserver.Options{ReferrersPageSize: 4})
	var want []string
	for i := range n {
		want = append(want, string(s.pushImage("foo", "", absent, map[string]string{"n": fmt.Sprint(i)})))
	}
	slices.Sort(want)
	got, pages := s.referrers("/v2/foo/referrers/" + string(absent))
	qt.Check(t, qt.DeepEquals(got, want))
	qt.Check(t, qt.Equals(pages, n/4))
	qt.Check(t, qt.IsTrue(yielded <= n+pages), qt.Commentf("%d", yielded))
}

func TestBehaviour16_ReferrersPagesBySize(t *testing.T) {
	t.Parallel()
	long := map[string]string{"long": strings.Repeat("x", 2_000_000)}
	var descs []ociregistry.Descriptor
	var want []string
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		d := digest.NewDigestFromEncoded(digest.SHA256, strings.Repeat(name, 64))
		want = append(want, string(d))
		descs = append(descs, ociregistry.Descriptor{Digest: d, Annotations: long})
	}
	s := serveBackend(t, &ociregistry.Funcs{
		Referrers_: func(context.Context, string, ociregistry.Digest, string) iter.Seq2[ociregistry.Descriptor, error] {
			return ociregistry.SliceSeq(descs)
		},
	}, nil)
	pages := s.pages("/v2/foo/referrers/" + string(absent))
	var got []string
	for _, a := range pages {
		qt.Check(t, qt.IsTrue(len(a.body) <= 4<<20+100))
		for _, elem := range strings.Split(a.body, `"digest":"`)[1:] {
			got = append(got, elem[:len(absent)])
		}
	}
	qt.Check(t, qt.DeepEquals(got, want))
	qt.Check(t, qt.Equals(len(pages), 3))
}
