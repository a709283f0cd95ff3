package ocitest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Spec specifies what [NewImage] and [NewIndex] build. Equal Specs give equal content on
// every machine. The zero Spec specifies an image without layers.
type Spec struct {
	// Seed determines the content of the layers, and is in the configuration of an
	// image. With different seeds all blobs differ, except blobs of very few bytes.
	Seed uint64

	// Layers has the size of each layer in bytes. A negative size means zero.
	Layers []int64

	// Platform is the platform in the configuration and in the descriptor of the
	// manifest. If it is nil, the configuration has linux/amd64 and the descriptor has no
	// platform.
	Platform *ocispec.Platform

	// ArtifactType, if not empty, makes NewImage build an artifact of that type instead
	// of an image. Its configuration is empty and its layers have the media type
	// application/octet-stream (OCI image specification, "Guidelines for Artifact
	// Usage").
	ArtifactType string

	// Subject is the subject of the manifest, or nil.
	Subject *ociregistry.Descriptor

	// Annotations are the annotations of the manifest.
	Annotations map[string]string
}

// Artifact is an image, an index or another artifact, with all content that its manifest
// names. It must not be modified, and is safe for concurrent use.
type Artifact struct {
	// Descriptor describes the manifest.
	Descriptor ociregistry.Descriptor

	// Manifest is the manifest itself, or the index.
	Manifest []byte

	// Blobs are the configuration and the layers, in this order. An index has no
	// blobs.
	Blobs []Blob

	// Children are the manifests of an index.
	Children []*Artifact
}

// NewImage builds an image, or an artifact if s has an artifact type. The layers are
// random bytes, not archives.
func NewImage(s Spec) *Artifact {
	config := newBlob(ocispec.MediaTypeEmptyJSON, []byte("{}"))
	layerType := "application/octet-stream"
	if s.ArtifactType == "" {
		layerType = ocispec.MediaTypeImageLayer
	}
	var layers []Blob
	for i, size := range s.Layers {
		layer := randomBlob(s.Seed, uint64(i)+1, size)
		layer.Descriptor.MediaType = layerType
		layers = append(layers, layer)
	}
	switch {
	case s.ArtifactType == "":
		config = imageConfig(s, layers)
	case len(layers) == 0:
		layers = []Blob{config} // an artifact has at least one layer
	}
	a := &Artifact{Blobs: append([]Blob{config}, layers...)}
	a.setManifest(ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: s.ArtifactType,
		Config:       config.Descriptor,
		Layers:       descriptors(layers),
		Subject:      s.Subject,
		Annotations:  s.Annotations,
	}, ocispec.MediaTypeImageManifest, s)
	return a
}

// NewIndex builds an index of the given manifests, which may themselves be indexes. It
// uses the ArtifactType, Subject and Annotations of s, and the Platform for the
// descriptor of the index.
func NewIndex(s Spec, children ...*Artifact) *Artifact {
	manifests := make([]ociregistry.Descriptor, 0, len(children)) // in JSON [], not null
	for _, child := range children {
		manifests = append(manifests, child.Descriptor)
	}
	a := &Artifact{Children: children}
	a.setManifest(ocispec.Index{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageIndex,
		ArtifactType: s.ArtifactType,
		Manifests:    manifests,
		Subject:      s.Subject,
		Annotations:  s.Annotations,
	}, ocispec.MediaTypeImageIndex, s)
	return a
}

func (a *Artifact) setManifest(m any, mediaType string, s Spec) {
	a.Manifest = mustMarshal(m)
	a.Descriptor = ociregistry.Descriptor{
		MediaType:    mediaType,
		Digest:       digest.FromBytes(a.Manifest),
		Size:         int64(len(a.Manifest)),
		Platform:     s.Platform,
		ArtifactType: s.ArtifactType,
	}
}

func imageConfig(s Spec, layers []Blob) Blob {
	image := ocispec.Image{
		Author:   fmt.Sprintf("ocitest, seed %d", s.Seed),
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}},
	}
	if s.Platform != nil {
		image.Platform = *s.Platform
	}
	for _, layer := range layers {
		image.RootFS.DiffIDs = append(image.RootFS.DiffIDs, layer.Descriptor.Digest)
	}
	return newBlob(ocispec.MediaTypeImageConfig, mustMarshal(image))
}

func descriptors(blobs []Blob) []ociregistry.Descriptor {
	descs := make([]ociregistry.Descriptor, 0, len(blobs)) // in JSON [], not null
	for _, b := range blobs {
		descs = append(descs, b.Descriptor)
	}
	return descs
}

// Push pushes the artifact to a repository: first the blobs, then the children, and then
// the manifest with the tags. It does not push the subject. Push stops at the first error,
// and returns an error that wraps the one of r.
func (a *Artifact) Push(ctx context.Context, r ociregistry.Writer, repo string, tags ...string) error {
	for _, b := range a.Blobs {
		if _, err := r.PushBlob(ctx, repo, b.Descriptor, b.NewReader()); err != nil {
			return fmt.Errorf("push of a blob: %w", err)
		}
	}
	for _, child := range a.Children {
		if err := child.Push(ctx, r, repo); err != nil {
			return err
		}
	}
	if _, err := r.PushManifest(ctx, repo, "", a.Manifest, a.Descriptor.MediaType, tags...); err != nil {
		return fmt.Errorf("push of a manifest: %w", err)
	}
	return nil
}

// Verify returns an error unless a repository has all that Push pushes, byte for byte. If
// content is missing, the error is that of r.
func (a *Artifact) Verify(ctx context.Context, r ociregistry.Reader, repo string) error {
	for _, b := range a.Blobs {
		got, err := r.GetBlob(ctx, repo, b.Descriptor.Digest)
		if err != nil {
			return err
		}
		if err := verify(got, b.NewReader(), b.Descriptor); err != nil {
			return fmt.Errorf("blob %s in %s: %w", b.Descriptor.Digest, repo, err)
		}
	}
	for _, child := range a.Children {
		if err := child.Verify(ctx, r, repo); err != nil {
			return err
		}
	}
	got, err := r.GetManifest(ctx, repo, a.Descriptor.Digest)
	if err != nil {
		return err
	}
	if mediaType := got.Descriptor().MediaType; mediaType != a.Descriptor.MediaType {
		got.Close()
		return fmt.Errorf("manifest %s in %s: media type is %q, want %q", a.Descriptor.Digest, repo, mediaType, a.Descriptor.MediaType)
	}
	if err := verify(got, bytes.NewReader(a.Manifest), a.Descriptor); err != nil {
		return fmt.Errorf("manifest %s in %s: %w", a.Descriptor.Digest, repo, err)
	}
	return nil
}

// verify compares the content of got and want, and closes got.
func verify(got ociregistry.BlobReader, want io.Reader, desc ociregistry.Descriptor) error {
	defer got.Close()
	if d := got.Descriptor(); d.Digest != desc.Digest || d.Size != desc.Size {
		return fmt.Errorf("descriptor has digest %s and size %d, want size %d", d.Digest, d.Size, desc.Size)
	}
	var b1, b2 [32 << 10]byte
	for offset := 0; ; {
		n1, err1 := io.ReadFull(got, b1[:])
		n2, err2 := io.ReadFull(want, b2[:])
		if err1 != nil && err1 != io.EOF && err1 != io.ErrUnexpectedEOF {
			return err1
		}
		if n1 != n2 || !bytes.Equal(b1[:n1], b2[:n2]) {
			return fmt.Errorf("content differs between bytes %d and %d", offset, offset+len(b1))
		}
		if err2 != nil {
			return nil
		}
		offset += n1
	}
}

// mustMarshal marshals a value of a type whose values can all be marshaled.
func mustMarshal(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}
