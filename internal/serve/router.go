package serve

import (
	"context"
	"iter"
	"log/slog"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocicopy"
	"github.com/seed-40b21970/oci/ociunify"
)

// router is a registry to read from. Repositories that the rules of a mirror lead to come
// from its sources, and all others from the origin.
type router struct {
	*ociregistry.Funcs
	routes          *ocicopy.Mirror
	sources, origin ociregistry.Interface
	lister          ociregistry.Lister
}

// newRouter returns a router. It lists the repositories of the origin and of the local
// registry, because sources may be unable to list theirs.
func newRouter(routes *ocicopy.Mirror, origin, local ociregistry.Interface, logger *slog.Logger) router {
	return router{
		routes:  routes,
		sources: ociunify.Origins(routes.OnDemand(), &ociunify.OriginsOptions{Logger: logger}),
		origin:  origin,
		lister:  ociunify.New(origin, local, nil),
	}
}

// to returns the registry that has a repository.
func (r router) to(repo string) ociregistry.Interface {
	if len(r.routes.Origins(repo)) > 0 {
		return r.sources
	}
	return r.origin
}

func (r router) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	return r.to(repo).GetBlob(ctx, repo, digest)
}

func (r router) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	return r.to(repo).GetBlobRange(ctx, repo, digest, offset0, offset1)
}

func (r router) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	return r.to(repo).GetManifest(ctx, repo, digest)
}

func (r router) GetTag(ctx context.Context, repo string, tag string) (ociregistry.BlobReader, error) {
	return r.to(repo).GetTag(ctx, repo, tag)
}

func (r router) ResolveBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	return r.to(repo).ResolveBlob(ctx, repo, digest)
}

func (r router) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	return r.to(repo).ResolveManifest(ctx, repo, digest)
}

func (r router) ResolveTag(ctx context.Context, repo string, tag string) (ociregistry.Descriptor, error) {
	return r.to(repo).ResolveTag(ctx, repo, tag)
}

func (r router) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	return r.lister.Repositories(ctx, startAfter)
}

func (r router) Tags(ctx context.Context, repo string, startAfter string) iter.Seq2[string, error] {
	return r.to(repo).Tags(ctx, repo, startAfter)
}

func (r router) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	return r.to(repo).Referrers(ctx, repo, digest, artifactType)
}
