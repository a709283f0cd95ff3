package ociunify

import (
	"fmt"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// An origin may be any registry, or what stands in front of it: the login page of a
// proxy is an answer too.

// plausible checks the descriptor that an origin returned for the digest want, or for
// a tag if want is empty. It completes the digest, and sets an impossible size to -1.
func plausible(at call.Call, desc ociregistry.Descriptor, want ociregistry.Digest) (ociregistry.Descriptor, error) {
	switch {
	case desc.Digest == "" && want == "" && manifest.IsPage(desc.MediaType):
		return desc, at.Wrap(fmt.Errorf("%w: the origin returned a page", ociregistry.ErrManifestInvalid))
	case desc.Digest == "":
		desc.Digest = want
	case want != "" && desc.Digest != want:
		return desc, at.Wrap(fmt.Errorf("%w: the origin returned another digest", ociregistry.ErrDigestInvalid))
	}
	desc.Size = plausibleSize(desc.Size, desc.Digest)
	return desc, nil
}

// plausibleSize returns the size that content with a digest is said to have, or -1 if
// that is impossible.
func plausibleSize(size int64, d ociregistry.Digest) int64 {
	if size < 0 || size == 0 && ociregistry.CheckDigest(d) == nil && d != d.Algorithm().FromString("") {
		return -1
	}
	return size
}
