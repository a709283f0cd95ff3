// Package manifest parses what a registry must know about a manifest: the content that it
// names, its subject, and its description in a list of referrers.
package manifest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// Media types for which image-spec has no constants.
const (
	MediaTypeDockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeORASArtifact       = "application/vnd.cncf.oras.artifact.manifest.v1+json"
	MediaTypeOCIArtifact        = "application/vnd.oci.artifact.manifest.v1+json"
)

// mediaTypes has the media types that Parse understands, the most common first.
var mediaTypes = []string{
	ocispec.MediaTypeImageManifest,
	ocispec.MediaTypeImageIndex,
	MediaTypeDockerManifest,
	MediaTypeDockerManifestList,
	MediaTypeORASArtifact,
	MediaTypeOCIArtifact,
}

// Known reports whether Parse understands mediaType, and returns a constant string that is
// equal to it.
func Known(mediaType string) (own string, ok bool) {
	i := slices.Index(mediaTypes, mediaType)
	if i < 0 {
		return "", false
	}
	return mediaTypes[i], true
}

// OwnMediaType returns a copy of mediaType that shares no memory with it. The types that
// Parse understands have one copy each.
func OwnMediaType(mediaType string) string {
	if own, ok := Known(mediaType); ok {
		return own
	}
	return strings.Clone(mediaType)
}

// IsIndex reports whether manifests of mediaType name other manifests.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == MediaTypeDockerManifestList
}

// isArtifact reports whether mediaType is that of an artifact manifest. Programs encode
// these from types that cannot omit the field mediaType, which is empty if they do not
// set it.
func isArtifact(mediaType string) bool {
	return mediaType == MediaTypeORASArtifact || mediaType == MediaTypeOCIArtifact
}

// A Ref is a blob or a manifest that a manifest names.
type Ref struct {
	MediaType string
	Size      int64 // in bytes

	// Digest is well formed. If its algorithm is not supported, it cannot be
	// verified, and no repository has the content.
	Digest ociregistry.Digest

	// Elsewhere means that the content need not be in the repository: the layer is
	// non-distributable, or the descriptor has URLs to fetch it from.
	Elsewhere bool
}

// CheckSize returns an error that wraps [ociregistry.ErrManifestInvalid] if size, that of
// the content, is not the size in r.
func (r *Ref) CheckSize(size int64) error {
	if r.Size == size {
		return nil
	}
	return invalid("it names %s with %d bytes, which has %d", r.Digest, r.Size, size)
}

// Info is the result of Parse. It is zero for an unknown media type.
type Info struct {
	Blobs     []Ref // config, layers, or an artifact's blobs
	Manifests []Ref // the children of an index

	// Subject is the digest of the subject, or "". Like that of a Ref, it can be of
	// any algorithm.
	Subject ociregistry.Digest

	// ArtifactType is the artifact type of the manifest in a list of referrers: its
	// artifactType field, or else, for an image, the media type of its config
	// (distribution specification, section "Listing Referrers").
	ArtifactType string

	// Annotations has the annotations of a manifest that has a subject, for a list
	// of referrers. It is nil for other manifests.
	Annotations map[string]string
}

// Parse checks the contents of a manifest, and returns what a registry must know about it.
// All errors wrap [ociregistry.ErrManifestInvalid]; none contains content. The strings of
// the result may be substrings of contents.
//
// Parse does not check contents of a media type that is not [Known]. An empty media type
// and empty contents are errors.
func Parse(mediaType, contents string) (Info, error) {
	if mediaType == "" {
		return Info{}, invalid("no media type")
	}
	if contents == "" {
		return Info{}, invalid("no content")
	}
	if _, ok := Known(mediaType); !ok {
		return Info{}, nil
	}
	f, err := parseFields(contents)
	if err != nil {
		return Info{}, invalid("%v", err)
	}
	if f.mediaType != mediaType && f.hasMediaType && !(f.mediaType == "" && isArtifact(mediaType)) {
		return Info{}, invalid("its mediaType field is not %s, which it was pushed as", mediaType)
	}
	return f.info(mediaType)
}

// TypeOf returns the media type that contents have, whatever their Content-Type: that of
// their mediaType field, or without one, that of an image or an index, by their fields. It
// is empty for contents with the fields of both, and for those that are not a manifest of
// a [Known] media type.
func TypeOf(contents string) string {
	f, err := parseFields(contents)
	mediaType := f.mediaType
	switch {
	case err != nil:
		return ""
	case f.hasMediaType:
	case f.hasConfig && f.hasManifests:
		return ""
	case f.hasConfig:
		mediaType = ocispec.MediaTypeImageManifest
	case f.hasManifests:
		mediaType = ocispec.MediaTypeImageIndex
	}
	own, _ := Known(mediaType)
	if _, err := f.info(own); err != nil {
		return ""
	}
	return own
}

// GuessType returns a media type for content of which somebody says that it is a manifest,
// and not of which type: the one that it has in it, known or not, or that of what it looks
// like, or that of any bytes.
func GuessType(contents string) string {
	var fields struct {
		MediaType string          `json:"mediaType"`
		Config    json.RawMessage `json:"config"`
		Manifests json.RawMessage `json:"manifests"`
	}
	if json.Unmarshal([]byte(contents), &fields) != nil {
		return "application/octet-stream"
	}
	switch {
	case fields.MediaType != "":
		return fields.MediaType
	case fields.Manifests != nil:
		return ocispec.MediaTypeImageIndex
	case fields.Config != nil:
		return ocispec.MediaTypeImageManifest
	}
	return "application/octet-stream"
}

// MayHaveSubject reports whether a manifest may have a subject, without parsing it. Few
// manifests have one. JSON spells the name of the field either plainly or with a
// backslash. The search omits the first letter because the letter u is rarer, which makes
// it fast.
func MayHaveSubject(contents []byte) bool {
	return bytes.Contains(contents, []byte(`ubject"`)) || bytes.IndexByte(contents, '\\') >= 0
}

// fields has the fields of all the known media types that a registry needs. Their digests
// are not checked yet.
type fields struct {
	hasMediaType, hasConfig, hasManifests, hasSubject bool

	mediaType    string
	artifactType string
	config       Ref
	layers       []Ref // from the second on, so that the config can be put before them
	blobs        []Ref
	manifests    []Ref
	subject      Ref
	annotations  string // the JSON text
}

// parseFields reads the fields of a manifest. It compares keys exactly. The last of equal
// keys counts.
func parseFields(contents string) (fields, error) {
	var f fields
	r := reader{text: contents}
	err := r.document(func(key string) error {
		switch key {
		case "mediaType":
			f.hasMediaType = r.next() != 'n'
			return r.stringField(key, &f.mediaType)
		case "artifactType":
			return r.stringField(key, &f.artifactType)
		case "config":
			return r.descriptorField(key, &f.config, &f.hasConfig)
		case "layers":
			f.layers = make([]Ref, 1, 16)
			return r.descriptorsField(key, &f.layers)
		case "blobs":
			f.blobs = nil
			return r.descriptorsField(key, &f.blobs)
		case "manifests":
			f.manifests, f.hasManifests = nil, r.next() != 'n'
			return r.descriptorsField(key, &f.manifests)
		case "subject":
			return r.descriptorField(key, &f.subject, &f.hasSubject)
		case "annotations":
			start := r.pos
			err := r.annotationsField(key, nil)
			f.annotations = contents[start:r.pos]
			return err
		}
		return r.skip()
	})
	return f, r.located(err)
}

func (r *reader) descriptorField(field string, into *Ref, there *bool) error {
	*into, *there = Ref{}, r.next() != 'n'
	return r.descriptor(field, into)
}

func (r *reader) descriptorsField(field string, into *[]Ref) error {
	return r.arrayField(field, func() error {
		*into = append(*into, Ref{})
		return r.descriptor(field, &(*into)[len(*into)-1])
	})
}

func (r *reader) descriptor(field string, ref *Ref) error {
	if r.next() == '{' && r.compactDescriptor(ref) {
		return nil
	}
	hasURLs := false
	err := r.objectField(field, func(key string) error {
		switch key {
		case "mediaType":
			return r.stringField(field, &ref.MediaType)
		case "digest":
			return r.stringField(field, (*string)(&ref.Digest))
		case "size":
			return r.intField(field, &ref.Size)
		case "urls":
			hasURLs = false
			return r.arrayField(field, func() error {
				hasURLs = true
				var url string
				return r.stringField(field, &url)
			})
		}
		return r.skip()
	})
	ref.Elsewhere = hasURLs || NonDistributable(ref.MediaType)
	return err
}

// compactDescriptor reads a descriptor in the most common form: without spaces, and with
// exactly a mediaType, a digest and a size in this order. It reads nothing and reports
// false for any other.
func (r *reader) compactDescriptor(ref *Ref) bool {
	mediaType, rest, ok1 := cutPlain(r.text[r.pos:], `{"mediaType":"`)
	digest, rest, ok2 := cutPlain(rest, `,"digest":"`)
	rest, ok3 := strings.CutPrefix(rest, `,"size":`)
	if !ok1 || !ok2 || !ok3 {
		return false
	}
	const maxDigits = 18 // so that the size cannot overflow
	n, size := 0, int64(0)
	for n < len(rest) && n < maxDigits && '0' <= rest[n] && rest[n] <= '9' {
		size = 10*size + int64(rest[n]-'0')
		n++
	}
	if n == 0 || n == len(rest) || rest[n] != '}' || rest[0] == '0' && n > 1 {
		return false
	}
	*ref = Ref{MediaType: mediaType, Digest: ociregistry.Digest(digest), Size: size, Elsewhere: NonDistributable(mediaType)}
	r.pos = len(r.text) - len(rest) + n + 1
	return true
}

// cutPlain cuts prefix, which ends with the quotation mark before a string, and the string
// with the mark after it, if the string has no escapes.
func cutPlain(text, prefix string) (value, rest string, ok bool) {
	text, ok = strings.CutPrefix(text, prefix)
	n := 0
	for n < len(text) && plain[text[n]] {
		n++
	}
	if !ok || n == len(text) || text[n] != '"' {
		return "", "", false
	}
	return text[:n], text[n+1:], true
}

// annotationsField reads annotations, and stores them in a map unless that is nil.
func (r *reader) annotationsField(field string, into map[string]string) error {
	return r.objectField(field, func(key string) error {
		var value string
		err := r.stringField(field, &value)
		if into != nil {
			into[key] = value
		}
		return err
	})
}

// parseAnnotations returns the annotations in a text that annotationsField has read before.
func parseAnnotations(text string) map[string]string {
	annotations := make(map[string]string)
	r := reader{text: text}
	r.annotationsField("annotations", annotations)
	if len(annotations) == 0 {
		return nil
	}
	return annotations
}

// info returns the Info for the fields of a manifest of mediaType.
func (f *fields) info(mediaType string) (info Info, err error) {
	switch mediaType {
	case ocispec.MediaTypeImageManifest, MediaTypeDockerManifest:
		if !f.hasConfig {
			return Info{}, invalid("no config")
		}
		if len(f.layers) == 0 {
			f.layers = make([]Ref, 1)
		}
		f.layers[0] = f.config
		info.Blobs = f.layers
		info.ArtifactType = f.config.MediaType
		err = cmp.Or(check("config", info.Blobs[:1]), check("layer", info.Blobs[1:]))
	case ocispec.MediaTypeImageIndex, MediaTypeDockerManifestList:
		info.Manifests = f.manifests
		err = check("manifest", info.Manifests)
	default:
		info.Blobs = f.blobs
		err = check("blob", info.Blobs)
	}
	if f.hasSubject {
		info.Subject = f.subject.Digest
		info.Annotations = parseAnnotations(f.annotations)
		err = cmp.Or(err, check("subject", []Ref{f.subject}))
	}
	if err != nil {
		return Info{}, err
	}
	if f.artifactType != "" {
		info.ArtifactType = f.artifactType
	}
	return info, nil
}

// check checks the digests and sizes of refs. A digest by an algorithm that is not
// supported is no reason to refuse the manifest: what it names is not here, and may
// not have to be.
func check(what string, refs []Ref) error {
	for i := range refs {
		switch {
		case !ociref.IsDigest(string(refs[i].Digest)):
			return invalid("%s %d has no valid digest", what, i)
		case refs[i].Size < 0:
			return invalid("%s %d has a negative size", what, i)
		}
	}
	return nil
}

// NonDistributable reports whether content of mediaType may be absent from a
// registry (image-spec, section "Non-Distributable Layers").
func NonDistributable(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.nondistributable.") ||
		mediaType == "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" ||
		mediaType == "application/vnd.docker.image.rootfs.foreign.diff.tar"
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ociregistry.ErrManifestInvalid, fmt.Sprintf(format, args...))
}
