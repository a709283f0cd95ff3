package ociotel

import (
	"context"

	"github.com/seed-40b21970/oci/ociregistry"
)

func (r *registry) DeleteBlob(ctx context.Context, repo string, digest ociregistry.Digest) error {
	c := r.begin(ctx, prefix+"DeleteBlob", repo)
	defer c.unwound()
	c.blob(digest)
	err := r.r.DeleteBlob(c.ctx, repo, digest)
	c.end(err)
	return err
}

func (r *registry) DeleteManifest(ctx context.Context, repo string, digest ociregistry.Digest) error {
	c := r.begin(ctx, prefix+"DeleteManifest", repo)
	defer c.unwound()
	c.manifest(digest)
	err := r.r.DeleteManifest(c.ctx, repo, digest)
	c.end(err)
	return err
}

func (r *registry) DeleteTag(ctx context.Context, repo string, name string) error {
	c := r.begin(ctx, prefix+"DeleteTag", repo)
	defer c.unwound()
	c.tag(name)
	err := r.r.DeleteTag(c.ctx, repo, name)
	c.end(err)
	return err
}
