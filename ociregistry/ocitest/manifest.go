package ocitest

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Media types of manifests for which image-spec has no constants.
const (
	mediaTypeDockerImage  = "application/vnd.docker.distribution.manifest.v2+json"
	mediaTypeDockerList   = "application/vnd.docker.distribution.manifest.list.v2+json"
	mediaTypeORASArtifact = "application/vnd.cncf.oras.artifact.manifest.v1+json"
	mediaTypeOCIArtifact  = "application/vnd.oci.artifact.manifest.v1+json"
)

var pushManifestClauses = []clause{
	{name: "Stores", needs: PushManifests, run: pushManifest},
	{name: "ByDigest", needs: PushManifests, run: pushManifestDigest},
	{name: "BySHA512Digest", needs: PushManifests, run: pushManifestSHA512},
	{name: "VerifiesDigest", needs: PushManifests, run: pushManifestWrongDigest},
	{name: "ByTags", needs: PushManifests, run: pushManifestTags},
	{name: "AllTagsOrNone", needs: PushManifests, run: pushManifestInvalidTag},
	{name: "Again", needs: PushManifests, run: pushManifestAgain},
	{name: "ByteForByte", needs: PushManifests, run: pushManifestBytes},
	{name: "UnknownMediaType", needs: PushManifests, run: pushManifestUnknownType},
	{name: "WithoutMediaTypeField", needs: PushManifests, run: pushManifestNoMediaType},
	{name: "LastMediaTypeWins", needs: MoveTags, run: pushManifestTwoMediaTypes},
	{name: "ChecksJSON", needs: PushManifests, run: pushManifestNotJSON},
	{name: "ChecksMediaType", needs: PushManifests, run: pushManifestWrongMediaType},
	{name: "ParsesMediaType", needs: PushManifests, run: pushManifestNoTypeAndSubtype},
	{name: "Large", needs: PushManifests, run: pushManifestLarge},
	{name: "BuffersAreTheCallers", needs: PushManifests, run: pushManifestBuffers},
	{name: "ErrorsCarryNoContent", needs: PushManifests, run: pushManifestErrors},
	{name: "MissingSubject", needs: PushManifests, run: pushManifestMissingSubject},
}

// pushManifest pushes to the registry that is checked.
func (t *test) pushManifest(repo, ref string, contents []byte, mediaType string, tags ...string) error {
	_, err := t.reg.PushManifest(t.Context(), repo, ref, contents, mediaType, tags...)
	return err
}

func describeManifest(contents []byte, mediaType string) ociregistry.Descriptor {
	return ociregistry.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(contents), Size: int64(len(contents))}
}

func pushManifest(t *test) {
	image := t.mustPushImage("foo", 1) // for its blobs
	other := NewImage(Spec{Seed: 1, Layers: []int64{100}, Annotations: map[string]string{"a": "b"}})
	got, err := t.reg.PushManifest(t.Context(), "foo", "v1", other.Manifest, other.Descriptor.MediaType)
	t.wantDescriptor(got, err, other.Descriptor, "PushManifest")
	t.wantManifest("foo", other.Manifest, other.Descriptor, "v1")
	t.wantTags("foo", "v1")
	t.wantManifest("foo", image.Manifest, image.Descriptor)
}

func pushManifestDigest(t *test) {
	contents := []byte("anything")
	want := describeManifest(contents, "text/plain")
	got, err := t.reg.PushManifest(t.Context(), "foo", string(want.Digest), contents, "text/plain", "v1")
	t.wantDescriptor(got, err, want, "PushManifest by digest")
	t.wantManifest("foo", contents, want, "v1")

	got, err = t.reg.PushManifest(t.Context(), "bar", "", contents, "text/plain")
	t.wantDescriptor(got, err, want, "PushManifest with an empty ref")
	t.wantManifest("bar", contents, want)
	t.wantTags("bar")
}

func pushManifestSHA512(t *test) {
	contents := []byte("anything")
	want := describeManifest(contents, "text/plain")
	want.Digest = digest.SHA512.FromBytes(contents)
	got, err := t.reg.PushManifest(t.Context(), "foo", string(want.Digest), contents, "text/plain", "v1")
	t.wantDescriptor(got, err, want, "PushManifest by SHA-512 digest")
	t.wantManifest("foo", contents, want, "v1")

	wrong := digest.SHA512.FromString("other")
	t.wantErr(t.pushManifest("foo", string(wrong), contents, "text/plain"), is(ociregistry.ErrDigestInvalid), "PushManifest with the SHA-512 digest of other content")
	t.wantNoManifest("foo", wrong, "after a push with its digest and other content")
}

func pushManifestWrongDigest(t *test) {
	contents := []byte("anything")
	wrong := digest.FromString("other")
	err := t.pushManifest("foo", string(wrong), contents, "text/plain", "v1")
	t.wantErr(err, is(ociregistry.ErrDigestInvalid), "PushManifest with the digest of other content")
	t.wantNoManifest("foo", wrong, "after a push with its digest and other content")
	t.wantNoManifest("foo", digest.FromBytes(contents), "after a push of it with another digest")
	t.wantNoRepository("foo", "after a push that failed")
}

func pushManifestTags(t *test) {
	contents := []byte("anything")
	desc := describeManifest(contents, "text/plain")
	tags := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	t.must(t.pushManifest("foo", "b", contents, "text/plain", "a", "c", "b", "c"), "PushManifest with a ref and tags, some of them equal")
	t.wantManifest("foo", contents, desc, "a", "b", "c")
	t.wantTags("foo", "a", "b", "c")
	t.must(t.pushManifest("foo", string(desc.Digest), contents, "text/plain", tags...), "PushManifest with a digest and tags")
	t.wantManifest("foo", contents, desc, tags...)
	t.wantTags("foo", tags...)
}

func pushManifestInvalidTag(t *test) {
	old := t.mustPushImage("foo", 1, "v1")
	contents := []byte("anything")
	for _, tags := range [][]string{{"v1", "v2", "-bad"}, {"-bad", "v1", "v2"}, {"v1", "", "v2"}} {
		for _, ref := range []string{"", "v3", string(digest.FromBytes(contents))} {
			t.wantErr(t.pushManifest("foo", ref, contents, "text/plain", tags...), is(ociregistry.ErrManifestInvalid), "PushManifest with ref %q and tags %q", ref, tags)
		}
	}
	t.wantManifest("foo", old.Manifest, old.Descriptor, "v1")
	t.wantTags("foo", "v1")
	t.wantNoManifest("foo", digest.FromBytes(contents), "after pushes with invalid tags")
}

func pushManifestAgain(t *test) {
	contents := []byte("anything")
	desc := describeManifest(contents, "text/plain")
	for range 3 {
		for _, ref := range []string{"v1", "v2", "", string(desc.Digest)} {
			got, err := t.reg.PushManifest(t.Context(), "foo", ref, contents, "text/plain")
			t.wantDescriptor(got, err, desc, "PushManifest with ref "+ref)
		}
	}
	t.wantManifest("foo", contents, desc, "v1", "v2")
	t.wantTags("foo", "v1", "v2")
}

// Bytes that are not significant in JSON are significant in a manifest.
func pushManifestBytes(t *test) {
	image := t.mustPushImage("foo", 1)
	config := mustMarshal(image.Blobs[0].Descriptor)
	for i, format := range []string{
		"{\n\t\"layers\" : [ ],\r\n \"config\":%s,\n\n\"mediaType\":%q,\"schemaVersion\":2}\n\n ",
		"\n{\"schemaVersion\":2, \"mediaType\":%[2]q, \"unknown\":[null,{}], \"layers\":[],\"config\":%[1]s}",
		"{\"schemaVersion\":2,\"annotations\":{\"a\":\"\\u0061<&>\u2028\"},\"mediaType\":%[2]q,\"layers\":null,\"config\":%[1]s}",
	} {
		contents := fmt.Appendf(nil, format, config, ocispec.MediaTypeImageManifest)
		tag := fmt.Sprint("v", i)
		t.must(t.pushManifest("foo", tag, contents, ocispec.MediaTypeImageManifest), "PushManifest of %q", contents)
		t.wantManifest("foo", contents, describeManifest(contents, ocispec.MediaTypeImageManifest), tag)
	}
}

// Manifests of unknown media types are stored as they are.
func pushManifestUnknownType(t *test) {
	for i, test := range []struct{ contents, mediaType string }{
		{"not JSON", "text/plain"},
		{"\x00\xff", "application/octet-stream"},
		{`{"mediaType":"application/vnd.example.other"}`, "application/vnd.example.manifest.v1+json"},
		{`{"layers":[{"digest":"` + string(digest.FromString("missing")) + `"}]}`, "application/vnd.example.manifest.v1+json"},
		{"{", "application/json"},
	} {
		tag := fmt.Sprint("v", i)
		t.must(t.pushManifest("foo", tag, []byte(test.contents), test.mediaType), "PushManifest of %q as %q", test.contents, test.mediaType)
		t.wantManifest("foo", []byte(test.contents), describeManifest([]byte(test.contents), test.mediaType), tag)
	}
}

func pushManifestNoMediaType(t *test) {
	contents := mustMarshal(jsonObject{"schemaVersion": 2, "manifests": []any{}})
	for repo, mediaType := range map[string]string{"foo": ocispec.MediaTypeImageIndex, "bar": mediaTypeDockerList} {
		t.must(t.pushManifest(repo, "v1", contents, mediaType), "PushManifest of a %s that does not say so", mediaType)
		t.wantManifest(repo, contents, describeManifest(contents, mediaType), "v1")
	}
}

func pushManifestTwoMediaTypes(t *test) {
	contents := []byte("anything")
	for _, mediaType := range []string{"text/plain", "text/x-other", "text/plain"} {
		t.must(t.pushManifest("foo", "", contents, mediaType), "PushManifest as %s", mediaType)
		t.wantManifest("foo", contents, describeManifest(contents, mediaType))
	}
}

var knownMediaTypes = []string{
	ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex,
	mediaTypeDockerImage, mediaTypeDockerList,
	mediaTypeORASArtifact, mediaTypeOCIArtifact,
}

// wantRejected checks that pushing a manifest by tag and by digest fails and has no effect.
func (t *test) wantRejected(repo string, contents []byte, mediaType string, sentinels []error, what string) {
	t.Helper()
	d := digest.FromBytes(contents)
	t.wantErr(t.pushManifest(repo, "v1", contents, mediaType, "v2"), sentinels, "PushManifest by tag of %s as %s", what, mediaType)
	t.wantErr(t.pushManifest(repo, string(d), contents, mediaType, "v2"), sentinels, "PushManifest by digest of %s as %s", what, mediaType)
	t.wantNoManifest(repo, d, "after pushes that failed")
	t.wantNoTag(repo, "v1", "after pushes that failed")
	t.wantNoTag(repo, "v2", "after pushes that failed")
}

func pushManifestNotJSON(t *test) {
	t.mustPushBlob("foo", []byte("x"))
	for _, mediaType := range knownMediaTypes {
		for _, contents := range []string{
			"", " ", "{", "[]", "null", `"x"`, "2", "not JSON", "{}{}", `{"schemaVersion":2}x`,
			`{"config":3,"layers":3,"manifests":3,"blobs":3,"subject":3}`, `{"mediaType":3}`,
		} {
			t.wantRejected("foo", []byte(contents), mediaType, is(ociregistry.ErrManifestInvalid), fmt.Sprintf("%q", contents))
		}
	}
	t.wantTags("foo")
}

func pushManifestWrongMediaType(t *test) {
	image := t.mustPushImage("foo", 1)
	for _, mediaType := range knownMediaTypes {
		for _, other := range append(knownMediaTypes, "text/plain") {
			if other == mediaType {
				continue
			}
			contents := mustMarshal(jsonObject{
				"schemaVersion": 2, "mediaType": other,
				"config": image.Blobs[0].Descriptor, "layers": []any{}, "manifests": []any{}, "blobs": []any{},
			})
			t.wantRejected("foo", contents, mediaType, is(ociregistry.ErrManifestInvalid), "a manifest that says it is "+other)
		}
	}
}

func pushManifestNoTypeAndSubtype(t *test) {
	for _, mediaType := range []string{
		"json", "text/", "/html", "text/html,json", "text/html json", "text/html/json", "text/html; x", "text/html; x=\"", "text/ht\nml", "text/h\x80tml",
		"text/" + strings.Repeat("x", 128),
	} {
		t.wantRejected("foo", []byte("anything"), mediaType, is(ociregistry.ErrManifestInvalid), "anything")
	}
}

func pushManifestLarge(t *test) {
	index := NewIndex(Spec{Annotations: map[string]string{"large": strings.Repeat("x", 2<<20)}})
	t.must(t.pushManifest("foo", "v1", index.Manifest, index.Descriptor.MediaType), "PushManifest of 2 MiB")
	t.wantManifest("foo", index.Manifest, index.Descriptor, "v1")
}

func pushManifestBuffers(t *test) {
	index := NewIndex(Spec{Annotations: map[string]string{"a": "b"}})
	contents := bytes.Clone(index.Manifest)
	t.must(t.pushManifest("foo", "v1", contents, index.Descriptor.MediaType), "PushManifest")
	clear(contents)
	t.wantManifest("foo", index.Manifest, index.Descriptor, "v1")
}

func pushManifestErrors(t *test) {
	noise := strings.Repeat(secret, 1000)
	for _, contents := range [][]byte{
		[]byte(noise),
		[]byte(`{"mediaType":"` + noise),
		mustMarshal(jsonObject{"mediaType": noise}),
		mustMarshal(jsonObject{"annotations": noise}),
		mustMarshal(jsonObject{"config": jsonObject{"digest": noise}}),
	} {
		t.wantNoContent(t.pushManifest("foo", "v1", contents, ocispec.MediaTypeImageManifest), "PushManifest")
	}
	t.wantNoContent(t.pushManifest("foo", string(digest.FromString("x")), []byte(noise), "text/plain"), "PushManifest by digest")
}

func pushManifestMissingSubject(t *test) {
	image := t.mustPushImage("foo", 1)
	subject := &ociregistry.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("missing"), Size: 7}
	for i, manifest := range []struct {
		mediaType string
		object    jsonObject
	}{
		{ocispec.MediaTypeImageManifest, jsonObject{"config": image.Blobs[0].Descriptor, "layers": []any{}}},
		{ocispec.MediaTypeImageIndex, jsonObject{"manifests": []any{}}},
		{mediaTypeORASArtifact, jsonObject{"artifactType": "text/plain", "blobs": []any{}}},
		{mediaTypeOCIArtifact, jsonObject{"artifactType": "text/plain", "blobs": []any{}}},
	} {
		manifest.object["schemaVersion"] = 2
		manifest.object["mediaType"] = manifest.mediaType
		manifest.object["subject"] = subject
		contents, tag := mustMarshal(manifest.object), fmt.Sprint("v", i)
		t.must(t.pushManifest("foo", tag, contents, manifest.mediaType), "PushManifest of a %s with a missing subject", manifest.mediaType)
		t.wantManifest("foo", contents, describeManifest(contents, manifest.mediaType), tag)
	}
}
