package serve

import (
	"context"
	"iter"
	"log/slog"

	"github.com/seed-40b21970/oci/internal/byrepo"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocicopy"
	"github.com/seed-40b21970/oci/ociunify"
)

// router is a registry to read from. Repositories that the rules of a mirror lead to come
// from its sources, and all others from the origin.
type router struct {
	byrepo.Base
	byrepo.Reads
	routes          *ocicopy.Mirror
	sources, origin ociregistry.Interface
	lister          ociregistry.Lister
}

// newRouter returns a router. It lists the repositories of the origin and of the local
// registry, because sources may be unable to list theirs.
func newRouter(routes *ocicopy.Mirror, origin, local ociregistry.Interface, logger *slog.Logger) router {
	r := router{
		routes:  routes,
		sources: ociunify.Origins(routes.OnDemand(), &ociunify.OriginsOptions{Logger: logger}),
		origin:  origin,
		lister:  ociunify.New(origin, local, nil),
	}
	r.Reads = r.to
	return r
}

// to returns the registry that has a repository.
func (r router) to(repo string) ociregistry.Interface {
	if len(r.routes.Origins(repo)) > 0 {
		return r.sources
	}
	return r.origin
}

func (r router) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	return r.lister.Repositories(ctx, startAfter)
}
