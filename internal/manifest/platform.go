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
	Runs bool // its platform is one of those asked for
	Kept bool // it runs, or belongs to an entry that does
}

// attests is the annotation in which BuildKit names the image, of the same index, that a
// manifest with attestations is about. The platform of such a manifest is "unknown".
const attests = "vnd.docker.reference.digest"

// Choose returns the entries of an index. Those that are for one of platforms, those that
// are about these, and indexes without a platform are Kept. The error wraps
// [ociregistry.ErrManifestInvalid].
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

// MatchesPlatform reports whether p matches one of platforms. Empty fields of these match
// anything.
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

// Variant returns the variant of p. It returns "" for the only variant of arm64, v8, which
// platforms may omit (OCI image specification, "Platform Variants").
func Variant(p ocispec.Platform) string {
	if p.Architecture == "arm64" && p.Variant == "v8" {
		return ""
	}
	return p.Variant
}
