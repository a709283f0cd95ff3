package ociotel

import (
	"cmp"
	"context"
	"io"
	"strings"

	"go.opentelemetry.io/otel/attribute"

	"github.com/seed-40b21970/oci/internal/watched"
	"github.com/seed-40b21970/oci/ociregistry"
)

// PushBlob counts the bytes of a blob when it is there, because wrapping content would hide
// from r whether it can be read again.
func (r *registry) PushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, content io.Reader) (ociregistry.Descriptor, error) {
	c := r.begin(ctx, prefix+"PushBlob", repo)
	defer c.unwound()
	c.blob(desc.Digest)
	c.size(desc.Size)
	pushed, err := r.r.PushBlob(c.ctx, repo, desc, content)
	if err == nil {
		c.written(desc.Size)
	}
	c.end(err)
	return pushed, err
}

func (r *registry) PushBlobChunked(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
	c := r.begin(ctx, prefix+"PushBlobChunked", repo)
	defer c.unwound()
	return c.writer(r.r.PushBlobChunked(c.ctx, repo, chunkSize))
}

func (r *registry) PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
	c := r.begin(ctx, prefix+"PushBlobChunkedResume", repo)
	defer c.unwound()
	c.upload = id
	return c.writer(r.r.PushBlobChunkedResume(c.ctx, repo, id, offset, chunkSize))
}

func (r *registry) MountBlob(ctx context.Context, fromRepo, toRepo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	c := r.begin(ctx, prefix+"MountBlob", toRepo)
	defer c.unwound()
	c.blob(digest)
	if fromRepo != "" && c.span.IsRecording() {
		c.span.SetAttributes(attribute.String("oci.blob.from", fromRepo))
	}
	desc, err := r.r.MountBlob(c.ctx, fromRepo, toRepo, digest)
	c.end(err)
	return desc, err
}

func (r *registry) PushManifest(ctx context.Context, repo string, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	c := r.begin(ctx, prefix+"PushManifest", repo)
	defer c.unwound()
	if c.span.IsRecording() {
		c.pushing(ref, tags)
		c.span.SetAttributes(attribute.Int("oci.content.size", len(contents)), attribute.String("oci.content.media_type", mediaType))
	}
	desc, err := r.r.PushManifest(c.ctx, repo, ref, contents, mediaType, tags...)
	if err == nil {
		c.manifest(desc.Digest)
		c.written(int64(len(contents)))
	}
	c.end(err)
	return desc, err
}

// pushing adds what a push of a manifest names.
func (c *call) pushing(ref string, tags []string) {
	switch {
	case strings.Contains(ref, ":"):
		c.manifest(ociregistry.Digest(ref))
	case ref != "":
		tags = append([]string{ref}, tags...)
	}
	if len(tags) > 0 {
		c.tag(tags...)
	}
}

// written counts n bytes of content that are there.
func (c *call) written(n int64) {
	c.r.instruments.moved(c.ctx, c.r.instruments.written, c.method, c.repo, n)
}

// writer returns a writer that ends the call when it ends.
func (c *call) writer(w ociregistry.BlobWriter, err error) (ociregistry.BlobWriter, error) {
	if err == nil {
		c.upload = w.ID()
	}
	c.record(c.method, err)
	if err != nil {
		c.finish(err)
		return w, err
	}
	c.r.instruments.opened(c.ctx, c.repo, 1)
	return watched.Writer(w, c.endWriter), nil
}

// endWriter ends a call whose writer has ended. A Commit that failed does not end it: another
// may follow, or Close or Cancel.
func (c *call) endWriter(e watched.End) {
	c.record(e.Method, e.Err)
	if c.ended {
		return
	}
	if e.Method == "BlobWriter.Commit" {
		c.blob(e.Digest)
		if e.Err != nil {
			c.failed = e.Err
			return
		}
		c.failed = nil
	}
	c.ended = true
	c.r.instruments.opened(c.ctx, c.repo, -1)
	c.written(e.Bytes)
	c.moved(e.Bytes)
	c.finish(cmp.Or(e.Err, c.failed))
}
