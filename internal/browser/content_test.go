package browser

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
)

// content pushes content to a repository of a registry that does not ask for layers.
type content struct {
	t    *testing.T
	reg  ociregistry.Interface
	repo string
}

// layers are those of an image: what made them, and their sizes.
var layers = []struct {
	made string
	size int64
}{
	{"ADD rootfs.tar.xz / # buildkit", 29_150_479},
	{"RUN /bin/sh -c set -eux; apt-get update; apt-get install -y --no-install-recommends ca-certificates curl netbase tzdata; rm -rf /var/lib/apt/lists/*", 19_250_013},
	{"WORKDIR /srv/app", 0},
	{"COPY --chown=nobody:nogroup dist/ /srv/app/", 4_194_304},
	{"ENV PATH=/srv/app/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 0},
	{"COPY config.yaml /etc/app/config.yaml # buildkit", 812},
	{"CMD [\"serve\" \"--listen\" \":8080\"]", 0},
}

// push pushes everything that pages show, and returns the digest of the index of release 1.12.0.
func (c content) push() (index string) {
	for _, repo := range []string{"team/frontend", "team/backend/worker", "library/alpine-with-a-rather-long-name-that-narrow-screens-must-break/and-more-of-it-below"} {
		c.repo = repo
		c.image("v1", "amd64", 1)
	}
	c.repo = "team/tools"
	for i := range 120 {
		c.image(fmt.Sprintf("2.%d.0", i), "arm64", i)
	}
	c.repo = "team/nightly"
	for i := range 201 {
		c.manifest(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ociregistry.Descriptor{}}, ocispec.MediaTypeImageIndex, fmt.Sprintf("nightly-%d", i))
	}
	c.repo = "team/app"
	for i, version := range []string{"1.9.0", "1.10.0", "1.11.0-rc.1", "1.12.0"} {
		tags := []string{version}
		if version == "1.12.0" {
			tags = append(tags, "latest", "stable-with-a-very-long-name-for-a-tag-"+strings.Repeat("x", 80))
		}
		amd64, arm64 := c.image("", "amd64", i), c.image("", "arm64", i)
		desc := c.manifest(ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
			Manifests:   []ociregistry.Descriptor{amd64, arm64, c.attestation(amd64)},
			Annotations: map[string]string{ocispec.AnnotationTitle: "Example", ocispec.AnnotationSource: "https://example.com/team/app"},
		}, ocispec.MediaTypeImageIndex, tags...)
		c.artifact(desc, "application/vnd.dev.cosign.artifact.sig.v1+json")
		c.artifact(desc, "application/spdx+json")
		index = string(desc.Digest)
	}
	_, err := c.reg.PushManifest(c.t.Context(), c.repo, "", []byte("not JSON"), "text/plain", "foreign")
	qt.Assert(c.t, qt.IsNil(err))
	return index
}

// image pushes an image. That with another number has other layers, but for the first two.
func (c content) image(tag, arch string, number int) ociregistry.Descriptor {
	created := fmt.Sprintf("2024-%02d-05T06:07:08Z", number%12+1)
	var history []map[string]any
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for i, l := range layers {
		history = append(history, map[string]any{"created": created, "created_by": l.made, "empty_layer": l.size == 0})
		if l.size > 0 {
			text := fmt.Sprint(arch, i)
			if i > 1 {
				text += fmt.Sprint(" of ", number)
			}
			m.Layers = append(m.Layers, ociregistry.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString(text), Size: l.size + int64(1000*number*i)})
		}
	}
	m.Config = c.blob(ocispec.MediaTypeImageConfig, map[string]any{
		"os": "linux", "architecture": arch, "created": created, "author": "Team App", "history": history,
		"config": map[string]any{
			"User": "nobody", "WorkingDir": "/srv/app", "Entrypoint": []string{"/srv/app/bin/app"}, "Cmd": []string{"serve", "--listen", ":8080"},
			"ExposedPorts": map[string]any{"8080/tcp": map[string]any{}},
			"Env":          []string{"PATH=/srv/app/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"},
			"Labels":       map[string]string{"org.opencontainers.image.licenses": "Apache-2.0", "com.example.text": strings.Repeat("long", 60)},
		},
	})
	var tags []string
	if tag != "" {
		tags = []string{tag}
	}
	desc := c.manifest(m, m.MediaType, tags...)
	desc.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
	return desc
}

// attestation pushes what builders put into an index beside an image.
func (c content) attestation(image ociregistry.Descriptor) ociregistry.Descriptor {
	desc := c.manifest(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: c.blob(ocispec.MediaTypeImageConfig, map[string]any{"os": "unknown", "architecture": "unknown"}),
		Layers: []ociregistry.Descriptor{c.blob("application/vnd.in-toto+json", map[string]any{"of": image.Digest})},
	}, ocispec.MediaTypeImageManifest)
	desc.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	desc.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": string(image.Digest)}
	return desc
}

// artifact pushes a referrer of a manifest.
func (c content) artifact(subject ociregistry.Descriptor, artifactType string) {
	config := c.blob(ocispec.MediaTypeEmptyJSON, map[string]any{})
	c.manifest(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType,
		Subject: &subject, Config: config, Layers: []ociregistry.Descriptor{config},
		Annotations: map[string]string{ocispec.AnnotationCreated: "2024-07-08T09:10:11Z"},
	}, ocispec.MediaTypeImageManifest)
}

func (c content) manifest(m any, mediaType string, tags ...string) ociregistry.Descriptor {
	c.t.Helper()
	text, err := json.Marshal(m)
	qt.Assert(c.t, qt.IsNil(err))
	desc, err := c.reg.PushManifest(c.t.Context(), c.repo, "", text, mediaType, tags...)
	qt.Assert(c.t, qt.IsNil(err))
	return desc
}

func (c content) blob(mediaType string, v any) ociregistry.Descriptor {
	c.t.Helper()
	text, err := json.Marshal(v)
	qt.Assert(c.t, qt.IsNil(err))
	desc := ociregistry.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(text), Size: int64(len(text))}
	_, err = c.reg.PushBlob(c.t.Context(), c.repo, desc, strings.NewReader(string(text)))
	qt.Assert(c.t, qt.IsNil(err))
	return desc
}
