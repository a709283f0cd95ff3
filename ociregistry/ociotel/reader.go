package ociotel

import (
	"context"

	"go.opentelemetry.io/otel/attribute"

	"github.com/seed-40b21970/oci/internal/watched"
	"github.com/seed-40b21970/oci/ociregistry"
)

func (r *registry) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	c := r.begin(ctx, prefix+"GetBlob", repo)
	defer c.unwound()
	c.blob(digest)
	return c.blobReader(r.r.GetBlob(c.ctx, repo, digest))
}

func (r *registry) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	c := r.begin(ctx, prefix+"GetBlobRange", repo)
	defer c.unwound()
	c.blob(digest)
	return c.blobReader(r.r.GetBlobRange(c.ctx, repo, digest, offset0, offset1))
}

func (r *registry) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	c := r.begin(ctx, prefix+"GetManifest", repo)
	defer c.unwound()
	c.manifest(digest)
	return c.manifestReader(r.r.GetManifest(c.ctx, repo, digest))
}

func (r *registry) GetTag(ctx context.Context, repo string, tagName string) (ociregistry.BlobReader, error) {
	c := r.begin(ctx, prefix+"GetTag", repo)
	defer c.unwound()
	c.tag(tagName)
	return c.manifestReader(r.r.GetTag(c.ctx, repo, tagName))
}

func (r *registry) ResolveBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	c := r.begin(ctx, prefix+"ResolveBlob", repo)
	defer c.unwound()
	c.blob(digest)
	desc, err := r.r.ResolveBlob(c.ctx, repo, digest)
	if err == nil {
		c.size(desc.Size)
	}
	c.end(err)
	return desc, err
}

func (r *registry) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	c := r.begin(ctx, prefix+"ResolveManifest", repo)
	defer c.unwound()
	c.manifest(digest)
	desc, err := r.r.ResolveManifest(c.ctx, repo, digest)
	return c.resolved(desc, err)
}

func (r *registry) ResolveTag(ctx context.Context, repo string, tagName string) (ociregistry.Descriptor, error) {
	c := r.begin(ctx, prefix+"ResolveTag", repo)
	defer c.unwound()
	c.tag(tagName)
	desc, err := r.r.ResolveTag(c.ctx, repo, tagName)
	return c.resolved(desc, err)
}

// resolved ends a call that returned the descriptor of a manifest.
func (c *call) resolved(desc ociregistry.Descriptor, err error) (ociregistry.Descriptor, error) {
	if err == nil {
		c.found(desc)
	}
	c.end(err)
	return desc, err
}

// blobReader returns a reader that ends the call when it is closed.
func (c *call) blobReader(rd ociregistry.BlobReader, err error) (ociregistry.BlobReader, error) {
	if err == nil {
		c.size(rd.Descriptor().Size)
	}
	return c.reader(rd, err)
}

// manifestReader is blobReader for a manifest.
func (c *call) manifestReader(rd ociregistry.BlobReader, err error) (ociregistry.BlobReader, error) {
	if err == nil {
		c.found(rd.Descriptor())
	}
	return c.reader(rd, err)
}

func (c *call) reader(rd ociregistry.BlobReader, err error) (ociregistry.BlobReader, error) {
	c.record(c.method, err)
	if err != nil {
		c.finish(err)
		return rd, err
	}
	return watched.Reader(rd, c.endReader), nil
}

// endReader ends a call whose reader was closed.
func (c *call) endReader(e watched.End) {
	c.record(e.Method, e.Err)
	c.r.instruments.moved(c.ctx, c.r.instruments.read, c.method, c.repo, e.Bytes)
	c.moved(e.Bytes)
	c.finish(e.Err)
}

// moved adds the number of bytes that a reader or writer has moved.
func (c *call) moved(n int64) {
	if c.span.IsRecording() {
		c.span.SetAttributes(attribute.Int64("oci.content.moved", n))
	}
}
