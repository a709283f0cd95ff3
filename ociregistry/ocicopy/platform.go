package ocicopy

import (
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/manifest"
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

func isIndex(mediaType string) bool { return manifest.IsIndex(mediaType) }
