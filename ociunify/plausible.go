package ociunify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// An origin may be any registry, and what stands in front of it: a proxy that wants
// somebody to log in answers as well.

// plausible returns what an origin says of what it was asked for by the digest want,
// or by a tag if that is empty. A size that cannot be is unknown.
func plausible(at target, desc ociregistry.Descriptor, want ociregistry.Digest) (ociregistry.Descriptor, error) {
	switch {
	case desc.Digest == "" && want == "" && manifest.IsPage(desc.MediaType):
		return desc, at.fail(fmt.Errorf("%w: the origin has a page instead", ociregistry.ErrManifestInvalid))
	case desc.Digest == "":
		desc.Digest = want
	case want != "" && desc.Digest != want:
		return desc, at.fail(fmt.Errorf("%w: the origin speaks of another", ociregistry.ErrDigestInvalid))
	}
	desc.Size = plausibleSize(desc.Size, desc.Digest)
	return desc, nil
}

// plausibleSize returns the size that content of a digest is said to have, or -1 if
// that cannot be.
func plausibleSize(size int64, d ociregistry.Digest) int64 {
	if size < 0 || size == 0 && ociregistry.CheckDigest(d) == nil && d != d.Algorithm().FromString("") {
		return -1
	}
	return size
}

// looksLikePage reports whether contents begin as a page does.
func looksLikePage(contents []byte) bool {
	start := bytes.ToLower(bytes.TrimSpace(contents[:min(len(contents), 512)]))
	return bytes.HasPrefix(start, []byte("<!doctype html")) || bytes.HasPrefix(start, []byte("<html"))
}

// isVague reports whether a media type says nothing of a manifest.
func isVague(mediaType string) bool {
	switch t, _, _ := mime.ParseMediaType(mediaType); t {
	case "", "application/json", "application/octet-stream", "text/plain":
		return true
	}
	return manifest.IsPage(mediaType)
}

// checkTagged returns an error for what an origin answers for a tag if it is no
// manifest, as far as can be told. A manifest can be of any type if the origin has
// named its digest; but a page or a list of errors is none.
func checkTagged(m manifestContent, named bool) error {
	var fields struct {
		SchemaVersion, MediaType, Errors json.RawMessage
	}
	isObject := json.Unmarshal(m.contents, &fields) == nil
	_, known := manifest.Known(m.desc.MediaType)
	isManifest := isObject && (fields.SchemaVersion != nil || fields.MediaType != nil || manifest.TypeOf(string(m.contents)) != "")
	switch {
	case len(m.contents) == 0:
		return fmt.Errorf("%w: the origin has sent nothing", ociregistry.ErrManifestInvalid)
	case manifest.IsPage(m.desc.MediaType) && !(named && isManifest), !isObject && looksLikePage(m.contents):
		return fmt.Errorf("%w: the origin has sent a page", ociregistry.ErrManifestInvalid)
	case isObject && fields.Errors != nil && !isManifest:
		return fmt.Errorf("%w: the origin has sent a list of errors", ociregistry.ErrManifestInvalid)
	case !named && !isManifest, known && !isObject:
		return fmt.Errorf("%w: the origin has sent something else", ociregistry.ErrManifestInvalid)
	}
	return nil
}

// ownType returns the media type of a manifest, which its contents may tell better
// than what it was served as.
func ownType(m manifestContent) string {
	if isVague(m.desc.MediaType) {
		if own := manifest.TypeOf(string(m.contents)); own != "" {
			return own
		}
	}
	return m.desc.MediaType
}
