package ocibucket

import (
	"context"

	"github.com/seed-40b21970/oci/ociregistry"
)

var _ ociregistry.UsageReporter = (*Registry)(nil)

// Usage implements [ociregistry.UsageReporter]. What this Registry changes counts at once. What others change counts
// within half a minute: each writes down every ten seconds what it has changed, and a call reads that if it was last
// read more than ten seconds ago. Between, a call makes no request. What a process has not written down when it
// is killed counts after the next [Registry.GC] of any process, and so does what becomes of a request that got no answer.
//
// The first call for a prefix lists the links of its repositories, and reads those that no manifest names. Of the others it
// takes the size that manifests say: only manifests that were pushed while the blob was missing can be wrong. After that, a call
// costs a LIST, a GET for each process that has changed something, one for each blob that was changed, and one
// for each repository whose log is longer. For two days after the last call of any process, all that change
// something make a GET and a PUT in ten seconds; else it is the GET alone.
//
// If ReadOnly is set, nobody is told that somebody asks. Then a call counts all anew, unless the last one was less than
// ten seconds ago.
//
// It takes some 50 bytes of memory for each blob of the repositories that are asked for.
//
// Errors: [ociregistry.ErrNameInvalid], and those of the store.
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
	return r.usage.Below(ctx, prefix)
}
