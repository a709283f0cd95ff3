package ociunify

import (
	"context"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Lookup is a call that read a blob, a manifest or a tag through a [Cache], and says where the
// answer came from. See [CacheOptions.OnLookup].
type Lookup struct {
	// Method is the name of the method of [ociregistry.Reader], such as "GetTag".
	Method string

	// Repository is the repository that the call named.
	Repository string

	// Reference is the digest or the tag that the call named.
	Reference string

	// Manifest reports whether the call was about a manifest or a tag rather than a blob.
	Manifest bool

	// Outcome says where the answer came from.
	Outcome Outcome

	// Err is the error of the call. It is nil unless Outcome is OutcomeAbsent,
	// OutcomeNotFound or OutcomeFailed.
	Err error
}

// Outcome says where the answer to a [Lookup] came from.
type Outcome string

const (
	// OutcomeHit is an answer from what is kept, without the origin.
	OutcomeHit Outcome = "hit"

	// OutcomeChecked is an answer from what is kept, after the origin said where the tag
	// points.
	OutcomeChecked Outcome = "checked"

	// OutcomeStale is an answer from what is kept of a tag, because the origin failed or
	// did not answer in time.
	OutcomeStale Outcome = "stale"

	// OutcomeFetched is an answer from the origin. Callers that ask for the same at the
	// same time share one.
	OutcomeFetched Outcome = "fetched"

	// OutcomeAbsent is the answer that the content does not exist, which the origin gave
	// less than CacheOptions.NotFoundTTL ago.
	OutcomeAbsent Outcome = "absent"

	// OutcomeNotFound is the answer that the content does not exist, of the origin.
	OutcomeNotFound Outcome = "not_found"

	// OutcomeFailed is any other error: the origin refused or failed while nothing was
	// kept, the arguments were invalid, or the call's context ended.
	OutcomeFailed Outcome = "failed"
)

// resolved is a descriptor, and where it came from.
type resolved struct {
	desc    ociregistry.Descriptor
	outcome Outcome
}

// looked calls CacheOptions.OnLookup, which is not nil, for a call that returned err. If there is
// an error, the outcome counts only if it is OutcomeAbsent.
func (c *Cache) looked(ctx context.Context, k kind, at call.Call, o Outcome, err error) {
	switch {
	case err == nil || o == OutcomeAbsent:
	case notFound(err):
		o = OutcomeNotFound
	default:
		o = OutcomeFailed
	}
	c.opts.OnLookup(ctx, Lookup{Method: at.Op, Repository: at.Repository, Reference: at.Ref, Manifest: k != kindBlob, Outcome: o, Err: err})
}
