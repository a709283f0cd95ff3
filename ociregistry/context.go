package ociregistry

import (
	"context"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
)

// What a caller may say of a call, and few backends need, travels in the context
// of the call, where wrappers pass it on untouched.

type pushConditionKey struct{}
type digestAlgorithmKey struct{}
type allowanceKey struct{}
type referrersAfterKey struct{}

// PushCondition says what the ref of a PushManifest must resolve to just before
// the push. It is what If-Match and If-None-Match are in HTTP (RFC 9110,
// section 13.1); with it, two writers that update one tag cannot overwrite each
// other unawares. [AnyManifest] in a list stands for every manifest.
type PushCondition struct {
	IfMatch     []Digest // if not nil, one of these must be what ref resolves to
	IfNoneMatch []Digest // if not nil, none of these may be
}

// AnyManifest in a [PushCondition] matches whatever manifest there is.
const AnyManifest Digest = "*"

// Check returns nil if the condition holds when ref resolves to current, which
// is empty when it resolves to nothing; else it returns an error that wraps
// [ErrPreconditionFailed].
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

// WithPushCondition returns a context that makes PushManifest check c. A
// backend checks it in the same atomic step in which it stores the manifest.
func WithPushCondition(ctx context.Context, c PushCondition) context.Context {
	return context.WithValue(ctx, pushConditionKey{}, c)
}

// PushConditionFrom returns the condition that ctx carries. Without one it
// returns the zero PushCondition, which always holds.
func PushConditionFrom(ctx context.Context) PushCondition {
	c, _ := ctx.Value(pushConditionKey{}).(PushCondition)
	return c
}

// WithDigestAlgorithm returns a context that tells PushBlobChunked with which
// algorithm the blob will be named, so that its bytes can be hashed as they
// come. It is only a hint: without it, or when Commit names another algorithm,
// the upload succeeds all the same but its content may be read a second time.
func WithDigestAlgorithm(ctx context.Context, alg digest.Algorithm) context.Context {
	return context.WithValue(ctx, digestAlgorithmKey{}, alg)
}

// DigestAlgorithmFrom returns the algorithm that ctx carries, else SHA-256.
func DigestAlgorithmFrom(ctx context.Context) digest.Algorithm {
	if alg, ok := ctx.Value(digestAlgorithmKey{}).(digest.Algorithm); ok {
		return alg
	}
	return digest.SHA256
}

// WithReferrersAfter returns a context that tells Referrers that the caller has no
// use for descriptors whose digests are not greater than after, in byte order: a
// page of a long list need not cost what all the pages before it did. It is only a
// hint, which a backend may leave alone; the caller passes over what it did not want.
// Whoever keeps a list, or asks another registry than the caller did, takes the hint
// out first: with an empty after there is none.
func WithReferrersAfter(ctx context.Context, after Digest) context.Context {
	if ReferrersAfter(ctx) == after {
		return ctx
	}
	return context.WithValue(ctx, referrersAfterKey{}, after)
}

// ReferrersAfter returns the digest that [WithReferrersAfter] has put into ctx, else
// the empty one.
func ReferrersAfter(ctx context.Context) Digest {
	after, _ := ctx.Value(referrersAfterKey{}).(Digest)
	return after
}

// allowance is what a context allows that the contract forbids.
type allowance struct{ missing, inUse bool }

func allowanceFrom(ctx context.Context) allowance {
	a, _ := ctx.Value(allowanceKey{}).(allowance)
	return a
}

// AllowMissing returns a context in which PushManifest accepts a manifest that
// names content which is not in the repository. A cache pushes this way: it has
// the manifest before the blobs. What is present must still have the size that
// the manifest says. Another push of the same manifest, without the allowance,
// checks again that everything is present.
//
// A backend that does not know the allowance answers [ErrManifestBlobUnknown], as
// it does without. It does not reach a remote registry.
func AllowMissing(ctx context.Context) context.Context {
	a := allowanceFrom(ctx)
	a.missing = true
	return context.WithValue(ctx, allowanceKey{}, a)
}

// MissingAllowed reports whether ctx allows that content is missing.
func MissingAllowed(ctx context.Context) bool { return allowanceFrom(ctx).missing }

// AllowInUse returns a context in which DeleteBlob and DeleteManifest remove
// content although a manifest of the repository names it. A cache deletes this
// way: it lets go of a blob and keeps the manifest.
//
// A backend that does not know the allowance answers [ErrInUse], as it does
// without. It does not reach a remote registry.
func AllowInUse(ctx context.Context) context.Context {
	a := allowanceFrom(ctx)
	a.inUse = true
	return context.WithValue(ctx, allowanceKey{}, a)
}

// InUseAllowed reports whether ctx allows that content in use is deleted.
func InUseAllowed(ctx context.Context) bool { return allowanceFrom(ctx).inUse }

// WithoutAllowances returns a context that allows nothing of what [AllowMissing]
// and [AllowInUse] do, and is otherwise ctx. A server uses it for what its clients
// ask for.
func WithoutAllowances(ctx context.Context) context.Context {
	if allowanceFrom(ctx) == (allowance{}) {
		return ctx
	}
	return context.WithValue(ctx, allowanceKey{}, allowance{})
}
