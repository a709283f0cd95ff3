package ociclient_test

import (
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

func TestPushManifestSetsAllTags(t *testing.T) {
	t.Parallel()
	put := func(ref, query string) string { return "PUT " + manifests + ref + query }
	byDigest := string(indexDigest)
	tests := []struct {
		name string
		ref  string
		tags []string
		set  header // of the response to the first request
		want []string
	}{
		{"without reference", "", nil, nil, []string{put(byDigest, "")}},
		{"by digest", byDigest, nil, nil, []string{put(byDigest, "")}},
		{"by SHA-512", string(digest.SHA512.FromString(index)), nil, header{"Docker-Content-Digest": string(digest.SHA512.FromString(index))}, []string{put(string(digest.SHA512.FromString(index)), "")}},
		{"by tag", "v1", nil, nil, []string{put("v1", "")}},
		{"by tags alone", "", []string{"v1", "v2"}, header{"OCI-Tag": "v2"}, []string{put("v1", "?tag=v2")}},
		{"without the digest", "v1", nil, header{"Docker-Content-Digest": ""}, []string{put("v1", "")}},
		{"by tag, as the registry likes it", "v1", nil, header{"Docker-Content-Digest": string(digest.SHA512.FromString(index))}, []string{put("v1", "")}},
		{"with tags", byDigest, []string{"a", "b"}, header{"OCI-Tag": "a, b"}, []string{put(byDigest, "?tag=a&tag=b")}},
		{"with tags of which one is not named", byDigest, []string{"a", "b", "c"}, header{"OCI-Tag": "c,a"}, []string{put(byDigest, "?tag=a&tag=b&tag=c"), put("b", "")}},
		{"with tags that are not known", "v1", []string{"a", "b", "a", "v1"}, nil, []string{put("v1", "?tag=a&tag=b&tag=a&tag=v1"), put("a", ""), put("b", "")}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			set := header{"Docker-Content-Digest": byDigest}
			for name, value := range test.set {
				set[name] = value
			}
			reg, srv := scripted(t, rule{On: "PUT ", Header: header{"Content-Type": imageIndex}, Body: index, Status: 201, Set: set})
			desc, err := reg.PushManifest(ctx, "foo", test.ref, []byte(index), imageIndex, test.tags...)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(desc.Size, int64(len(index))))
			qt.Assert(t, qt.Equals(desc.MediaType, imageIndex))
			qt.Assert(t, qt.DeepEquals(srv.Lines(), test.want))
		})
	}
}

func TestPushManifestErrorsAreClassified(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		ref      string
		tags     []string
		rule     rule
		want     error
		requests int
	}{
		{"the answer has another digest", "v1", nil, rule{Status: 201, Set: header{"Docker-Content-Digest": string(otherDigest)}}, ociregistry.ErrDigestInvalid, 1},
		{"the answer has no digest in its header", "v1", nil, rule{Status: 201, Set: header{"Docker-Content-Digest": "sha256:x"}}, ociregistry.ErrDigestInvalid, 1},
		{"another digest is asked for", string(otherDigest), nil, rule{}, ociregistry.ErrDigestInvalid, 0},
		{"it is not created", "v1", nil, rule{Status: 202}, nil, 1},
		{"a blob is missing", "v1", nil, rule{Status: 404, Answer: `{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}`}, ociregistry.ErrManifestBlobUnknown, 1},
		{"a further tag is denied", "v1", []string{"a"}, rule{First: 1, Status: 403}, ociregistry.ErrDenied, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.rule.On = "PUT "
			reg, srv := scripted(t, test.rule, rule{On: "PUT ", Status: 201})
			_, err := reg.PushManifest(ctx, "foo", test.ref, []byte(index), imageIndex, test.tags...)
			if test.want == nil {
				qt.Assert(t, qt.IsNotNil(err))
			} else {
				qt.Assert(t, qt.ErrorIs(err, test.want))
			}
			qt.Assert(t, qt.HasLen(srv.Lines(), test.requests))
		})
	}
}
