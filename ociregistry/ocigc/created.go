package ocigc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Bounds for what is read to find the time of a tag.
const (
	maxText     = 4 << 20 // bytes of a manifest or a configuration
	maxChildren = 64      // manifests of an index
	maxDepth    = 4       // of indexes
)

// datedTag is a tag and what it points at, if that was looked at.
type datedTag struct {
	Tag
	digest ociregistry.Digest
}

// date finds the time of a tag, if the policy must know it. A tag that is gone, or whose
// image is damaged, has none.
func (r *retention) date(ctx context.Context, repo, name string) (datedTag, error) {
	tag := datedTag{Tag: Tag{Name: name}}
	if !r.selector.policy(repo).needsPushed(name) {
		return tag, nil
	}
	rd, err := r.reg.GetTag(ctx, repo, name)
	if err == nil {
		tag.digest = rd.Descriptor().Digest
		tag.Pushed, err = r.manifestTime(ctx, repo, rd, 1)
	}
	if isDamage(err) {
		return tag, nil
	}
	return tag, err
}

// isDamage reports whether err is about content, and not about the registry.
func isDamage(err error) bool {
	return errors.Is(err, ociregistry.ErrManifestUnknown) || errors.Is(err, ociregistry.ErrBlobUnknown) ||
		errors.Is(err, ociregistry.ErrManifestInvalid)
}

// manifestTime reads and closes a manifest, and returns the latest time of its images, or
// that of its annotation, or zero.
func (r *retention) manifestTime(ctx context.Context, repo string, rd ociregistry.BlobReader, depth int) (time.Time, error) {
	mediaType := rd.Descriptor().MediaType
	text, err := readText(rd)
	if err != nil {
		return time.Time{}, err
	}
	info, err := manifest.Parse(mediaType, string(text))
	if err != nil {
		return time.Time{}, err
	}
	latest, err := r.latestTime(ctx, repo, info, depth)
	if latest.IsZero() {
		latest = annotatedTime(text)
	}
	return latest, err
}

// latestTime returns the latest time of the configurations of an image or of the images of an
// index.
func (r *retention) latestTime(ctx context.Context, repo string, info manifest.Info, depth int) (latest time.Time, err error) {
	if len(info.Blobs) > 0 && manifest.IsImageConfig(info.Blobs[0].MediaType) {
		return r.configTime(ctx, repo, info.Blobs[0].Digest)
	}
	if depth == maxDepth {
		return latest, nil
	}
	for _, child := range info.Manifests[:min(len(info.Manifests), maxChildren)] {
		rd, err := r.reg.GetManifest(ctx, repo, child.Digest)
		var t time.Time
		if err == nil {
			t, err = r.manifestTime(ctx, repo, rd, depth+1)
		}
		if err != nil && !isDamage(err) {
			return latest, err
		}
		if t.After(latest) {
			latest = t
		}
	}
	return latest, nil
}

func (r *retention) configTime(ctx context.Context, repo string, digest ociregistry.Digest) (time.Time, error) {
	rd, err := r.reg.GetBlob(ctx, repo, digest)
	if err != nil {
		return time.Time{}, err
	}
	text, err := readText(rd)
	if err != nil {
		return time.Time{}, err
	}
	var config struct {
		Created string `json:"created"`
	}
	json.Unmarshal(text, &config) // what cannot be read has no time
	return manifest.ParseCreated(config.Created), nil
}

func annotatedTime(text []byte) time.Time {
	var m struct {
		Annotations map[string]string `json:"annotations"`
	}
	json.Unmarshal(text, &m) // what cannot be read has no time
	return manifest.ParseCreated(m.Annotations[ocispec.AnnotationCreated])
}

// readText reads and closes a manifest or a configuration.
func readText(rd ociregistry.BlobReader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(rd, maxText+1))
	if err = errors.Join(err, rd.Close()); err == nil && len(text) > maxText {
		err = fmt.Errorf("%w: it has more than %d bytes", ociregistry.ErrManifestInvalid, maxText)
	}
	return text, err
}
