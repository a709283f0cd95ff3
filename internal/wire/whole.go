package wire

import "context"

// wholeKey is the key of contexts that [WithWholeUpload] returns.
type wholeKey struct{}

// WithWholeUpload returns a context for resuming an upload session at its end, by one who
// expects nothing to be there yet, and commits the session with what follows. The digest says
// in the end whether that was right, so a client need not ask for the position of a session that
// it has just begun.
func WithWholeUpload(ctx context.Context) context.Context {
	return context.WithValue(ctx, wholeKey{}, true)
}

// IsWholeUpload reports whether a context is one that [WithWholeUpload] returned.
func IsWholeUpload(ctx context.Context) bool { return ctx.Value(wholeKey{}) != nil }
