package ocicopy

import (
	"encoding/json"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/rules"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// The artifact types of signatures.
const (
	typeCosign   = "application/vnd.dev.cosign.artifact.sig.v1+json"
	typeNotation = "application/vnd.cncf.notary.signature"
)

var (
	amd64 = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = &ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	armV7 = &ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
)

func sha512Of(contents []byte) ociregistry.Digest { return digest.SHA512.FromBytes(contents) }

// newPlatforms makes an index with an image for each platform.
func newPlatforms(seed uint64, platforms ...*ocispec.Platform) *ocitest.Artifact {
	var images []*ocitest.Artifact
	for i, p := range platforms {
		images = append(images, ocitest.NewImage(ocitest.Spec{
			Seed:     seed + uint64(i),
			Platform: p,
			Layers:   []int64{100 + int64(i), 1000},
		}))
	}
	return ocitest.NewIndex(ocitest.Spec{}, images...)
}

// newReferrer makes an artifact as notation does: a referrer of its subject.
func newReferrer(seed uint64, artifactType string, subject *ocitest.Artifact) *ocitest.Artifact {
	desc := subject.Descriptor
	desc.Platform, desc.ArtifactType = nil, ""
	return ocitest.NewImage(ocitest.Spec{
		Seed:         seed,
		ArtifactType: artifactType,
		Subject:      &desc,
		Layers:       []int64{77},
	})
}

// newCosign makes a signature as cosign stores it under a tag: an image whose layer has the
// payload.
func newCosign(seed uint64) *ocitest.Artifact {
	return ocitest.NewImage(ocitest.Spec{Seed: seed, Layers: []int64{233}, Annotations: map[string]string{
		"dev.cosignproject.cosign/signature": "made up",
	}})
}

// signedIndex pushes an index of two platforms with a signature of notation, a
// signature of that signature, a signature of cosign for the index and an SBOM
// for one platform. It returns them.
func signedIndex(t testing.TB, r ociregistry.Interface, repo, tag string) (index *ocitest.Artifact, extras []*ocitest.Artifact) {
	index = newPlatforms(10, amd64, arm64)
	mustPush(t, r, repo, index, tag)
	notation := newReferrer(20, typeNotation, index)
	again := newReferrer(21, typeNotation, notation)
	mustPush(t, r, repo, notation)
	mustPush(t, r, repo, again)
	sig, sbom := newCosign(22), newCosign(23)
	mustPush(t, r, repo, sig, rules.CosignTag(index.Descriptor.Digest)+".sig")
	mustPush(t, r, repo, sbom, rules.CosignTag(index.Children[1].Descriptor.Digest)+".sbom")
	return index, []*ocitest.Artifact{notation, again, sig, sbom}
}

// foreignImage makes an image whose first layer is non-distributable.
func foreignImage() *ocitest.Artifact {
	image := ocitest.NewImage(ocitest.Spec{Seed: 5, Layers: []int64{40, 50}})
	var m ocispec.Manifest
	if err := json.Unmarshal(image.Manifest, &m); err != nil {
		panic(err)
	}
	m.Layers[0].MediaType = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
	image.Manifest, _ = json.Marshal(m)
	image.Descriptor.Digest = digest.FromBytes(image.Manifest)
	image.Descriptor.Size = int64(len(image.Manifest))
	return image
}
