package ocimem

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// PushBlob implements [ociregistry.Writer.PushBlob]. It notices the end of the context
// between two reads, and cannot interrupt a read that blocks.
func (r *Registry) PushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, rd io.Reader) (ociregistry.Descriptor, error) {
	if err := r.pushBlob(ctx, repo, desc, rd); err != nil {
		return ociregistry.Descriptor{}, opError(err, "PushBlob", repo, string(desc.Digest))
	}
	return desc, nil
}

func (r *Registry) pushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, rd io.Reader) error {
	if err := ociregistry.CheckRepositoryAndDigest(repo, desc.Digest); err != nil {
		return err
	}
	if desc.Size < 0 {
		return fmt.Errorf("%w: negative size", ociregistry.ErrSizeInvalid)
	}
	b := &buffer{registry: r, algorithm: desc.Digest.Algorithm(), hash: verified.Hash(rd, desc.Digest)}
	n, err := readChunks(ctx, rd, desc.Size, b.append)
	if err == nil && n == desc.Size {
		n, err = atEOF(rd, n)
	}
	if err == nil && n != desc.Size {
		err = ociregistry.ErrSizeInvalid
	}
	if err == nil && !b.hasDigest(desc.Digest) {
		err = ociregistry.ErrDigestInvalid
	}
	if err != nil {
		b.free()
		return err
	}
	return r.publish(repo, desc.Digest, b)
}

// atEOF checks that rd has no more bytes than the n that were read. It returns n, or a
// larger number if there are more.
func atEOF(rd io.Reader, n int64) (int64, error) {
	var next [1]byte
	m, err := io.ReadFull(rd, next[:])
	if err == io.EOF {
		err = nil
	}
	return n + int64(m), err
}

// publish makes the content of b, whose digest the caller has checked, a blob of repo.
func (r *Registry) publish(repo string, digest ociregistry.Digest, b *buffer) error {
	c, dup := r.store.add(b.content(cloneDigest(digest)))
	if dup {
		b.free()
	}
	return r.addBlob(repo, c)
}

// cloneDigest returns a copy of digest (see repository).
func cloneDigest(digest ociregistry.Digest) ociregistry.Digest {
	return ociregistry.Digest(strings.Clone(string(digest)))
}

// addBlob adds a blob to a repository, which takes over the caller's reference.
func (r *Registry) addBlob(name string, c *content) error {
	return r.upsert(name, func(repo *repository) error {
		b := repo.blobs[c.digest]
		if b != nil {
			r.releaseBlob(c)
		} else {
			b = &blob{content: c}
			repo.blobs[c.digest] = b
			r.usage.add(repo.name, c.size)
		}
		b.time.Store(r.now().UnixNano())
		return nil
	})
}

// releaseBlob removes a reference to a blob.
func (r *Registry) releaseBlob(c *content) {
	if r.store.release(c) {
		r.releaseBytes(c.size)
	}
}

// MountBlob implements [ociregistry.Writer.MountBlob].
func (r *Registry) MountBlob(ctx context.Context, fromRepo, toRepo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	c, err := r.mountSource(ctx, fromRepo, toRepo, digest)
	if err == nil {
		err = r.addBlob(toRepo, c)
	}
	if err != nil {
		return ociregistry.Descriptor{}, opError(err, "MountBlob", toRepo, string(digest))
	}
	return blobDescriptor(digest, c), nil
}

// mountSource finds a blob and counts a reference to it.
func (r *Registry) mountSource(ctx context.Context, fromRepo, toRepo string, digest ociregistry.Digest) (c *content, err error) {
	if fromRepo != "" {
		if err := ociregistry.CheckRepository(fromRepo); err != nil {
			return nil, err
		}
	}
	if err := ociregistry.CheckRepositoryAndDigest(toRepo, digest); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if fromRepo == "" {
		c, ok := r.store.get(digest)
		if !ok {
			return nil, ociregistry.ErrBlobUnknown
		}
		return c, nil
	}
	err = r.view(fromRepo, func(repo *repository) error {
		if _, err := repo.blob(digest); err != nil {
			return err
		}
		c, _ = r.store.get(digest)
		return nil
	})
	return c, err
}

// PushManifest implements [ociregistry.Writer.PushManifest]. If the repository has the
// manifest with another media type, PushManifest replaces that.
func (r *Registry) PushManifest(ctx context.Context, repo string, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	desc, err := r.pushManifest(ctx, repo, ref, contents, mediaType, tags)
	if err != nil {
		return ociregistry.Descriptor{}, opError(err, "PushManifest", repo, ref)
	}
	return desc, nil
}

func (r *Registry) pushManifest(ctx context.Context, name string, ref string, contents []byte, mediaType string, tags []string) (desc ociregistry.Descriptor, err error) {
	push, err := manifest.CheckPush(ctx, name, ref, contents, mediaType, tags)
	if err != nil {
		return desc, err
	}
	m := &manifestEntry{
		mediaType:    manifest.OwnMediaType(mediaType),
		digest:       push.Digest,
		contents:     push.Contents,
		subject:      push.Info.Subject,
		artifactType: push.Info.ArtifactType,
	}
	condition := ociregistry.PushConditionFrom(ctx)
	err = r.upsert(name, func(repo *repository) error {
		if condition.IfMatch != nil || condition.IfNoneMatch != nil {
			if err := condition.Check(repo.current(ref, push.Digest)); err != nil {
				return err
			}
		}
		return r.putManifest(ctx, repo, m, push.Info, push.Tags)
	})
	return m.desc(), err
}

// current returns the digest that ref resolves to, or "". A push without a ref is a push
// by digest.
func (repo *repository) current(ref string, digest ociregistry.Digest) ociregistry.Digest {
	m := repo.manifests[digest]
	if call.IsTag(ref) {
		m, _ = repo.tag(ref)
	}
	if m == nil {
		return ""
	}
	return m.digest
}

// putManifest checks and stores m, and points tags at it.
func (r *Registry) putManifest(ctx context.Context, repo *repository, m *manifestEntry, info manifest.Info, tags []string) error {
	if err := r.checkReferences(ctx, repo, info); err != nil {
		return err
	}
	if err := r.checkMoves(repo, m, tags); err != nil {
		return err
	}
	now := r.now().UnixNano()
	old := repo.manifests[m.digest]
	switch {
	case old == nil:
		if err := r.acquireBytes(m.size()); err != nil {
			return err
		}
		repo.addManifest(m, info)
		r.usage.add(repo.name, m.size())
	case old.mediaType == m.mediaType:
		m = old
	default:
		repo.removeManifest(old)
		repo.addManifest(m, info)
		m.pulled.Store(old.pulled.Load())
		for old.tags != nil {
			repo.setTag(old.tags.name, m, old.tags.pushed)
		}
	}
	m.time.Store(now)
	for _, tag := range tags {
		repo.setTag(tag, m, now)
	}
	return nil
}

// checkReferences checks that the content that a manifest names is present and has the
// size in the manifest. Some image indexes list blobs too, for instance those of build
// caches.
func (r *Registry) checkReferences(ctx context.Context, repo *repository, info manifest.Info) error {
	for i := range info.Blobs {
		if err := r.checkBlob(ctx, repo, &info.Blobs[i], "blob"); err != nil {
			return err
		}
	}
	for i := range info.Manifests {
		ref := &info.Manifests[i]
		if m := repo.manifests[ref.Digest]; m != nil {
			if err := ref.CheckSize(m.size()); err != nil {
				return err
			}
		} else if err := r.checkBlob(ctx, repo, ref, "manifest"); err != nil {
			return err
		}
	}
	return nil
}

// checkBlob is checkReferences for one blob.
func (r *Registry) checkBlob(ctx context.Context, repo *repository, ref *manifest.Ref, what string) error {
	switch b := repo.blobs[ref.Digest]; {
	case b != nil:
		return ref.CheckSize(b.size)
	case r.mayBeMissing(ctx, ref):
		return nil
	}
	return fmt.Errorf("%w: %s %s", ociregistry.ErrManifestBlobUnknown, what, ref.Digest)
}

// mayBeMissing reports whether a manifest may name content that is missing.
func (r *Registry) mayBeMissing(ctx context.Context, ref *manifest.Ref) bool {
	return ref.Elsewhere || r.cfg.Sparse || r.cfg.LaxChildReferences || ociregistry.MissingAllowed(ctx)
}

// checkMoves checks that tags may be moved to m.
func (r *Registry) checkMoves(repo *repository, m *manifestEntry, tags []string) error {
	if !r.cfg.ImmutableTags {
		return nil
	}
	for _, tag := range tags {
		if old := repo.tags[tag]; old != nil && old.manifest.digest != m.digest {
			return fmt.Errorf("%w: tag %s exists and is immutable", ociregistry.ErrDenied, tag)
		}
	}
	if old := repo.manifests[m.digest]; old != nil && old.tags != nil && old.mediaType != m.mediaType {
		return fmt.Errorf("%w: the manifest's tags are immutable, and so is its media type", ociregistry.ErrDenied)
	}
	return nil
}
