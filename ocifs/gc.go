package ocifs

import (
	"context"
	"fmt"

	"github.com/seed-40b21970/oci/ocifs/internal/garbage"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

var _ ocigc.Collector = (*Registry)(nil)

// GC implements [ocigc.Collector]. It can run in several processes at once that have the
// directory open, and beside others. See "Garbage" in the documentation of the package.
//
// Errors: those of [ocigc.Collector], and [ociregistry.ErrDenied] if the registry is
// read-only, except in a dry run.
func (r *Registry) GC(ctx context.Context, opts *ocigc.Options) (*ocigc.Report, error) {
	err := r.repos.Usable()
	if err == nil && r.opts.ReadOnly && (opts == nil || !opts.DryRun) {
		err = fmt.Errorf("%w: the registry is read-only", ociregistry.ErrDenied)
	}
	if err != nil {
		return nil, opError(err, "GC", "", "")
	}
	c := garbage.Collector{Repos: r.repos, Store: r.store, Quota: r.quota, Uploads: r.uploads, Pulls: r.pulls, Work: r.work}
	defer r.reporter.LookAtAll()
	return c.GC(ctx, opts)
}
