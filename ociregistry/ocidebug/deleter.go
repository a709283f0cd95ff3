package ocidebug

import (
	"context"
	"log/slog"

	"github.com/seed-40b21970/oci/ociregistry"
)

func (r *registry) DeleteBlob(ctx context.Context, repo string, digest ociregistry.Digest) error {
	c := r.begin(ctx, slog.String("repository", repo), slog.String("digest", string(digest)))
	err := r.r.DeleteBlob(ctx, repo, digest)
	c.end("DeleteBlob", err)
	return err
}

func (r *registry) DeleteManifest(ctx context.Context, repo string, digest ociregistry.Digest) error {
	c := r.begin(ctx, slog.String("repository", repo), slog.String("digest", string(digest)))
	err := r.r.DeleteManifest(ctx, repo, digest)
	c.end("DeleteManifest", err)
	return err
}

func (r *registry) DeleteTag(ctx context.Context, repo string, name string) error {
	c := r.begin(ctx, slog.String("repository", repo), slog.String("tag", name))
	err := r.r.DeleteTag(ctx, repo, name)
	c.end("DeleteTag", err)
	return err
}
