package ocitest

import (
	"strings"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Options says how a registry differs from a complete one. With the zero Options,
// everything must work.
type Options struct {
	// Absent is the set of capabilities that the registry does not have. Their methods
	// must return ErrUnsupported. Capabilities that depend on them are absent too, such
	// as MountFromAny without Mount.
	Absent Capability

	// Denied is the set of capabilities that the registry does not allow to be used.
	// Their methods must return ErrDenied.
	Denied Capability

	// Below returns the registry beneath r, which is a registry of newRegistry. The suite
	// pushes to it the content that r must show. It is needed if r cannot push blobs or
	// manifests. If it is nil, the suite pushes to r.
	Below func(r ociregistry.Interface) ociregistry.Interface

	// Remote declares that calls go through HTTP, which loses some information. The
	// Resolve methods may report an unknown repository as unknown content. The error of
	// a mount that failed may be ErrUnsupported. A BlobWriter may buffer bytes until
	// Close or Commit, and may notice only then that its session has moved on or has
	// ended; a Commit without buffered bytes may not notice that the session has moved
	// on. Allowances are absent.
	Remote bool

	// Sparse declares that the registry accepts manifests whose content is missing, and
	// allows blobs to be deleted while manifests name them.
	Sparse bool

	// AdoptsUploadIDs declares that an upload id which the registry never issued may
	// begin a session at offset 0 rather than be unknown. Until the session has begun,
	// resuming it at offset -1 must return ErrBlobUploadUnknown.
	AdoptsUploadIDs bool

	// Patience is the time after which a call that must not block has failed. It matters
	// only if something is wrong. Zero means half a minute.
	Patience time.Duration
}

// Capability is a set of capabilities of a registry.
type Capability uint

// The capabilities. Reading by digest and tag is not among them, because the suite cannot
// check anything without it.
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

	// Allowances are those of ociregistry.AllowMissing and ociregistry.AllowInUse. A
	// registry without them returns ErrManifestBlobUnknown and ErrInUse as usual, and
	// not ErrUnsupported.
	Allowances
)

// Sets of capabilities that are often absent together.
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

// closure returns c and the capabilities that depend on it.
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
