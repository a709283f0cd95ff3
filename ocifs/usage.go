package ocifs

import (
	"context"

	"github.com/seed-40b21970/oci/ociregistry"
)

var _ ociregistry.UsageReporter = (*Registry)(nil)

// Usage implements [ociregistry.UsageReporter]. The size of a blob is what manifests say, or
// what its file has if they do not agree or none names it. The size of a manifest is what
// index.json says.
//
// What this Registry changes counts at once, and what others change that have the directory
// open counts with the next call. What other programs do to index.json counts when a call
// notices it, and all else that they do after the next [Registry.GC], or in the next process.
//
// The first call of a process looks at the directories of all repositories, and counts those
// that have changed since the last process wrote down what they have, which it does now and
// then and when it is closed. A later call takes a few calls of the system, and some more for
// each repository that others are changing or have changed since the call before. Such a
// repository is counted, by listing the names of its blobs. That takes at most a twentieth of
// the time: in a repository with very many blobs, what others have just pushed may not count
// yet. If ReadOnly is set, each call looks at the directories of all repositories.
//
// From the first call on, which leaves a note in the directory, each process appends a line to
// a file when it has folded a journal. A directory whose Usage nobody has asked for has no such
// cost.
//
// Errors: [ociregistry.ErrNameInvalid], and those of the filesystem.
func (r *Registry) Usage(ctx context.Context, prefix string) (int64, error) {
	n, err := r.usageBelow(ctx, prefix)
	return n, opError(err, "Usage", prefix, "")
}

func (r *Registry) usageBelow(ctx context.Context, prefix string) (int64, error) {
	if prefix != "" {
		if err := ociregistry.CheckRepository(prefix); err != nil {
			return 0, err
		}
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := r.repos.Usable(); err != nil {
		return 0, err
	}
	return r.reporter.Below(ctx, prefix)
}
