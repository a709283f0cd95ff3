package ocicopy

import "github.com/seed-40b21970/oci/ociregistry"

// Kind is what an [Item] is.
type Kind string

// The kinds of item.
const (
	Blob     Kind = "blob"
	Manifest Kind = "manifest"
)

// Action is what [Copy] did with an [Item], or what [Plan] says that it would do.
type Action string

// The actions.
const (
	Copied  Action = "copied"  // read from the source and written to the destination
	Made    Action = "made"    // a new index, written to the destination: see the DropOthers field of [Options]
	Mounted Action = "mounted" // mounted from another repository of the destination
	Present Action = "present" // already at the destination
	Skipped Action = "skipped" // not copied: see the NonDistributable, Platforms and SkipBrokenReferrers fields of [Options]
)

// Item is a blob or a manifest of a copy.
type Item struct {
	Kind   Kind
	Action Action

	// Descriptor has the media type, the digest and the size in bytes. The size of a
	// blob is that in the manifest.
	Descriptor ociregistry.Descriptor

	// Tags are the tags that were set to a manifest, which may have been Present.
	Tags []string

	// From is the repository that a blob was Mounted from.
	From string

	// MadeOf is the digest of the source's index that a new index was made of. It is
	// empty for all other items.
	MadeOf ociregistry.Digest
}

// Result says what [Copy] did, or what it would do.
type Result struct {
	// Descriptor is the manifest that was copied, as the destination has it now. It can
	// be the manifest of one platform or a new index: see the Platforms and DropOthers
	// fields of [Options].
	Descriptor ociregistry.Descriptor

	// MadeOf is the digest of the source's index if the destination has a new one
	// instead. Otherwise it is empty.
	MadeOf ociregistry.Digest

	// Items are the blobs and manifests that were examined, blobs first. With
	// TrustDestination, the content below a manifest that the destination had is not
	// included.
	Items []Item

	// Missing are the referrers that were not copied: those that the source lists but
	// does not have, and those that it cannot deliver in full. See the
	// SkipBrokenReferrers field of [Options].
	Missing []Referrer
}

// Referrer is a referrer that was not copied, or a list of referrers that could not be
// read.
type Referrer struct {
	Subject ociregistry.Digest // the manifest that it refers to

	// Descriptor is what the source lists. It is zero for a list that could not be
	// read, and for a tag that could not be resolved.
	Descriptor ociregistry.Descriptor

	Tag string // cosign's tag, if it is stored under one
	Err error  // why it was not copied
}

// Unchanged reports whether the destination had everything, and nothing was written.
func (r Result) Unchanged() bool {
	for _, item := range r.Items {
		if item.Action == Copied || item.Action == Made || item.Action == Mounted || len(item.Tags) > 0 {
			return false
		}
	}
	return true
}

// Count returns the number of items with the given kind and action, and the sum of their
// sizes in bytes.
func (r Result) Count(kind Kind, action Action) (items int, bytes int64) {
	for _, item := range r.Items {
		if item.Kind == kind && item.Action == action {
			items++
			bytes = addSizes(bytes, item.Descriptor.Size)
		}
	}
	return items, bytes
}

// addSizes adds sizes, which manifests may claim to be anything, without overflow.
func addSizes(a, b int64) int64 {
	if sum := a + b; sum >= 0 {
		return sum
	}
	return 1<<63 - 1
}
