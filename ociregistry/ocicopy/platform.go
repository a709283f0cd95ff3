package ocicopy

import (
	"encoding/json"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// ParsePlatform parses a platform as it is written on command lines:
// OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, as in linux/arm/v7.
func ParsePlatform(s string) (ocispec.Platform, error) {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 {
		return ocispec.Platform{}, fmt.Errorf("platform %q is not of the form OS/ARCHITECTURE[/VARIANT]", s)
	}
	for _, part := range parts {
		if part == "" {
			return ocispec.Platform{}, fmt.Errorf("platform %q has an empty part", s)
		}
	}
	p := ocispec.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}

// isIndex reports whether manifests of mediaType have manifests.
func isIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == manifest.MediaTypeDockerManifestList
}

// entry is an element of the manifests of an index.
type entry struct {
	ref  manifest.Ref
	text json.RawMessage
	runs bool // its platform was chosen
	kept bool // it runs, or belongs to what does
}

// attests is the annotation by which BuildKit says which image of the same index a
// manifest with attestations is about. That has a platform of its own, which is
// unknown.
const attests = "vnd.docker.reference.digest"

// choose finds the entries of an index that are for one of platforms, those that are
// about these, and the indexes among them that do not say what they are for.
func choose(index []byte, children []manifest.Ref, platforms []ocispec.Platform) ([]entry, error) {
	unreadable := fmt.Errorf("%w: its platforms cannot be read", ociregistry.ErrManifestInvalid)
	var fields map[string]json.RawMessage
	var texts []json.RawMessage
	if json.Unmarshal(index, &fields) != nil || json.Unmarshal(fields["manifests"], &texts) != nil || len(texts) != len(children) {
		return nil, unreadable
	}
	entries := make([]entry, len(children))
	about := make(map[int]ociregistry.Digest)
	running := make(map[ociregistry.Digest]bool)
	for i, text := range texts {
		var parsed struct {
			Platform    *ocispec.Platform `json:"platform"`
			Annotations map[string]any    `json:"annotations"`
		}
		if json.Unmarshal(text, &parsed) != nil {
			return nil, unreadable
		}
		e := entry{ref: children[i], text: text}
		image, isAbout := parsed.Annotations[attests].(string)
		switch {
		case isAbout:
			about[i] = ociregistry.Digest(image)
		case parsed.Platform != nil:
			e.runs = matchesAny(*parsed.Platform, platforms)
			e.kept = e.runs
			running[e.ref.Digest] = running[e.ref.Digest] || e.runs
		default:
			e.kept = isIndex(e.ref.MediaType)
		}
		entries[i] = e
	}
	for i, image := range about {
		entries[i].kept = running[image]
	}
	return entries, nil
}

func matchesAny(p ocispec.Platform, platforms []ocispec.Platform) bool {
	for _, want := range platforms {
		if matches(p.OS, want.OS) && matches(p.Architecture, want.Architecture) &&
			matches(variant(p), variant(want)) && matches(p.OSVersion, want.OSVersion) {
			return true
		}
	}
	return false
}

func matches(has, want string) bool { return want == "" || has == want }

// variant returns the variant of p. Of arm64 there is one alone, v8, which may or
// may not be written (OCI image specification, "Platform Variants").
func variant(p ocispec.Platform) string {
	if p.Architecture == "arm64" && p.Variant == "v8" {
		return ""
	}
	return p.Variant
}
