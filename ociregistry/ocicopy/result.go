package ocicopy

import "github.com/seed-40b21970/oci/ociregistry"

// Kind is what an [Item] is.
type Kind string

// The kinds of item.
const (
	Blob     Kind = "blob"
	Manifest Kind = "manifest"
)

// Action is what was done with an [Item], or will be.
type Action string

// The actions.
const (
	Copied  Action = "copied"  // read from the source, written to the destination
	Made    Action = "made"    // an index made of another one, and written: see the DropOthers field of [Options]
	Mounted Action = "mounted" // taken from another repository of the destination
	Present Action = "present" // the destination had it
	Skipped Action = "skipped" // left out: see the NonDistributable, Platforms and SkipBrokenReferrers fields of [Options]
)

// Item is a blob or a manifest of a copy.
type Item struct {
	Kind   Kind
	Action Action

	// Descriptor has the media type, the digest and the size in bytes. The size
	// of a blob is what the manifest says.
	Descriptor ociregistry.Descriptor

	// Tags are the tags that were set to a manifest, also to one that was
	// Present.
	Tags []string

	// From is the repository that a blob was Mounted from.
	From string

	// MadeOf is the digest of the source's index that this one was made of, if it
	// is not the source's.
	MadeOf ociregistry.Digest
}

// Result says what [Copy] did, or what it would do.
type Result struct {
	// Descriptor is the manifest that was asked for, as the destination has it
	// now. With platforms chosen it can be the manifest of one platform, or a new
	// index: see the fields Platforms and DropOthers of [Options].
	Descriptor ociregistry.Descriptor

	// MadeOf is the digest of the source's index of which the destination has a
	// new one. Otherwise it is empty.
	MadeOf ociregistry.Digest

	// Items are the blobs and the manifests that were looked at, the blobs
	// first. With TrustDestination, what is named by a manifest that the
	// destination had is not among them.
	Items []Item

	// Missing are referrers that the destination does not have after the copy:
	// those that the source lists and does not have, and those that it cannot give
	// in full. See the SkipBrokenReferrers field of [Options].
	Missing []Referrer
}

// Referrer is a manifest that is about another one, or several that are not known,
// which was not copied.
type Referrer struct {
	Subject ociregistry.Digest // what it is about

	// Descriptor is what the source lists. It is zero for a list that could not be
	// read, or a tag that could not be resolved.
	Descriptor ociregistry.Descriptor

	Tag string // of cosign, if it is kept under one
	Err error  // why it was not copied
}

// Unchanged reports that the destination had everything: nothing was written.
func (r Result) Unchanged() bool {
	for _, item := range r.Items {
		if item.Action == Copied || item.Action == Made || item.Action == Mounted || len(item.Tags) > 0 {
			return false
		}
	}
	return true
}

// Count returns the number of items of a kind with which action was done, and
// the sum of their sizes in bytes.
func (r Result) Count(kind Kind, action Action) (items int, bytes int64) {
	for _, item := range r.Items {
		if item.Kind == kind && item.Action == action {
			items++
			bytes = addSizes(bytes, item.Descriptor.Size)
		}
	}
	return items, bytes
}

// addSizes adds sizes, which manifests claim, without overflow.
func addSizes(a, b int64) int64 {
	if sum := a + b; sum >= 0 {
		return sum
	}
	return 1<<63 - 1
}
