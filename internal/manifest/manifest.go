// Package manifest reads what a registry must know of a manifest: what it
// names, what it is about, and how it is listed as a referrer.
package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// Media types that image-spec has no constants for.
const (
	MediaTypeDockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeORASArtifact       = "application/vnd.cncf.oras.artifact.manifest.v1+json"
	MediaTypeOCIArtifact        = "application/vnd.oci.artifact.manifest.v1+json"
)

var mediaTypes = []string{
	ocispec.MediaTypeImageManifest,
	ocispec.MediaTypeImageIndex,
	MediaTypeDockerManifest,
	MediaTypeDockerManifestList,
	MediaTypeORASArtifact,
	MediaTypeOCIArtifact,
}

// MediaTypes returns the media types that Parse understands, the most common
// first.
func MediaTypes() []string { return slices.Clone(mediaTypes) }

// A Ref is a blob or a manifest that a manifest names.
type Ref struct {
	MediaType string
	Digest    ociregistry.Digest
	Size      int64 // in bytes

	// Elsewhere says that the content need not be in the repository: the layer
	// is non-distributable, or the descriptor has URLs to fetch it from.
	Elsewhere bool
}

// Info is what Parse finds in a manifest. Of an unknown media type it is zero.
type Info struct {
	Blobs     []Ref // config, layers, or an artifact's blobs
	Manifests []Ref // the children of an index

	// Subject is the digest of the manifest that this one is about, or "".
	Subject ociregistry.Digest

	// ArtifactType is the type that the manifest is listed with as a referrer:
	// its artifactType, else the media type of its config.
	ArtifactType string
	Annotations  map[string]string
}

// wire has the fields of all the known media types. Those that a registry does
// not look at, such as the data of a descriptor, are left out: to decode them
// would be to copy them.
type wire struct {
	MediaType    *string           `json:"mediaType"`
	ArtifactType string            `json:"artifactType"`
	Config       *wireDescriptor   `json:"config"`
	Layers       []wireDescriptor  `json:"layers"`
	Blobs        []wireDescriptor  `json:"blobs"`
	Manifests    []wireDescriptor  `json:"manifests"`
	Subject      *wireDescriptor   `json:"subject"`
	Annotations  map[string]string `json:"annotations"`
}

type wireDescriptor struct {
	MediaType string   `json:"mediaType"`
	Digest    string   `json:"digest"`
	Size      int64    `json:"size"`
	URLs      []string `json:"urls"`
}

// Parse checks the contents of a manifest and returns what a registry must
// know of it. All errors wrap [ociregistry.ErrManifestInvalid]; none carries
// content.
//
// Contents of a media type that is not one of [MediaTypes] are not looked at.
// No media type and no contents are errors for every type.
func Parse(mediaType string, contents []byte) (Info, error) {
	if mediaType == "" {
		return Info{}, invalid("no media type")
	}
	if len(contents) == 0 {
		return Info{}, invalid("no content")
	}
	if !slices.Contains(mediaTypes, mediaType) {
		return Info{}, nil
	}
	if trimmed := bytes.TrimLeft(contents, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return Info{}, invalid("not a JSON object")
	}
	var w wire
	if err := json.Unmarshal(contents, &w); err != nil {
		return Info{}, invalid("%s", jsonProblem(err))
	}
	if w.MediaType != nil && *w.MediaType != mediaType {
		return Info{}, invalid("its mediaType field is not %s, which it was pushed as", mediaType)
	}
	info, err := w.info(mediaType)
	if err != nil {
		return Info{}, err
	}
	if w.Subject != nil {
		ref, err := w.Subject.ref("subject")
		if err != nil {
			return Info{}, err
		}
		info.Subject = ref.Digest
	}
	info.ArtifactType = w.ArtifactType
	if info.ArtifactType == "" && w.Config != nil {
		info.ArtifactType = w.Config.MediaType
	}
	info.Annotations = w.Annotations
	return info, nil
}

// info returns what w names, as its media type has it.
func (w *wire) info(mediaType string) (info Info, err error) {
	switch mediaType {
	case ocispec.MediaTypeImageManifest, MediaTypeDockerManifest:
		if w.Config == nil {
			return Info{}, invalid("no config")
		}
		config, err := w.Config.ref("config")
		if err != nil {
			return Info{}, err
		}
		info.Blobs, err = appendRefs([]Ref{config}, "layer", w.Layers)
		return info, err
	case ocispec.MediaTypeImageIndex, MediaTypeDockerManifestList:
		info.Manifests, err = appendRefs(nil, "manifest", w.Manifests)
		return info, err
	default:
		info.Blobs, err = appendRefs(nil, "blob", w.Blobs)
		return info, err
	}
}

func appendRefs(refs []Ref, what string, descs []wireDescriptor) ([]Ref, error) {
	for i := range descs {
		ref, err := descs[i].ref(what)
		if err != nil {
			return nil, fmt.Errorf("%w (%s %d)", err, what, i)
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

func (d *wireDescriptor) ref(what string) (Ref, error) {
	if !ociref.IsValidDigest(d.Digest) {
		return Ref{}, invalid("its %s has no valid digest", what)
	}
	if d.Size < 0 {
		return Ref{}, invalid("its %s has a negative size", what)
	}
	return Ref{
		MediaType: d.MediaType,
		Digest:    digest.Digest(d.Digest),
		Size:      d.Size,
		Elsewhere: len(d.URLs) > 0 || nonDistributable(d.MediaType),
	}, nil
}

// nonDistributable reports whether content of mediaType may be absent from a
// registry (image-spec, section "Non-Distributable Layers").
func nonDistributable(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.nondistributable.") ||
		mediaType == "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" ||
		mediaType == "application/vnd.docker.image.rootfs.foreign.diff.tar"
}

// jsonProblem says what is wrong with a manifest without quoting it.
func jsonProblem(err error) string {
	switch err := err.(type) {
	case *json.SyntaxError:
		return fmt.Sprintf("not well-formed JSON near byte %d", err.Offset)
	case *json.UnmarshalTypeError:
		// What is below the first element may be a key that the manifest chose.
		field, _, _ := strings.Cut(err.Field, ".")
		return fmt.Sprintf("its field %s has the wrong JSON type", field)
	}
	return "not well-formed JSON"
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ociregistry.ErrManifestInvalid, fmt.Sprintf(format, args...))
}
