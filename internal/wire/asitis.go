package wire

import "context"

// asItIsKey is the key of contexts that [WithCommitAsItIs] returns.
type asItIsKey struct{}

// WithCommitAsItIs returns a context for resuming an upload session at its end, by one who
// commits it as it is. A backend need not find out where that is, unless the writer is asked for
// its size: the digest says whether the session is what the client takes it for.
func WithCommitAsItIs(ctx context.Context) context.Context {
	return context.WithValue(ctx, asItIsKey{}, true)
}

// IsCommitAsItIs reports whether a context is one that [WithCommitAsItIs] returned.
func IsCommitAsItIs(ctx context.Context) bool { return ctx.Value(asItIsKey{}) != nil }
