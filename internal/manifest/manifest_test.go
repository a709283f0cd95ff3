package manifest

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
)

const (
	digA = digest.Digest("sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	digB = digest.Digest("sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")
	digC = digest.Digest("sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc")
)

// text returns s with the fields of descriptors in place of <A>, <B> and <C>.
func text(s string) string {
	return strings.NewReplacer(
		"<A>", `"mediaType":"a/a","size":1,"digest":"`+string(digA)+`"`,
		"<B>", `"mediaType":"b/b","size":2,"digest":"`+string(digB)+`"`,
		"<C>", `"mediaType":"c/c","size":3,"digest":"`+string(digC)+`"`,
	).Replace(s)
}

var (
	refA = Ref{MediaType: "a/a", Digest: digA, Size: 1}
	refB = Ref{MediaType: "b/b", Digest: digB, Size: 2}
	refC = Ref{MediaType: "c/c", Digest: digC, Size: 3}
)

func TestParse(t *testing.T) {
	t.Parallel()
	elsewhere := func(r Ref, mediaType string) Ref {
		r.Elsewhere, r.MediaType = true, mediaType
		return r
	}
	const nondist = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
	const foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	tests := []struct {
		name, mediaType, contents string
		want                      Info
	}{{
		name:      "OCIImage",
		mediaType: ocispec.MediaTypeImageManifest,
		contents:  `{"config":{<A>},"layers":[{<B>},{<C>}],"annotations":{"k":"v"}}`,
		want:      Info{Blobs: []Ref{refA, refB, refC}, ArtifactType: "a/a"},
	}, {
		name:      "ArtifactTypeBeforeConfigType",
		mediaType: ocispec.MediaTypeImageManifest,
		contents:  `{"config":{<A>},"layers":[],"artifactType":"x/y","subject":{<B>},"annotations":{"k":"v","\u0065":null}}`,
		want:      Info{Blobs: []Ref{refA}, ArtifactType: "x/y", Subject: digB, Annotations: map[string]string{"k": "v", "e": ""}},
	}, {
		name:      "LayersElsewhere",
		mediaType: ocispec.MediaTypeImageManifest,
		contents: `{"config":{<A>},"layers":[{<B>,"urls":["https://example.com/b"]},{"mediaType":"` + nondist + `","size":3,"digest":"` + string(digC) +
			`"},{"mediaType":"` + foreign + `","size":3,"digest":"` + string(digC) + `"}]}`,
		want: Info{Blobs: []Ref{refA, elsewhere(refB, "b/b"), elsewhere(refC, nondist), elsewhere(refC, foreign)}, ArtifactType: "a/a"},
	}, {
		name:      "DockerImage",
		mediaType: MediaTypeDockerManifest,
		contents:  `{"schemaVersion":2,"mediaType":"` + MediaTypeDockerManifest + `","config":{<A>},"layers":[{<B>}]}`,
		want:      Info{Blobs: []Ref{refA, refB}, ArtifactType: "a/a"},
	}, {
		name:      "OCIIndex",
		mediaType: ocispec.MediaTypeImageIndex,
		contents:  ` {"manifests":[{<A>},{<B>}],"artifactType":"x/y","subject":{<C>}}`,
		want:      Info{Manifests: []Ref{refA, refB}, ArtifactType: "x/y", Subject: digC},
	}, {
		name:      "IndexWithoutArtifactTypeHasNone",
		mediaType: ocispec.MediaTypeImageIndex,
		contents:  `{"manifests":[],"config":{<A>},"subject":{<C>}}`,
		want:      Info{Subject: digC},
	}, {
		name:      "ORASArtifactWithoutArtifactTypeHasNone",
		mediaType: MediaTypeORASArtifact,
		contents:  `{"config":{<A>},"blobs":[{<B>}]}`,
		want:      Info{Blobs: []Ref{refB}},
	}, {
		name:      "OtherDigestAlgorithms",
		mediaType: ocispec.MediaTypeImageIndex,
		contents:  `{"manifests":[{"digest":"sha384:abc"},{"digest":"multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8"}],"subject":{"digest":"b2.x_y-1:A=_-z"}}`,
		want: Info{
			Manifests: []Ref{{Digest: "sha384:abc"}, {Digest: "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8"}},
			Subject:   "b2.x_y-1:A=_-z",
		},
	}, {
		name:      "EmptyIndex",
		mediaType: ocispec.MediaTypeImageIndex,
		contents:  `{"manifests":[]}`,
	}, {
		name:      "DockerList",
		mediaType: MediaTypeDockerManifestList,
		contents:  `{"manifests":[{<A>}]}`,
		want:      Info{Manifests: []Ref{refA}},
	}, {
		name:      "ORASArtifact",
		mediaType: MediaTypeORASArtifact,
		contents:  `{"artifactType":"x/y","blobs":[{<A>}],"subject":{<C>}}`,
		want:      Info{Blobs: []Ref{refA}, ArtifactType: "x/y", Subject: digC},
	}, {
		name:      "OCIArtifact",
		mediaType: MediaTypeOCIArtifact,
		contents:  `{"artifactType":"x/y","blobs":[{<A>}],"subject":{<C>}}`,
		want:      Info{Blobs: []Ref{refA}, ArtifactType: "x/y", Subject: digC},
	}, {
		name:      "UnknownTypeIsNotLookedAt",
		mediaType: "text/plain",
		contents:  `{"mediaType":"a/b","config":{<A>}} and more`,
	}}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse(test.mediaType, text(test.contents))
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.DeepEquals(got, test.want))
		})
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	const image, index = ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex
	tests := []struct{ name, mediaType, contents, want string }{
		{"NoMediaType", "", `{}`, "no media type"},
		{"Empty", image, ``, "no content"},
		{"EmptyOfUnknownType", "text/plain", ``, "no content"},
		{"NotJSON", image, `{secret`, "not well-formed JSON near byte 1"},
		{"Null", index, ` null`, "not a JSON object"},
		{"Array", index, `[]`, "not a JSON object"},
		{"Spaces", index, `  `, "not a JSON object"},
		{"Trailing", index, `{} secret`, "not well-formed JSON near byte 3"},
		{"OtherMediaType", image, `{"mediaType":"` + index + `","config":{<A>}}`, "its mediaType field is not " + image + ", which it was pushed as"},
		{"EmptyMediaTypeField", index, `{"mediaType":""}`, "its mediaType field is not " + index + ", which it was pushed as"},
		{"WrongType", image, `{"config":{<A>},"layers":"secret"}`, "its field layers has the wrong JSON type"},
		{"WrongTypeOfAnnotation", index, `{"annotations":{"secret":1}}`, "its field annotations has the wrong JSON type"},
		{"NoConfig", image, `{"layers":[]}`, "no config"},
		{"ConfigWithoutDigest", image, `{"config":{},"layers":[]}`, "config 0 has no valid digest"},
		{"BadLayerDigest", image, `{"config":{<A>},"layers":[{<B>},{"digest":"sha256:secret"}]}`, "layer 1 has no valid digest"},
		{"NegativeSize", image, `{"config":{<A>},"layers":[{"size":-1,"digest":"` + string(digB) + `"}]}`, "layer 0 has a negative size"},
		{"BadChildDigest", index, `{"manifests":[{"digest":"x"}]}`, "manifest 0 has no valid digest"},
		{"BadSubject", index, `{"subject":{}}`, "subject 0 has no valid digest"},
		{"BadBlob", MediaTypeORASArtifact, `{"blobs":[{}]}`, "blob 0 has no valid digest"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse(test.mediaType, text(test.contents))
			qt.Assert(t, qt.IsTrue(errors.Is(err, ociregistry.ErrManifestInvalid)))
			qt.Assert(t, qt.Equals(err.Error(), "manifest invalid: manifest invalid: "+test.want))
			qt.Assert(t, qt.Not(qt.StringContains(err.Error(), "secret")))
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(ocispec.MediaTypeImageManifest, text(`{"config":{<A>},"layers":[{<B>}],"subject":{<C>}}`))
	f.Add(ocispec.MediaTypeImageIndex, text(`{"manifests":[{<B>}],"annotations":{"a":"b"}}`))
	f.Fuzz(func(t *testing.T, mediaType, contents string) {
		_, err := Parse(mediaType, contents)
		if err != nil && !errors.Is(err, ociregistry.ErrManifestInvalid) {
			t.Errorf("error without sentinel: %v", err)
		}
	})
}

func TestParseRefusesMalformedDigests(t *testing.T) {
	t.Parallel()
	for _, d := range []string{
		"", ":", "x", "x:", ":x", "sha256:abc", "sha512:" + string(digA[7:]), "sha256:" + strings.ToUpper(string(digA[7:])),
		"SHA256:" + string(digA[7:]), "a b:x", "a+:x", "+a:x", "a..b:x", "a/b:x", "../a:x", "é:x", "a:x/y", "a:../x", "a:x:y", "a:x+y", "a:é", "a:\u0000",
		"a:" + strings.Repeat("x", 254),
	} {
		_, err := Parse(ocispec.MediaTypeImageIndex, `{"subject":{"digest":"`+d+`"}}`)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrManifestInvalid), qt.Commentf("%q", d))
	}
	_, err := Parse(ocispec.MediaTypeImageIndex, `{"subject":{"digest":"a:`+strings.Repeat("x", 253)+`"}}`)
	qt.Check(t, qt.IsNil(err))
}

func TestGuessType(t *testing.T) {
	t.Parallel()
	const bytes = "application/octet-stream"
	for _, test := range []struct{ contents, want string }{
		{`{"mediaType":"a/b","config":{}}`, "a/b"},
		{`{"mediaType":"","config":{}}`, ocispec.MediaTypeImageManifest},
		{`{"config":{},"manifests":[]}`, ocispec.MediaTypeImageIndex},
		{`{"layers":[]}`, bytes},
		{`{"mediaType":1}`, bytes},
		{`[]`, bytes},
		{`text`, bytes},
		{``, bytes},
	} {
		qt.Check(t, qt.Equals(GuessType(test.contents), test.want), qt.Commentf("%s", test.contents))
	}
}

func TestTypeOf(t *testing.T) {
	t.Parallel()
	tests := []struct{ contents, want string }{
		{`{"config":{<A>},"layers":[{<B>}]}`, ocispec.MediaTypeImageManifest},
		{`{"mediaType":"` + MediaTypeDockerManifest + `","config":{<A>}}`, MediaTypeDockerManifest},
		{`{"manifests":[]}`, ocispec.MediaTypeImageIndex},
		{`{"mediaType":"` + MediaTypeDockerManifestList + `","manifests":[{<A>}]}`, MediaTypeDockerManifestList},
		{`{"mediaType":"` + MediaTypeORASArtifact + `","blobs":[{<A>}]}`, MediaTypeORASArtifact},
		{`{"mediaType":"a/b","config":{<A>}}`, ""},
		{`{"mediaType":"` + MediaTypeDockerManifest + `"}`, ""},
		{`{"mediaType":"","config":{<A>}}`, ""},
		{`{"config":{}}`, ""},
		{`{"config":{<A>},"manifests":[{<B>}]}`, ""},
		{`{"mediaType":"` + ocispec.MediaTypeImageIndex + `","config":{<A>},"manifests":[{<B>}]}`, ocispec.MediaTypeImageIndex},
		{`{"manifests":null}`, ""},
		{`{"manifests":{}}`, ""},
		{`{"errors":[{"code":"UNKNOWN"}]}`, ""},
		{`{}`, ""},
		{`[]`, ""},
		{`<!DOCTYPE html>`, ""},
		{``, ""},
	}
	for _, test := range tests {
		qt.Check(t, qt.Equals(TypeOf(text(test.contents)), test.want), qt.Commentf("%s", test.contents))
	}
}

// Programs push artifact manifests whose field mediaType is empty. For other types that is
// an error.
func TestParseAcceptsEmptyMediaTypeOfArtifactsOnly(t *testing.T) {
	t.Parallel()
	const text = `{"mediaType":"","artifactType":"a/b","config":{"digest":"sha512-256:00","size":0},"manifests":[],"blobs":[]}`
	for _, mediaType := range mediaTypes {
		info, err := Parse(mediaType, text)
		if mediaType == MediaTypeORASArtifact || mediaType == MediaTypeOCIArtifact {
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(info.ArtifactType, "a/b"))
		} else {
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrManifestInvalid)))
		}
	}
	for _, mediaType := range []string{`"application/vnd.example"`, `"text/plain"`} {
		_, err := Parse(MediaTypeORASArtifact, strings.Replace(text, `""`, mediaType, 1))
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrManifestInvalid)))
	}
}
