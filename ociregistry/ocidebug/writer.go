package ocidebug

import (
	"context"
	"io"
	"log/slog"

	"github.com/seed-40b21970/oci/internal/watched"
	"github.com/seed-40b21970/oci/ociregistry"
)

// PushBlob does not count the bytes of content, because wrapping it would hide from r
// whether it can be read again.
func (r *registry) PushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, content io.Reader) (ociregistry.Descriptor, error) {
	c := r.begin(ctx, slog.String("repository", repo), slog.String("digest", string(desc.Digest)), slog.Int64("size", desc.Size))
	desc, err := r.r.PushBlob(ctx, repo, desc, content)
	c.end("PushBlob", err)
	return desc, err
}

func (r *registry) PushBlobChunked(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
	c := r.begin(ctx, slog.String("repository", repo))
	w, err := r.r.PushBlobChunked(ctx, repo, chunkSize)
	if err == nil {
		c.ofUpload(w.ID())
	}
	c.end("PushBlobChunked", err)
	return c.writer(w, err)
}

func (r *registry) PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
	c := r.begin(ctx, slog.String("repository", repo))
	c.ofUpload(id)
	w, err := r.r.PushBlobChunkedResume(ctx, repo, id, offset, chunkSize)
	c.end("PushBlobChunkedResume", err, slog.Int64("offset", offset))
	return c.writer(w, err)
}

func (r *registry) MountBlob(ctx context.Context, fromRepo, toRepo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	c := r.begin(ctx, slog.String("repository", toRepo), slog.String("from", fromRepo), slog.String("digest", string(digest)))
	desc, err := r.r.MountBlob(ctx, fromRepo, toRepo, digest)
	c.end("MountBlob", err)
	return desc, err
}

func (r *registry) PushManifest(ctx context.Context, repo string, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	c := r.begin(ctx, slog.String("repository", repo), slog.String("ref", ref))
	if len(tags) > 0 {
		c.attrs = append(c.attrs, slog.Any("tags", tags))
	}
	c.attrs = append(c.attrs, slog.Int("size", len(contents)), slog.String("mediaType", mediaType))
	desc, err := r.r.PushManifest(ctx, repo, ref, contents, mediaType, tags...)
	c.endWith("PushManifest", err, desc)
	return desc, err
}

// writer returns a writer that counts the bytes that are written to w.
func (c *call) writer(w ociregistry.BlobWriter, err error) (ociregistry.BlobWriter, error) {
	if err != nil {
		return w, err
	}
	return watched.Writer(w, c.ended), nil
}
