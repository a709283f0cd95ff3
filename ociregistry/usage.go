package ociregistry

import "context"

// UsageReporter is a registry that knows how much its repositories hold. The cost of asking
// depends neither on how much that is, nor on the number of repositories, except perhaps for
// the first time.
type UsageReporter interface {
	Interface

	// Usage returns the number of bytes of the blobs and manifests of a repository and of
	// all repositories below it: a is above a/b, and not above ab. The empty prefix is
	// above all. A blob counts in each repository that has it, and what was pushed as a
	// blob and as a manifest counts as both; uploads do not count. The repository need not
	// exist.
	//
	// Errors: [ErrNameInvalid].
	Usage(ctx context.Context, prefix string) (int64, error)
}
