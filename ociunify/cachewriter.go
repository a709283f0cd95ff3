package ociunify

import (
	"context"
	"io"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
)

// PushBlob implements [ociregistry.Writer.PushBlob].
func (c *Cache) PushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, r io.Reader) (ociregistry.Descriptor, error) {
	if !c.opts.WriteThrough {
		return c.Funcs.PushBlob(ctx, repo, desc, r)
	}
	at := call.New("PushBlob", repo, string(desc.Digest))
	if err := checkDigest(at); err != nil {
		return ociregistry.Descriptor{}, err
	}
	defer c.added()
	h := holding{kindBlob, repo, desc.Digest}
	if desc.Size < 0 || !c.purge(ctx, h) || !c.ledger.reserve(ctx, kindBlob, repo, desc) {
		return c.origin.PushBlob(ctx, repo, desc, r)
	}
	w, err := c.cache.PushBlobChunked(ociregistry.WithDigestAlgorithm(context.WithoutCancel(ctx), desc.Digest.Algorithm()), repo, 0)
	if err != nil {
		c.warn("cannot keep a blob", at, err)
		c.ledger.drop(ctx, kindBlob, repo, desc.Digest)
		return c.origin.PushBlob(ctx, repo, desc, r)
	}
	kept := &tee{r: r, w: w}
	pushed, err := c.origin.PushBlob(ctx, repo, desc, kept)
	if err == nil && kept.err == nil {
		_, kept.err = w.Commit(desc.Digest)
	}
	if err == nil && kept.err == nil {
		c.ledger.confirm(kindBlob, repo, desc.Digest)
		return pushed, nil
	}
	if err == nil {
		c.warn("cannot keep a blob", at, kept.err)
	}
	w.Cancel()
	c.ledger.drop(ctx, kindBlob, repo, desc.Digest)
	return pushed, err
}

// tee writes what is read from r to w, until w fails.
type tee struct {
	r   io.Reader
	w   io.Writer
	err error // of w
}

func (t *tee) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if n > 0 && t.err == nil {
		_, t.err = t.w.Write(p[:n])
	}
	return n, err
}

// added is called when the origin may have content that it did not have before.
func (c *Cache) added() {
	if c.opts.NotFoundTTL > 0 {
		c.changes.Add(1)
	}
}

// PushBlobChunked implements [ociregistry.Writer.PushBlobChunked]. The session
// belongs to the origin. The blob is kept when it is first read.
func (c *Cache) PushBlobChunked(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
	if !c.opts.WriteThrough {
		return c.Funcs.PushBlobChunked(ctx, repo, chunkSize)
	}
	if err := checkVisible(call.New("PushBlobChunked", repo, "")); err != nil {
		return nil, err
	}
	w, err := c.origin.PushBlobChunked(ctx, repo, chunkSize)
	return c.uploading(w, err)
}

// PushBlobChunkedResume implements [ociregistry.Writer.PushBlobChunkedResume].
func (c *Cache) PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
	if !c.opts.WriteThrough {
		return c.Funcs.PushBlobChunkedResume(ctx, repo, id, offset, chunkSize)
	}
	if err := checkVisible(call.New("PushBlobChunkedResume", repo, "")); err != nil {
		return nil, err
	}
	w, err := c.origin.PushBlobChunkedResume(ctx, repo, id, offset, chunkSize)
	return c.uploading(w, err)
}

func (c *Cache) uploading(w ociregistry.BlobWriter, err error) (ociregistry.BlobWriter, error) {
	if err != nil || c.opts.NotFoundTTL <= 0 {
		return w, err
	}
	return &uploading{w, c}, nil
}

// uploading is a session that calls added when it is committed.
type uploading struct {
	ociregistry.BlobWriter
	cache *Cache
}

func (w *uploading) Commit(digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	defer w.cache.added()
	return w.BlobWriter.Commit(digest)
}

// MountBlob implements [ociregistry.Writer.MountBlob]. The blob is kept when it is
// first read.
func (c *Cache) MountBlob(ctx context.Context, fromRepo, toRepo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	if !c.opts.WriteThrough {
		return c.Funcs.MountBlob(ctx, fromRepo, toRepo, digest)
	}
	for _, repo := range []string{fromRepo, toRepo} {
		if err := checkVisible(call.New("MountBlob", repo, string(digest))); err != nil {
			return ociregistry.Descriptor{}, err
		}
	}
	defer c.added()
	return c.origin.MountBlob(ctx, fromRepo, toRepo, digest)
}

// PushManifest implements [ociregistry.Writer.PushManifest].
func (c *Cache) PushManifest(ctx context.Context, repo string, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	if !c.opts.WriteThrough {
		return c.Funcs.PushManifest(ctx, repo, ref, contents, mediaType, tags...)
	}
	at := call.New("PushManifest", repo, ref)
	if err := at.CheckPush(tags); err != nil {
		return ociregistry.Descriptor{}, err
	}
	if err := checkVisible(at); err != nil {
		return ociregistry.Descriptor{}, err
	}
	ctx = ociregistry.WithoutAllowances(ctx) // they are about a registry, not about a cache of one
	desc, err := c.origin.PushManifest(ctx, repo, ref, contents, mediaType, tags...)
	if err != nil {
		return desc, err
	}
	if call.IsTag(ref) {
		tags = append([]string{ref}, tags...)
	}
	c.changes.Add(1)
	for _, tag := range tags {
		c.known.forget(repo, tag)
	}
	m := manifestContent{contents: contents, desc: desc}
	m.desc.Size, m.desc.MediaType = int64(len(contents)), mediaType
	c.storeManifest(ctx, c.key(kindManifest, repo, string(desc.Digest)), m, tags...)
	return desc, nil
}

// DeleteBlob implements [ociregistry.Deleter.DeleteBlob].
func (c *Cache) DeleteBlob(ctx context.Context, repo string, digest ociregistry.Digest) error {
	if !c.opts.WriteThrough {
		return c.Funcs.DeleteBlob(ctx, repo, digest)
	}
	if err := checkDigest(call.New("DeleteBlob", repo, string(digest))); err != nil {
		return err
	}
	err := c.origin.DeleteBlob(ociregistry.WithoutAllowances(ctx), repo, digest)
	if err == nil || notFound(err) {
		c.changes.Add(1)
		c.dropBlob(ctx, repo, digest)
	}
	return err
}

// DeleteManifest implements [ociregistry.Deleter.DeleteManifest].
func (c *Cache) DeleteManifest(ctx context.Context, repo string, digest ociregistry.Digest) error {
	if !c.opts.WriteThrough {
		return c.Funcs.DeleteManifest(ctx, repo, digest)
	}
	if err := checkDigest(call.New("DeleteManifest", repo, string(digest))); err != nil {
		return err
	}
	err := c.origin.DeleteManifest(ociregistry.WithoutAllowances(ctx), repo, digest)
	if err == nil || notFound(err) {
		c.changes.Add(1)
		c.dropManifest(ctx, repo, digest)
	}
	return err
}

// DeleteTag implements [ociregistry.Deleter.DeleteTag].
func (c *Cache) DeleteTag(ctx context.Context, repo string, name string) error {
	if !c.opts.WriteThrough {
		return c.Funcs.DeleteTag(ctx, repo, name)
	}
	if err := checkTag(call.New("DeleteTag", repo, name)); err != nil {
		return err
	}
	err := c.origin.DeleteTag(ctx, repo, name)
	if err == nil || notFound(err) {
		c.changes.Add(1)
		c.dropTags(ctx, repo, name)
	}
	return err
}
