package manifest

import (
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const mediaTypeDockerConfig = "application/vnd.docker.container.image.v1+json"

// IsImageConfig reports whether mediaType is that of the configuration of an image.
func IsImageConfig(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageConfig || mediaType == mediaTypeDockerConfig
}

// earliest is when there were no images yet: an earlier time is that of a reproducible build.
var earliest = time.Date(2013, 1, 1, 0, 0, 0, 0, time.UTC)

// ParseCreated parses the time at which an image was created, in its configuration or an
// annotation. It returns zero for what is not a time, or one that says nothing.
func ParseCreated(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.Before(earliest) {
		return time.Time{}
	}
	return t
}
