package ocitest

import (
	"strings"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Options says where a registry differs from a complete one. The zero Options
// means that everything has to work.
type Options struct {
	// Absent is what the registry cannot do: it answers ErrUnsupported. What
	// cannot be had without it is absent too, such as MountFromAny without
	// Mount.
	Absent Capability

	// Denied is what the registry does not allow, though it could: it answers
	// ErrDenied.
	Denied Capability

	// Below returns the registry beneath r, through which the suite puts the
	// content that r must show; r is what newRegistry returned. It is needed
	// when r can push no blobs or manifests. If nil, it is r itself.
	Below func(r ociregistry.Interface) ociregistry.Interface

	// Remote says that calls go through HTTP, which costs some precision. An
	// unknown repository may look like unknown content to the Resolve methods.
	// Why a mount failed is not told: it may be ErrUnsupported. A BlobWriter
	// may hold bytes back until Close or Commit, and find out only then that
	// its session is elsewhere or gone; nor does its Commit say where it is
	// when it has no bytes to send. Allowances are absent.
	Remote bool

	// Sparse says that a manifest is accepted when what it names is not there,
	// and that a blob can be deleted while manifests name it.
	Sparse bool

	// AdoptsUploadIDs says that an upload id that the registry never issued
	// may begin a session at offset 0, instead of being unknown. Where such a
	// session is, at offset -1, is unknown all the same until it has begun.
	AdoptsUploadIDs bool

	// Patience is how long a call that must not block may take. Zero is ten
	// seconds. It only matters when something is wrong.
	Patience time.Duration
}

// Capability is a set of things that a registry can do.
type Capability uint

// The capabilities. Reading by digest and tag is not among them: without it
// nothing can be checked.
const (
	PushBlobs        Capability = 1 << iota // PushBlob
	PushChunks                              // PushBlobChunked and PushBlobChunkedResume
	ResumeUploads                           // PushBlobChunkedResume
	Mount                                   // MountBlob
	MountFromAny                            // MountBlob with an empty fromRepo
	PushManifests                           // PushManifest
	MoveTags                                // PushManifest that changes what is there; DeleteManifest of one with tags
	Conditions                              // PushManifest with a PushCondition
	DeleteBlobs                             // DeleteBlob
	DeleteManifests                         // DeleteManifest
	DeleteTags                              // DeleteTag
	ListRepositories                        // Repositories
	ListTags                                // Tags
	ListReferrers                           // Referrers

	// Allowances are what AllowMissing and AllowInUse of package ociregistry ask
	// for. A registry from which they are absent answers ErrManifestBlobUnknown and
	// ErrInUse, as it does without them, and not ErrUnsupported.
	Allowances
)

// Sets of capabilities that tend to be absent together.
const (
	Deletes = DeleteBlobs | DeleteManifests | DeleteTags
	Writes  = PushBlobs | PushChunks | ResumeUploads | Mount | MountFromAny | PushManifests | MoveTags | Conditions
)

var capabilityNames = []string{
	"PushBlobs", "PushChunks", "ResumeUploads", "Mount", "MountFromAny", "PushManifests", "MoveTags", "Conditions",
	"DeleteBlobs", "DeleteManifests", "DeleteTags", "ListRepositories", "ListTags", "ListReferrers", "Allowances",
}

// String returns the names of the capabilities in c.
func (c Capability) String() string {
	var names []string
	for i, name := range capabilityNames {
		if c&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, "|")
}

// closure returns c and what cannot be had without it.
func (c Capability) closure() Capability {
	if c&PushChunks != 0 {
		c |= ResumeUploads
	}
	if c&Mount != 0 {
		c |= MountFromAny
	}
	if c&PushManifests != 0 {
		c |= MoveTags | Conditions
	}
	return c
}
