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

// choose returns the children of an index that are for one of platforms, and the
// indexes among them that do not say what they are for.
func choose(index []byte, children []manifest.Ref, platforms []ocispec.Platform) ([]manifest.Ref, error) {
	var parsed struct {
		Manifests []struct {
			Digest   ociregistry.Digest `json:"digest"`
			Platform *ocispec.Platform  `json:"platform"`
		} `json:"manifests"`
	}
	if err := json.Unmarshal(index, &parsed); err != nil {
		return nil, fmt.Errorf("%w: its platforms cannot be read", ociregistry.ErrManifestInvalid)
	}
	wanted := make(map[ociregistry.Digest]bool)
	named := make(map[ociregistry.Digest]bool)
	for _, m := range parsed.Manifests {
		if m.Platform != nil {
			named[m.Digest] = true
			wanted[m.Digest] = wanted[m.Digest] || matchesAny(*m.Platform, platforms)
		}
	}
	var chosen []manifest.Ref
	for _, child := range children {
		if wanted[child.Digest] || !named[child.Digest] && isIndex(child.MediaType) {
			chosen = append(chosen, child)
		}
	}
	return chosen, nil
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
