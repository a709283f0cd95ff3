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

// RegistryContent has the content of each repository of a registry, by the
// repository's name.
type RegistryContent map[string]RepoContent

// RepoContent has the content of a repository. Its manifests and blobs have
// identifiers, which are any strings that are not digests, and which stand for
// the digests that are not known before the content is.
//
// Where a descriptor in a manifest has an identifier for its digest, digest and
// size are filled in, and the media type if it is empty. Descriptors with
// digests stay as they are. The media type of a manifest that has none is that
// of an OCI image manifest.
type RepoContent struct {
	// Manifests are image manifests by identifier. Config and layers name
	// blobs, and Subject names a manifest.
	Manifests map[string]ociregistry.Manifest

	// Blobs are the contents of blobs by identifier.
	Blobs map[string]string

	// Tags has the identifier of the manifest that each tag points at.
	Tags map[string]string
}

// PushedRepoContent describes what a [RepoContent] became, by the same
// identifiers.
type PushedRepoContent struct {
	Manifests    map[string]ociregistry.Descriptor
	ManifestData map[string][]byte // the manifests as they were pushed
	Blobs        map[string]ociregistry.Descriptor
}

// PushContent pushes content to r, and returns what was pushed, by repository
// name. The first error ends it; it wraps what r returned.
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

// PushRepoContent pushes content to one repository of r, and returns what was
// pushed. Nothing is pushed if an identifier stands for nothing.
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

// completion replaces the identifiers in manifests.
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

// complete completes a manifest and, before it, its subjects. The path has the
// identifiers of the manifests that led to it.
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

// fill replaces an identifier in desc by what it stands for.
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
