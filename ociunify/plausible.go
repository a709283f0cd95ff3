package ociunify

import (
	"fmt"

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
