package manifest

import (
	"context"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

func TestCheckPush_ChecksRefAndTagsBeforeTheContents(t *testing.T) {
	t.Parallel()
	contents := []byte("{}")
	short, long := digest.FromBytes(contents), digest.SHA512.FromBytes(contents)
	tests := []struct {
		ref      string
		tags     []string
		want     ociregistry.Digest
		wantTags []string
		err      error
	}{
		{ref: "", want: short},
		{ref: "", tags: []string{"a", "b"}, want: short, wantTags: []string{"a", "b"}},
		{ref: "v1", want: short, wantTags: []string{"v1"}},
		{ref: "v1", tags: []string{"a", "v1"}, want: short, wantTags: []string{"v1", "a", "v1"}},
		{ref: string(short), tags: []string{"a"}, want: short, wantTags: []string{"a"}},
		{ref: string(long), want: long},
		{ref: string(digest.FromString("other")), err: ociregistry.ErrDigestInvalid},
		{ref: string(digest.SHA512.FromString("other")), err: ociregistry.ErrDigestInvalid},
		{ref: "sha384:" + strings.Repeat("0", 96), err: ociregistry.ErrDigestInvalid},
		{ref: "a:b", tags: []string{"-"}, err: ociregistry.ErrDigestInvalid},
		{ref: "-", err: ociregistry.ErrManifestInvalid},
		{ref: "v1", tags: []string{""}, err: ociregistry.ErrManifestInvalid},
		{ref: string(digest.FromString("other")), tags: []string{"-"}, err: ociregistry.ErrManifestInvalid},
	}
	for _, test := range tests {
		p, err := CheckPush(t.Context(), "foo", test.ref, contents, "text/plain", test.tags)
		comment := qt.Commentf("ref %q, tags %q", test.ref, test.tags)
		qt.Check(t, qt.ErrorIs(err, test.err), comment)
		if test.err == nil {
			qt.Check(t, qt.Equals(p.Digest, test.want), comment)
			qt.Check(t, qt.DeepEquals(p.Tags, test.wantTags), comment)
			qt.Check(t, qt.Equals(p.Contents, "{}"), comment)
		}
	}
}

func TestCheckPush_MakesItsChecksInOrder(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	const mediaType = "application/vnd.oci.image.manifest.v1+json"
	tests := []struct {
		name, ref, contents, mediaType string
		err                            error
	}{
		{"Foo", "-", "", "", ociregistry.ErrNameInvalid},
		{"foo", "-", "", "", ociregistry.ErrManifestInvalid},
		{"foo", "sha256:", "", "", ociregistry.ErrDigestInvalid},
		{"foo", "v1", "", "", ociregistry.ErrManifestInvalid},
		{"foo", "v1", "", mediaType, ociregistry.ErrManifestInvalid},
		{"foo", "v1", "{}", "text/plain", context.Canceled},
	}
	for _, test := range tests {
		_, err := CheckPush(ended, test.name, test.ref, []byte(test.contents), test.mediaType, nil)
		qt.Check(t, qt.ErrorIs(err, test.err), qt.Commentf("%q", test))
	}
}

func TestResolveRef_AllocatesTheDigestAlone(t *testing.T) {
	contents, tags := []byte("{}"), []string{"a"}
	for _, ref := range []string{"", string(digest.FromBytes(contents))} {
		n := testing.AllocsPerRun(100, func() { resolveRef(ref, contents, tags) })
		qt.Check(t, qt.Equals(n, 1), qt.Commentf("ref %q", ref))
	}
}
