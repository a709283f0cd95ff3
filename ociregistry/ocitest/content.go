package ocitest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// RegistryContent is the content of a registry. Its keys are the names of the
// repositories.
type RegistryContent map[string]RepoContent

// RepoContent is the content of a repository. Its manifests and blobs have identifiers,
// which stand for their digests. An identifier is any string that is not a digest.
//
// If the digest of a descriptor in a manifest is an identifier, the digest and the size
// are filled in, and so is the media type if it is empty. Descriptors with digests remain
// as they are. A manifest without a media type is an OCI image manifest.
type RepoContent struct {
	// Manifests has the image manifests by identifier. Config and Layers name blobs, and
	// Subject names a manifest.
	Manifests map[string]ociregistry.Manifest

	// Blobs has the contents of the blobs by identifier.
	Blobs map[string]string

	// Tags has the identifiers of the manifests that the tags point at.
	Tags map[string]string
}

// PushedRepoContent describes the content that was pushed for a [RepoContent], by the same
// identifiers.
type PushedRepoContent struct {
	Manifests    map[string]ociregistry.Descriptor
	ManifestData map[string][]byte // the manifests as they were pushed
	Blobs        map[string]ociregistry.Descriptor
}

// PushContent pushes content to r, and returns what it pushed by the names of the
// repositories. It stops at the first error, and returns an error that wraps the one of r.
func PushContent(r ociregistry.Interface, rc RegistryContent) (map[string]PushedRepoContent, error) {
	pushed := make(map[string]PushedRepoContent)
	for _, repo := range slices.Sorted(maps.Keys(rc)) {
		p, err := PushRepoContent(r, repo, rc[repo])
		if err != nil {
			return nil, fmt.Errorf("content of repository %q: %w", repo, err)
		}
		pushed[repo] = p
	}
	return pushed, nil
}

// PushRepoContent pushes content to a repository of r, and returns what it pushed. If an
// identifier is not defined, it pushes nothing and returns an error.
func PushRepoContent(r ociregistry.Interface, repo string, repoc RepoContent) (PushedRepoContent, error) {
	c := newCompletion(repoc)
	for _, id := range slices.Sorted(maps.Keys(repoc.Manifests)) {
		if err := c.complete(id, nil); err != nil {
			return PushedRepoContent{}, err
		}
	}
	tags := make(map[string][]string) // by manifest identifier
	for _, tag := range slices.Sorted(maps.Keys(repoc.Tags)) {
		id := repoc.Tags[tag]
		if _, ok := repoc.Manifests[id]; !ok {
			return PushedRepoContent{}, fmt.Errorf("tag %q: there is no manifest %q", tag, id)
		}
		tags[id] = append(tags[id], tag)
	}

	ctx := context.Background()
	for _, id := range slices.Sorted(maps.Keys(repoc.Blobs)) {
		if _, err := r.PushBlob(ctx, repo, c.pushed.Blobs[id], strings.NewReader(repoc.Blobs[id])); err != nil {
			return PushedRepoContent{}, fmt.Errorf("push of blob %q: %w", id, err)
		}
	}
	for _, id := range c.order {
		if _, err := r.PushManifest(ctx, repo, "", c.pushed.ManifestData[id], c.pushed.Manifests[id].MediaType, tags[id]...); err != nil {
			return PushedRepoContent{}, fmt.Errorf("push of manifest %q: %w", id, err)
		}
	}
	return c.pushed, nil
}

// completion replaces the identifiers in manifests by digests.
type completion struct {
	content RepoContent
	pushed  PushedRepoContent
	order   []string // manifest identifiers, each after its subject
}

func newCompletion(content RepoContent) *completion {
	c := &completion{
		content: content,
		pushed: PushedRepoContent{
			Manifests:    make(map[string]ociregistry.Descriptor),
			ManifestData: make(map[string][]byte),
			Blobs:        make(map[string]ociregistry.Descriptor),
		},
	}
	for id, blob := range content.Blobs {
		c.pushed.Blobs[id] = ociregistry.Descriptor{
			MediaType: "application/binary",
			Digest:    digest.FromString(blob),
			Size:      int64(len(blob)),
		}
	}
	return c
}

// complete completes a manifest, and its subjects before it. The path has the identifiers
// of the manifests whose subjects led to it.
func (c *completion) complete(id string, path []string) error {
	if _, done := c.pushed.Manifests[id]; done {
		return nil
	}
	if slices.Contains(path, id) {
		return fmt.Errorf("manifest %q is its own subject, by way of %q", id, path)
	}
	m, ok := c.content.Manifests[id]
	if !ok {
		return fmt.Errorf("manifest %q: there is no manifest %q for its subject", path[len(path)-1], id)
	}
	var err error
	if m.Config, err = fill(m.Config, c.pushed.Blobs); err != nil {
		return fmt.Errorf("config of manifest %q: %w", id, err)
	}
	m.Layers = slices.Clone(m.Layers)
	for i := range m.Layers {
		if m.Layers[i], err = fill(m.Layers[i], c.pushed.Blobs); err != nil {
			return fmt.Errorf("layer %d of manifest %q: %w", i, id, err)
		}
	}
	if m.Subject != nil && !ociref.IsValidDigest(string(m.Subject.Digest)) {
		if err := c.complete(string(m.Subject.Digest), append(path, id)); err != nil {
			return err
		}
		subject, _ := fill(*m.Subject, c.pushed.Manifests)
		m.Subject = &subject
	}
	if m.MediaType == "" {
		m.MediaType = ocispec.MediaTypeImageManifest
	}
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("manifest %q: %w", id, err)
	}
	c.pushed.ManifestData[id] = data
	c.pushed.Manifests[id] = ociregistry.Descriptor{
		MediaType: m.MediaType,
		Digest:    digest.FromBytes(data),
		Size:      int64(len(data)),
	}
	c.order = append(c.order, id)
	return nil
}

// fill replaces an identifier in desc by the digest and the size that it stands for.
func fill(desc ociregistry.Descriptor, known map[string]ociregistry.Descriptor) (ociregistry.Descriptor, error) {
	if ociref.IsValidDigest(string(desc.Digest)) {
		return desc, nil
	}
	d, ok := known[string(desc.Digest)]
	if !ok {
		return desc, fmt.Errorf("there is nothing with identifier %q", desc.Digest)
	}
	desc.Digest, desc.Size = d.Digest, d.Size
	if desc.MediaType == "" {
		desc.MediaType = d.MediaType
	}
	return desc, nil
}
