package ocidebug

import (
	"context"
	"log/slog"

	"github.com/seed-40b21970/oci/internal/watched"
	"github.com/seed-40b21970/oci/ociregistry"
)

func (r *registry) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	c := r.begin(ctx, slog.String("repository", repo), slog.String("digest", string(digest)))
	rd, err := r.r.GetBlob(ctx, repo, digest)
	return c.endReader("GetBlob", rd, err)
}

func (r *registry) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	c := r.begin(ctx, slog.String("repository", repo), slog.String("digest", string(digest)),
		slog.Int64("offset0", offset0), slog.Int64("offset1", offset1))
	rd, err := r.r.GetBlobRange(ctx, repo, digest, offset0, offset1)
	return c.endReader("GetBlobRange", rd, err)
}

func (r *registry) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	c := r.begin(ctx, slog.String("repository", repo), slog.String("digest", string(digest)))
	rd, err := r.r.GetManifest(ctx, repo, digest)
	return c.endReader("GetManifest", rd, err)
}

func (r *registry) GetTag(ctx context.Context, repo string, tagName string) (ociregistry.BlobReader, error) {
	c := r.begin(ctx, slog.String("repository", repo), slog.String("tag", tagName))
	rd, err := r.r.GetTag(ctx, repo, tagName)
	return c.endReader("GetTag", rd, err)
}

func (r *registry) ResolveBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	c := r.begin(ctx, slog.String("repository", repo), slog.String("digest", string(digest)))
	desc, err := r.r.ResolveBlob(ctx, repo, digest)
	c.endWith("ResolveBlob", err, desc)
	return desc, err
}

func (r *registry) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	c := r.begin(ctx, slog.String("repository", repo), slog.String("digest", string(digest)))
	desc, err := r.r.ResolveManifest(ctx, repo, digest)
	c.endWith("ResolveManifest", err, desc)
	return desc, err
}

func (r *registry) ResolveTag(ctx context.Context, repo string, tagName string) (ociregistry.Descriptor, error) {
	c := r.begin(ctx, slog.String("repository", repo), slog.String("tag", tagName))
	desc, err := r.r.ResolveTag(ctx, repo, tagName)
	c.endWith("ResolveTag", err, desc)
	return desc, err
}

// endReader ends a call that returned the reader rd, and returns a reader that writes a record
// when it is closed.
func (c *call) endReader(op string, rd ociregistry.BlobReader, err error) (ociregistry.BlobReader, error) {
	if err != nil {
		c.end(op, err)
		return rd, err
	}
	c.endWith(op, nil, rd.Descriptor())
	return watched.Reader(rd, c.ended), nil
}

// ended writes a record of the end of a reader or a writer.
func (c *call) ended(e watched.End) {
	var attrs []slog.Attr
	if e.Method == "BlobWriter.Commit" {
		attrs = append(attrs, slog.String("digest", string(e.Digest)))
	}
	c.end(e.Method, e.Err, append(attrs, slog.Int64("bytes", e.Bytes))...)
}
