package ociweb

import (
	"encoding/json"
	"errors"
	"io"
	"math"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// document is a manifest. Its fields are those of all media types that there are, and empty if
// they are missing, have another type, or could not be read.
type document struct {
	desc     ociregistry.Descriptor
	text     []byte
	tooLarge bool // the text was not read
	fields
}

type fields struct {
	ArtifactType string            `json:"artifactType"`
	Config       *descriptor       `json:"config"`
	Layers       []descriptor      `json:"layers"`
	Blobs        []descriptor      `json:"blobs"`
	Manifests    []descriptor      `json:"manifests"`
	Subject      *descriptor       `json:"subject"`
	Annotations  map[string]string `json:"annotations"`
}

// descriptor is a descriptor in a manifest. Nobody has checked its digest.
type descriptor struct {
	MediaType    string             `json:"mediaType"`
	Digest       ociregistry.Digest `json:"digest"`
	Size         int64              `json:"size"`
	ArtifactType string             `json:"artifactType"`
	Platform     *ocispec.Platform  `json:"platform"`
	Annotations  map[string]string  `json:"annotations"`
}

// readManifest reads a manifest of the repository by a tag or a digest.
func (x *exchange) readManifest(ref string) (*document, error) {
	var rd ociregistry.BlobReader
	var err error
	if call.IsDigest(ref) {
		rd, err = x.registry.GetManifest(x.ctx, x.repo, ociregistry.Digest(ref))
	} else {
		rd, err = x.registry.GetTag(x.ctx, x.repo, ref)
	}
	if err != nil {
		return nil, err
	}
	d := &document{desc: rd.Descriptor()}
	d.text, d.tooLarge, err = readBounded(rd, d.desc.Size, x.opts.MaxManifestSize)
	if err != nil {
		return nil, err
	}
	decode(d.text, &d.fields)
	return d, nil
}

// readBounded reads and closes content, unless it is larger than limit. The size may be wrong.
func readBounded(rd ociregistry.BlobReader, size, limit int64) (text []byte, tooLarge bool, err error) {
	defer rd.Close()
	if limit < 0 {
		limit = math.MaxInt64 - 1
	}
	if size > limit {
		return nil, true, nil
	}
	text, err = io.ReadAll(io.LimitReader(rd, limit+1))
	if int64(len(text)) > limit {
		return nil, true, err
	}
	return text, false, err
}

// decode reads the fields of a JSON object that have the right type, if it is one.
func decode(text []byte, into any) {
	var other *json.UnmarshalTypeError
	if err := json.Unmarshal(text, into); err != nil && !errors.As(err, &other) {
		return
	}
}

func (d *document) isIndex() bool { return manifest.IsIndex(d.desc.MediaType) }

// isImage reports whether d is an image that can run, and not another artifact.
func (d *document) isImage() bool {
	return d.Config != nil && d.ArtifactType == "" && manifest.IsImageConfig(d.Config.MediaType)
}

// artifactType returns the type of an artifact, as a list of referrers has it.
func (d *document) artifactType() string {
	if d.ArtifactType == "" && d.Config != nil && !d.isImage() {
		return d.Config.MediaType
	}
	return d.ArtifactType
}

// layers returns what the manifest names beside its configuration and other manifests.
func (d *document) layers() []descriptor {
	if d.Layers == nil {
		return d.Blobs
	}
	return d.Layers
}

// pullSize returns the number of bytes of what a client pulls. Content that is named twice
// counts once.
func (d *document) pullSize() int64 {
	seen := make(map[ociregistry.Digest]bool)
	var total int64
	for _, b := range d.blobs() {
		if !seen[b.Digest] {
			seen[b.Digest] = true
			total = add(total, b.Size)
		}
	}
	return total
}

// blobs returns the configuration and the layers.
func (d *document) blobs() []descriptor {
	if d.Config == nil {
		return d.layers()
	}
	return append([]descriptor{*d.Config}, d.layers()...)
}

// add adds a size that a manifest claims.
func add(total, size int64) int64 {
	if size < 0 || size > math.MaxInt64-total {
		return total
	}
	return total + size
}

// usual is the platform that stands for all of an index, if it has an image for it.
const usual = "linux/amd64"

// attests is the annotation by which BuildKit marks a manifest in an index that is about one of
// the others. Its platform is "unknown".
const attests = "vnd.docker.reference.type"

// runs reports whether d, in an index, is an image for a platform.
func (d *descriptor) runs() bool {
	return d.Platform != nil && d.Annotations[attests] == "" && d.linkable() && !manifest.IsIndex(d.MediaType)
}

// linkable reports whether there can be a page of d.
func (d *descriptor) linkable() bool { return ociref.IsValidDigest(string(d.Digest)) }

// platform returns the platform of d as people write it, or "".
func (d *descriptor) platform() string {
	if d.Platform == nil {
		return ""
	}
	return platformName(*d.Platform)
}

func platformName(p ocispec.Platform) string {
	if p.OS == "" && p.Architecture == "" {
		return ""
	}
	name := p.OS + "/" + p.Architecture
	if v := manifest.Variant(p); v != "" {
		name += "/" + v
	}
	return clip(clean(name), 60)
}

// platforms returns the platforms for which an index has an image, each once.
func (d *document) platforms() (names []string) {
	seen := make(map[string]bool)
	for i := range d.Manifests {
		m := &d.Manifests[i]
		if name := m.platform(); m.runs() && name != "" && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

// choose returns the manifest of an index for a platform; or, if platform is empty, the one that
// stands for all of them on pages; or nil.
func (d *document) choose(platform string) *descriptor {
	var first *descriptor
	for i := range d.Manifests {
		m := &d.Manifests[i]
		if !m.runs() {
			continue
		}
		name := m.platform()
		if name == platform || platform == "" && name == usual {
			return m
		}
		if first == nil {
			first = m
		}
	}
	if platform != "" {
		return nil
	}
	return first
}
