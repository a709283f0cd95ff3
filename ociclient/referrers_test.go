package ociclient_test

import (
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

func referrer(name, artifactType string) ociregistry.Descriptor {
	return ociregistry.Descriptor{MediaType: imageManifest, Digest: digest.FromString(name), Size: 3, ArtifactType: artifactType}
}

// indexOf returns an index of descriptors, with extra before them.
func indexOf(extra string, descs ...string) string {
	return `{"schemaVersion":2,` + extra + `"manifests":[` + strings.Join(descs, ",") + `]}`
}

func descJSON(d ociregistry.Descriptor) string {
	return `{"mediaType":"` + d.MediaType + `","digest":"` + string(d.Digest) + `","size":3,"artifactType":"` + d.ArtifactType + `"}`
}

// names returns the digests of descriptors.
func names(descs []ociregistry.Descriptor) []ociregistry.Digest {
	names := []ociregistry.Digest{}
	for _, d := range descs {
		names = append(names, d.Digest)
	}
	return names
}

func TestReferrersAreListedByAPI(t *testing.T) {
	t.Parallel()
	a, b, c := referrer("a", signature), referrer("b", sbom), referrer("c", signature) // in no order
	url := "/v2/foo/referrers/" + string(contentDigest)
	all := indexOf("", descJSON(a), descJSON(b), descJSON(c))
	applied := header{"OCI-Filters-Applied": "artifactType"}
	tests := []struct {
		name  string
		rules []rule
		typ   string
		want  []ociregistry.Descriptor
	}{
		{"all", []rule{{On: "GET " + url + "$", Answer: all}}, "", []ociregistry.Descriptor{a, b, c}},
		{"filtered", []rule{{Set: applied, Answer: indexOf("", descJSON(a), descJSON(c))}}, signature, []ociregistry.Descriptor{a, c}},
		{"filtered, and trusted", []rule{{Set: applied, Answer: all}}, signature, []ociregistry.Descriptor{a, b, c}},
		{"filtered, with others", []rule{{Set: header{"OCI-Filters-Applied": "annotations, artifactType"}, Answer: all}}, signature, []ociregistry.Descriptor{a, b, c}},
		{"filtered, by annotation", []rule{{Answer: indexOf(`"annotations":{"org.opencontainers.referrers.filtersApplied":"artifactType"},`, descJSON(a), descJSON(b))}}, signature, []ociregistry.Descriptor{a, b}},
		{"not filtered", []rule{{Answer: all}}, signature, []ociregistry.Descriptor{a, c}},
		{"filtered by something else", []rule{{Set: header{"OCI-Filters-Applied": "annotations"}, Answer: all}}, signature, []ociregistry.Descriptor{a, c}},
		{"in pages", []rule{
			{On: "GET " + url + "?artifactType=", Set: header{"Link": `</v2/foo/referrers/page2?token=x>; rel=next`}, Answer: indexOf("", descJSON(a))},
			{On: "GET /v2/foo/referrers/page2?token=x$", Answer: indexOf("", descJSON(b), descJSON(c))},
		}, signature, []ociregistry.Descriptor{a, c}},
		{"none", []rule{{Answer: indexOf("")}}, "", nil},
		{"null", []rule{{Answer: `{"schemaVersion":2,"manifests":null}`}}, "", nil},
		{"twice, and in vain", []rule{{Answer: indexOf("", descJSON(a), `{"digest":"none"}`, descJSON(a))}}, "", []ociregistry.Descriptor{a}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for i := range test.rules {
				r := &test.rules[i]
				r.Status = 200
				if r.On == "" {
					r.On = "GET " + url
				}
			}
			reg, srv := scripted(t, test.rules...)
			got, err := ociregistry.All(reg.Referrers(ctx, "foo", contentDigest, test.typ))
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.ContentEquals(names(got), names(test.want)))
			qt.Assert(t, qt.HasLen(srv.Lines(), len(test.rules)))
		})
	}
}
