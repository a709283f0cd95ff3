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

const emptyIndex = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`

func TestReferrers_AreAnIndexOfDescriptors(t *testing.T) {
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

// referrers follows the Links from path on, and returns the digests in all pages and the
// number of pages.
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

func TestReferrers_LinksLeadThroughAllPages(t *testing.T) {
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

// For each page, the backend is asked for the referrers after the page before.
func TestReferrers_PageBeginsWhereTheOneBeforeEnded(t *testing.T) {
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

func TestReferrers_PagesAreBoundedInBytes(t *testing.T) {
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
