package ociunify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// maxManifest is the maximum size in bytes of a manifest that goes through a cache.
// The specification asks registries to accept 4 MiB.
const maxManifest = 32 << 20

// manifestContent is a verified manifest in memory.
type manifestContent struct {
	contents []byte
	desc     ociregistry.Descriptor
	outcome  Outcome // of the call that gets it
}

func (m manifestContent) reader(err error) (ociregistry.BlobReader, error) {
	if err != nil {
		return nil, err
	}
	r := &contentReader{desc: m.desc}
	r.Reset(m.contents)
	return r, nil
}

// contentReader reads content in memory. It implements [io.WriterTo],
// [io.Seeker] and [io.ReaderAt].
type contentReader struct {
	bytes.Reader
	desc ociregistry.Descriptor
}

func (r *contentReader) Descriptor() ociregistry.Descriptor { return r.desc }
func (r *contentReader) Close() error                       { return nil }

// readManifest reads a manifest, and verifies it against the digest want or, if that is
// empty, the digest of the reader's descriptor.
func readManifest(at call.Call, rd ociregistry.BlobReader, want ociregistry.Digest) (m manifestContent, err error) {
	defer rd.Close()
	m.desc = unwrap(rd.Descriptor())
	if want == "" {
		want = m.desc.Digest
	}
	m.contents, err = readLimited(rd, m.desc.Size)
	switch {
	case err != nil:
		return m, at.Wrap(err)
	case len(m.contents) > maxManifest:
		return m, at.Wrap(fmt.Errorf("%w: the manifest has more than %d bytes", ociregistry.ErrManifestInvalid, maxManifest))
	case want == "":
		want = digest.FromBytes(m.contents)
	}
	if err := ociregistry.CheckDigest(want); err != nil {
		return m, at.Wrap(err)
	}
	if !verified.IsOf(want, m.contents) {
		return m, at.Wrap(fmt.Errorf("%w: the content of the manifest does not match", ociregistry.ErrDigestInvalid))
	}
	m.desc.Digest, m.desc.Size = want, int64(len(m.contents))
	return m, nil
}

// readLimited reads a manifest, which probably has size bytes. It stops soon after
// maxManifest bytes.
func readLimited(rd io.Reader, size int64) ([]byte, error) {
	contents := make([]byte, 0, min(max(size+1, 512), 64<<10)) // one more byte, to see the end
	for {
		n, err := rd.Read(contents[len(contents):cap(contents)])
		contents = contents[:len(contents)+n]
		switch {
		case err == io.EOF, err == nil && len(contents) > maxManifest:
			return contents, nil
		case err != nil:
			return nil, err
		case len(contents) == cap(contents):
			contents = slices.Grow(contents, len(contents))
		}
	}
}

// readCached reads a manifest from the cache registry.
func (c *Cache) readCached(ctx context.Context, repo string, digest ociregistry.Digest) (manifestContent, error) {
	at := call.New("GetManifest", repo, string(digest))
	rd, err := c.kept.GetManifest(ctx, repo, digest)
	if err != nil {
		return manifestContent{}, err
	}
	m, err := readManifest(at, c.cachedManifest(repo, rd), digest)
	if err != nil {
		c.miss(ctx, at, err)
	}
	m.outcome = OutcomeHit
	return m, err
}

// readTag reads the manifest that a tag points at in the cache registry.
func (c *Cache) readTag(ctx context.Context, k key) (m manifestContent, err error) {
	at := call.New("GetTag", k.repo, k.ref)
	rd, err := c.kept.GetTag(ctx, k.repo, k.ref)
	if err == nil {
		m, err = readManifest(at, c.cachedManifest(k.repo, rd), "")
	}
	if err != nil {
		c.miss(ctx, at, err)
		return manifestContent{}, err
	}
	m.outcome = OutcomeHit
	return m, nil
}

// fetchManifest gets a manifest from the origin, by the digest or the tag in k. It
// keeps the manifest, and the tags, which point at it.
func (c *Cache) fetchManifest(t *task, k key, tags ...string) (manifestContent, error) {
	at := call.New("GetManifest", k.repo, k.ref)
	if k.kind == kindTag {
		at.Op = "GetTag"
	}
	before := t.wait(originIdle)
	m, err := c.originManifest(t, at, k)
	t.waited(before)
	if err != nil {
		err = stalledOr(t, at, err)
		if t.Err() == nil || errors.Is(err, errStalled) {
			c.failed(t, k, err)
		}
		return m, err
	}
	if c.opts.WholeImages && ociregistry.IsInspection(t) {
		return m, nil // the next pull fetches it again, with the rest of the image
	}
	c.storeManifest(t, k, m, tags...)
	if c.opts.WholeImages {
		c.fetchImage(t, k.repo, m.desc.Digest)
	}
	m.outcome = OutcomeFetched
	return m, nil
}

// originManifest reads a manifest from the origin.
func (c *Cache) originManifest(t *task, at call.Call, k key) (m manifestContent, err error) {
	var rd ociregistry.BlobReader
	want := ociregistry.Digest("")
	if k.kind == kindTag {
		rd, err = c.origin.GetTag(t, k.repo, k.ref)
	} else {
		want = ociregistry.Digest(k.ref)
		rd, err = c.origin.GetManifest(t, k.repo, want)
	}
	if err != nil {
		return m, err
	}
	named := rd.Descriptor().Digest != ""
	t.reads(rd)
	m, err = readManifest(at, rd, want)
	t.reads(nil)
	if err != nil {
		return m, err
	}
	served := m.desc.MediaType
	m.desc.MediaType = manifest.ServedType(served, m.contents)
	switch {
	case want != "":
	case named:
		err = manifest.CheckNamed(served, m.contents)
	default:
		err = manifest.CheckUnnamed(served, m.contents)
	}
	if err != nil {
		return m, at.Wrap(err)
	}
	return m, nil
}

// storeManifest keeps a manifest with the given tags, and with those that are known to
// point at it, unless something changed since k was made.
func (c *Cache) storeManifest(ctx context.Context, k key, m manifestContent, tags ...string) {
	at := call.New("PushManifest", k.repo, string(m.desc.Digest))
	if c.changed(k) || !c.purge(ctx, holding{kindManifest, k.repo, m.desc.Digest}) || !c.ledger.reserve(ctx, kindManifest, k.repo, m.desc) {
		return
	}
	tags = append(slices.Clip(tags), c.known.awaiting(k.repo, m.desc.Digest)...)
	if err := c.pushKept(ctx, k.repo, m, tags); err != nil {
		c.warn("cannot keep a manifest", at, err)
		c.ledger.drop(ctx, kindManifest, k.repo, m.desc.Digest)
		return
	}
	c.ledger.confirm(kindManifest, k.repo, m.desc.Digest)
	for _, tag := range tags {
		c.validated(key{kindTag, k.repo, tag, k.changes})
	}
	if c.changed(k) {
		c.dropManifest(ctx, k.repo, m.desc.Digest)
		c.dropTags(ctx, k.repo, tags...)
	}
}

// pushKept pushes a manifest to the cache registry, under its own media type if the
// registry accepts that.
func (c *Cache) pushKept(ctx context.Context, repo string, m manifestContent, tags []string) error {
	ctx = ociregistry.AllowMissing(unconditional(ctx))
	ref, mediaType := string(m.desc.Digest), m.desc.MediaType
	if !c.private.Load() || mediaType == "" {
		_, err := c.cache.PushManifest(ctx, repo, ref, m.contents, mediaType, tags...)
		switch {
		case errors.Is(err, ociregistry.ErrManifestBlobUnknown):
			c.private.Store(true)
		case err == nil, mediaType == "", !errors.Is(err, ociregistry.ErrManifestInvalid):
			return err
		}
	}
	_, err := c.cache.PushManifest(ctx, repo, ref, m.contents, wrap(mediaType), tags...)
	return err
}

// dropBlob deletes a blob from the cache registry. It reports whether that worked.
func (c *Cache) dropBlob(ctx context.Context, repo string, digest ociregistry.Digest) bool {
	if err := c.cache.DeleteBlob(ociregistry.AllowInUse(ctx), repo, digest); err != nil && !notFound(err) {
		c.warn("cannot delete from the cache", call.New("DeleteBlob", repo, string(digest)), err)
		return false
	}
	c.ledger.drop(ctx, kindBlob, repo, digest)
	return true
}

// dropManifest deletes a manifest from the cache registry. It reports whether that
// worked.
func (c *Cache) dropManifest(ctx context.Context, repo string, digest ociregistry.Digest) bool {
	if err := c.cache.DeleteManifest(ociregistry.AllowInUse(ctx), repo, digest); err != nil && !notFound(err) {
		c.warn("cannot delete from the cache", call.New("DeleteManifest", repo, string(digest)), err)
		return false
	}
	c.ledger.drop(ctx, kindManifest, repo, digest)
	return true
}

// dropTags deletes tags from the cache registry.
func (c *Cache) dropTags(ctx context.Context, repo string, tags ...string) {
	for _, tag := range tags {
		c.known.forget(repo, tag)
		if err := c.cache.DeleteTag(ctx, repo, tag); err != nil && !notFound(err) {
			c.warn("cannot delete from the cache", call.New("DeleteTag", repo, tag), err)
		}
	}
}
