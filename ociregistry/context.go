package ociregistry

import (
	"context"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
)

// Two things that a caller may know and few backends need travel in the
// context of a call, where wrappers pass them on untouched.

type pushConditionKey struct{}
type digestAlgorithmKey struct{}

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
