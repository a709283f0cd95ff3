package ociregistry

import (
	"context"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
)

// Optional information about a call, which few backends need, is in the context of the
// call. Wrappers pass it on without knowing about it.

type pushConditionKey struct{}
type digestAlgorithmKey struct{}
type allowanceKey struct{}
type referrersAfterKey struct{}
type inspectionKey struct{}

// PushCondition says what the ref of a PushManifest must resolve to just before the
// push. It corresponds to If-Match and If-None-Match in HTTP (RFC 9110, section 13.1).
// With it, two writers that update one tag do not overwrite each other's changes
// unknowingly. [AnyManifest] in a list matches every manifest.
type PushCondition struct {
	IfMatch     []Digest // if not nil, ref must resolve to one of these
	IfNoneMatch []Digest // if not nil, ref must not resolve to any of these
}

// AnyManifest in a [PushCondition] matches every manifest.
const AnyManifest Digest = "*"

// Check returns nil if the condition holds when ref resolves to current, or to nothing
// if current is empty. Otherwise it returns an error that wraps [ErrPreconditionFailed].
func (c PushCondition) Check(current Digest) error {
	if c.IfMatch != nil && !matchManifest(c.IfMatch, current) {
		if current == "" {
			return fmt.Errorf("%w: there is no such manifest", ErrPreconditionFailed)
		}
		return fmt.Errorf("%w: the manifest is now %s", ErrPreconditionFailed, current)
	}
	if c.IfNoneMatch != nil && matchManifest(c.IfNoneMatch, current) {
		return fmt.Errorf("%w: the manifest is %s", ErrPreconditionFailed, current)
	}
	return nil
}

func matchManifest(list []Digest, current Digest) bool {
	return current != "" && (slices.Contains(list, current) || slices.Contains(list, AnyManifest))
}

// WithPushCondition returns a context in which PushManifest checks c. A backend checks it
// in the same atomic step in which it stores the manifest.
func WithPushCondition(ctx context.Context, c PushCondition) context.Context {
	return context.WithValue(ctx, pushConditionKey{}, c)
}

// PushConditionFrom returns the condition in ctx. If there is none, it returns the zero
// PushCondition, which always holds.
func PushConditionFrom(ctx context.Context) PushCondition {
	c, _ := ctx.Value(pushConditionKey{}).(PushCondition)
	return c
}

// WithDigestAlgorithm returns a context that tells PushBlobChunked the algorithm of the
// blob's digest, so that the bytes can be hashed as they arrive. It is only a hint. If
// there is none, or if Commit names another algorithm, the upload succeeds too, but the
// content may be read a second time.
func WithDigestAlgorithm(ctx context.Context, alg digest.Algorithm) context.Context {
	return context.WithValue(ctx, digestAlgorithmKey{}, alg)
}

// DigestAlgorithmFrom returns the algorithm in ctx, or SHA-256 if there is none.
func DigestAlgorithmFrom(ctx context.Context) digest.Algorithm {
	if alg, ok := ctx.Value(digestAlgorithmKey{}).(digest.Algorithm); ok {
		return alg
	}
	return digest.SHA256
}

// WithReferrersAfter returns a context that tells Referrers that the caller needs only
// the descriptors whose digests are greater than after, in byte order. With it, a page of
// a long list costs less than all the pages before it. It is only a hint, which a backend
// may ignore; the caller skips the descriptors that it does not need. An empty after
// removes the hint. A wrapper that stores a list, or asks a different registry, must
// remove it first.
func WithReferrersAfter(ctx context.Context, after Digest) context.Context {
	if ReferrersAfter(ctx) == after {
		return ctx
	}
	return context.WithValue(ctx, referrersAfterKey{}, after)
}

// ReferrersAfter returns the digest of [WithReferrersAfter] in ctx, or an empty one if
// there is none.
func ReferrersAfter(ctx context.Context) Digest {
	after, _ := ctx.Value(referrersAfterKey{}).(Digest)
	return after
}

// allowance is what a context allows although the contract forbids it.
type allowance struct{ missing, inUse bool }

func allowanceFrom(ctx context.Context) allowance {
	a, _ := ctx.Value(allowanceKey{}).(allowance)
	return a
}

// AllowMissing returns a context in which PushManifest accepts a manifest that names
// content which the repository does not have. A cache needs it, because it has the
// manifest before the blobs. Content that is present must still have the size in the
// manifest. Another push of the same manifest without the allowance checks again that
// everything is present.
//
// A backend that does not know the allowance returns [ErrManifestBlobUnknown] as usual.
// The allowance is not transmitted to a remote registry.
func AllowMissing(ctx context.Context) context.Context {
	a := allowanceFrom(ctx)
	a.missing = true
	return context.WithValue(ctx, allowanceKey{}, a)
}

// MissingAllowed reports whether ctx is a context of [AllowMissing].
func MissingAllowed(ctx context.Context) bool { return allowanceFrom(ctx).missing }

// AllowInUse returns a context in which DeleteBlob and DeleteManifest delete content
// although a manifest of the repository names it. A cache needs it to delete a blob and
// keep the manifest.
//
// A backend that does not know the allowance returns [ErrInUse] as usual. The allowance
// is not transmitted to a remote registry.
func AllowInUse(ctx context.Context) context.Context {
	a := allowanceFrom(ctx)
	a.inUse = true
	return context.WithValue(ctx, allowanceKey{}, a)
}

// InUseAllowed reports whether ctx is a context of [AllowInUse].
func InUseAllowed(ctx context.Context) bool { return allowanceFrom(ctx).inUse }

// WithoutAllowances returns a context like ctx without the allowances of [AllowMissing]
// and [AllowInUse]. A server uses it for the requests of its clients.
func WithoutAllowances(ctx context.Context) context.Context {
	if allowanceFrom(ctx) == (allowance{}) {
		return ctx
	}
	return context.WithValue(ctx, allowanceKey{}, allowance{})
}

// WithInspection returns a context for reads of somebody who looks at a registry, and does
// not pull from it. GetManifest and GetTag in it do not count as pulls, by which retention
// policies keep tags, and do not make a cache fetch the rest of an image. The inspection is
// not transmitted to a remote registry.
func WithInspection(ctx context.Context) context.Context {
	if IsInspection(ctx) {
		return ctx
	}
	return context.WithValue(ctx, inspectionKey{}, true)
}

// IsInspection reports whether ctx is a context of [WithInspection].
func IsInspection(ctx context.Context) bool { return ctx.Value(inspectionKey{}) != nil }
