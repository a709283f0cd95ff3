package manifest

import (
	"encoding/json"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Entry is an element of the manifests of an index.
type Entry struct {
	Ref  Ref
	Text json.RawMessage
	Runs bool // its platform was chosen
	Kept bool // it runs, or belongs to what does
}

// attests is the annotation by which BuildKit says which image of the same index a
// manifest with attestations is about. That has a platform of its own, which is
// unknown.
const attests = "vnd.docker.reference.digest"

// Choose finds the entries of an index that are for one of platforms, those that are
// about these, and the indexes among them that do not say what they are for. The error
// wraps [ociregistry.ErrManifestInvalid].
func Choose(index []byte, children []Ref, platforms []ocispec.Platform) ([]Entry, error) {
	unreadable := invalid("its platforms cannot be read")
	var fields map[string]json.RawMessage
	var texts []json.RawMessage
	if json.Unmarshal(index, &fields) != nil || json.Unmarshal(fields["manifests"], &texts) != nil || len(texts) != len(children) {
		return nil, unreadable
	}
	entries := make([]Entry, len(children))
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
		e := Entry{Ref: children[i], Text: text}
		image, isAbout := parsed.Annotations[attests].(string)
		switch {
		case isAbout:
			about[i] = ociregistry.Digest(image)
		case parsed.Platform != nil:
			e.Runs = MatchesPlatform(*parsed.Platform, platforms)
			e.Kept = e.Runs
			running[e.Ref.Digest] = running[e.Ref.Digest] || e.Runs
		default:
			e.Kept = IsIndex(e.Ref.MediaType)
		}
		entries[i] = e
	}
	for i, image := range about {
		entries[i].Kept = running[image]
	}
	return entries, nil
}

// MatchesPlatform reports whether p is one of platforms, whose empty fields match
// everything.
func MatchesPlatform(p ocispec.Platform, platforms []ocispec.Platform) bool {
	for _, want := range platforms {
		if matches(p.OS, want.OS) && matches(p.Architecture, want.Architecture) &&
			matches(Variant(p), Variant(want)) && matches(p.OSVersion, want.OSVersion) {
			return true
		}
	}
	return false
}

func matches(has, want string) bool { return want == "" || has == want }

// Variant returns the variant of p. Of arm64 there is one alone, v8, which may or
// may not be written (OCI image specification, "Platform Variants").
func Variant(p ocispec.Platform) string {
	if p.Architecture == "arm64" && p.Variant == "v8" {
		return ""
	}
	return p.Variant
}
