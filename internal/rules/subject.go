package rules

import (
	"slices"
	"strings"

	"github.com/seed-40b21970/oci/ociregistry"
)

// CosignSuffixes end the tags under which cosign keeps what is about a manifest:
// signatures, attestations and SBOMs.
var CosignSuffixes = []string{".sig", ".att", ".sbom"}

// CosignTag returns the tag, without a suffix, under which cosign keeps what is about
// the manifest with a digest. It returns "" if there is none: made of a SHA-512
// digest it would be too long for a tag.
func CosignTag(digest ociregistry.Digest) string {
	hex, ok := strings.CutPrefix(string(digest), "sha256:")
	if !ok {
		return ""
	}
	return "sha256-" + hex
}

// TagsAbout returns the tags for which [Subject] returns a digest. There are none if its
// algorithm is not SHA-256.
func TagsAbout(digest ociregistry.Digest) []string {
	about := CosignTag(digest)
	if about == "" {
		return nil
	}
	tags := []string{about}
	for _, suffix := range CosignSuffixes {
		tags = append(tags, about+suffix)
	}
	return tags
}

// Subject returns the digest of the manifest that a tag is about, if its name is
// made of that. The suffix is one of [CosignSuffixes], or empty for the referrers
// tag of the distribution specification (section "Referrers Tag Schema"), which
// clients maintain by themselves.
func Subject(tag string) (digest ociregistry.Digest, suffix string, ok bool) {
	rest, ok := strings.CutPrefix(tag, "sha256-")
	if !ok || len(rest) < 64 || strings.Trim(rest[:64], "0123456789abcdef") != "" {
		return "", "", false
	}
	hex, suffix := rest[:64], rest[64:]
	if suffix != "" && !slices.Contains(CosignSuffixes, suffix) {
		return "", "", false
	}
	return ociregistry.Digest("sha256:" + hex), suffix, true
}
