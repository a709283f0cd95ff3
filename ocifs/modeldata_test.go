package ocifs_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// The universe of the model test is small, so that its operations meet often.

var (
	modelRepos = []string{"a", "a/blobs", "b"}
	modelTags  = []string{"V1", "latest", "v1", "v1.0"}

	badRepos   = []string{"", "A", "a//b", "../a", "a/..", "a/_blobs", "a\x00", strings.Repeat("a", 256)}
	badTags    = []string{".", "..", "-x", "a/b", "a b", strings.Repeat("x", 129)}
	badDigests = []ociregistry.Digest{"sha256:", "sha256:..", "sha256:../../index.json", "md5:d41d8cd98f00b204e9800998ecf8427e",
		"SHA256:" + ociregistry.Digest(strings.Repeat("0", 64)), "sha256:" + ociregistry.Digest(strings.Repeat("A", 64))}
	badUploads = []string{"", ".", "..", "../uploads", "a\x00", "\xff", strings.Repeat("x", 300)}
)

const (
	mediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	mediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	mediaTypeORASArtifact   = "application/vnd.cncf.oras.artifact.manifest.v1+json"
	mediaTypeUnknown        = "application/vnd.example.manifest+json"
)

// A modelContent is a blob or a manifest, and the name that it has in programs.
type modelContent struct {
	name      string
	data      []byte
	digest    ociregistry.Digest
	mediaType string
	needs     []string // what has to be pushed before a manifest
}

func (c modelContent) desc() ociregistry.Descriptor {
	return ociregistry.Descriptor{MediaType: c.mediaType, Digest: c.digest, Size: int64(len(c.data))}
}

type modelUniverse struct {
	blobs     []modelContent
	manifests []modelContent
	invalid   []modelContent // as manifests
}

var theModelUniverse = sync.OnceValue(func() *modelUniverse {
	u := new(modelUniverse)
	u.addBlobs()
	u.addImages()
	u.addIndexes()
	u.addReferrers()
	u.addInvalid()
	return u
})

func (u *modelUniverse) addBlobs() {
	add := func(name string, alg digest.Algorithm, data []byte) {
		u.blobs = append(u.blobs, modelContent{name: name, data: data, digest: alg.FromBytes(data), mediaType: "application/octet-stream"})
	}
	add("empty", digest.SHA256, nil)
	add("{}", digest.SHA256, []byte("{}"))
	add("100B", digest.SHA256, ocitest.NewBlob(1, 100).Bytes())
	add("100B-sha512", digest.SHA512, ocitest.NewBlob(1, 100).Bytes())
	add("16KiB", digest.SHA256, ocitest.NewBlob(2, 16<<10).Bytes())
	add("20KiB", digest.SHA256, ocitest.NewBlob(3, 20<<10).Bytes())
	add("100KiB", digest.SHA256, ocitest.NewBlob(4, 100<<10).Bytes())

	// These are blobs and manifests.
	add("dual", digest.SHA256, []byte("{\n}"))
	add("long-dual", digest.SHA256, bytes.Repeat([]byte("{}"), 10<<10))
	for _, dual := range u.blobs[len(u.blobs)-2:] {
		dual.mediaType = mediaTypeUnknown
		u.manifests = append(u.manifests, dual)
	}
}

type modelJSON map[string]any

func (u *modelUniverse) addImages() {
	u.addManifest("image", ocispec.MediaTypeImageManifest, modelJSON{
		"config": u.ref("{}", "application/vnd.example.config+json"), "layers": u.refs("100B", "100B")}, "{}", "100B")
	u.addManifest("large", ocispec.MediaTypeImageManifest, modelJSON{
		"config": u.ref("100B", ""), "layers": u.refs("20KiB", "100KiB", "empty")}, "100B", "20KiB", "100KiB", "empty")
	u.addManifest("docker", mediaTypeDockerManifest, modelJSON{
		"config": u.ref("{}", ""), "layers": u.refs("16KiB")}, "{}", "16KiB")
	u.addManifest("elsewhere", ocispec.MediaTypeImageManifest, modelJSON{"config": u.ref("{}", ""), "layers": []any{
		u.ref("100KiB", "application/vnd.oci.image.layer.nondistributable.v1.tar"),
		modelJSON{"mediaType": "x/y", "digest": digest.FromString("elsewhere"), "size": 9, "urls": []string{"http://example.com"}},
	}}, "{}")
	u.addManifest("long", ocispec.MediaTypeImageManifest, modelJSON{
		"config": u.ref("{}", ""), "layers": []any{}, "annotations": modelJSON{"long": strings.Repeat("long ", 8<<10)}}, "{}")

	u.addManifest("sha512", ocispec.MediaTypeImageManifest, modelJSON{
		"config": u.ref("100B-sha512", ""), "layers": u.refs("100B-sha512")}, "100B-sha512")
	last := &u.manifests[len(u.manifests)-1]
	last.digest = digest.SHA512.FromBytes(last.data)

	// Without a mediaType field the same bytes can be of several types.
	plain := modelJSON{"schemaVersion": 2, "mediaType": nil, "config": u.ref("{}", ""), "layers": []any{}}
	u.addManifest("plain-oci", ocispec.MediaTypeImageManifest, plain, "{}")
	u.addManifest("plain-docker", mediaTypeDockerManifest, plain, "{}")
}

func (u *modelUniverse) addIndexes() {
	u.addManifest("none", ocispec.MediaTypeImageIndex, modelJSON{"manifests": []any{}})
	u.addManifest("index", ocispec.MediaTypeImageIndex, modelJSON{"manifests": u.refs("image", "large")}, "image", "large")
	u.addManifest("list", mediaTypeDockerList, modelJSON{"manifests": u.refs("docker")}, "docker")
	u.addManifest("nested", ocispec.MediaTypeImageIndex, modelJSON{"manifests": u.refs("index", "docker", "sha512")}, "index", "docker", "sha512")
	u.addManifest("cache", ocispec.MediaTypeImageIndex, modelJSON{"manifests": []any{
		u.ref("20KiB", ocispec.MediaTypeImageLayerGzip), u.ref("{}", "application/vnd.buildkit.cacheconfig.v0")}}, "20KiB", "{}")
}

func (u *modelUniverse) addReferrers() {
	u.addManifest("signature", ocispec.MediaTypeImageManifest, modelJSON{
		"config": u.ref("{}", ocispec.MediaTypeEmptyJSON), "layers": u.refs("{}"), "artifactType": "text/signature",
		"subject": u.ref("image", ""), "annotations": modelJSON{"key": "value", "ü": "<&>"}}, "{}")
	u.addManifest("countersignature", ocispec.MediaTypeImageManifest, modelJSON{
		"config": u.ref("{}", "text/countersignature"), "layers": []any{}, "subject": u.ref("signature", "")}, "{}")
	u.addManifest("referring-index", ocispec.MediaTypeImageIndex, modelJSON{
		"manifests": u.refs("image"), "artifactType": "text/signature", "subject": u.ref("image", "")}, "image")
	u.addManifest("oras", mediaTypeORASArtifact, modelJSON{
		"blobs": u.refs("100B", "empty"), "artifactType": "text/sbom", "subject": u.ref("image", "")}, "100B", "empty")
}

func (u *modelUniverse) addInvalid() {
	image, none := string(u.content("image").data), string(u.content("none").data)
	for _, c := range []modelContent{
		{name: "no media type", data: []byte(image)},
		{name: "no content", mediaType: ocispec.MediaTypeImageManifest},
		{name: "not JSON", mediaType: ocispec.MediaTypeImageManifest, data: []byte("hello")},
		{name: "no object", mediaType: ocispec.MediaTypeImageIndex, data: []byte("[]")},
		{name: "other media type", mediaType: ocispec.MediaTypeImageIndex, data: []byte(image)},
		{name: "cut off", mediaType: ocispec.MediaTypeImageIndex, data: []byte(none[:len(none)-1])},
	} {
		c.digest = digest.FromBytes(c.data)
		u.invalid = append(u.invalid, c)
	}
}

// addManifest adds a manifest. If fields has no mediaType, it gets one.
func (u *modelUniverse) addManifest(name, mediaType string, fields modelJSON, needs ...string) {
	if _, ok := fields["mediaType"]; !ok {
		fields["mediaType"] = mediaType
	}
	data, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	u.manifests = append(u.manifests, modelContent{name, data, digest.FromBytes(data), mediaType, needs})
}

// content returns the blob or manifest of that name.
func (u *modelUniverse) content(name string) modelContent {
	all := slices.Concat(u.manifests, u.blobs)
	return all[slices.IndexFunc(all, func(c modelContent) bool { return c.name == name })]
}

// ref returns a descriptor. The default media type is that of a manifest, or of
// a layer.
func (u *modelUniverse) ref(name, mediaType string) modelJSON {
	c := u.content(name)
	switch {
	case mediaType != "":
		c.mediaType = mediaType
	case slices.ContainsFunc(u.blobs, func(b modelContent) bool { return b.name == name }):
		c.mediaType = ocispec.MediaTypeImageLayer
	}
	return modelJSON{"mediaType": c.mediaType, "digest": c.digest, "size": len(c.data)}
}

func (u *modelUniverse) refs(names ...string) []any {
	var refs []any
	for _, name := range names {
		refs = append(refs, u.ref(name, ""))
	}
	return refs
}
