package ocimem

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// PushBlob implements [ociregistry.Writer.PushBlob]. A context that ends is
// noticed between two reads: to end a read that blocks is up to r.
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
	if err == nil && !b.is(desc.Digest) {
		err = ociregistry.ErrDigestInvalid
	}
	if err != nil {
		b.free()
		return err
	}
	return r.publish(repo, desc.Digest, b)
}

// atEOF checks that rd has no more than the n bytes that were read. If it has,
// atEOF returns a larger n.
func atEOF(rd io.Reader, n int64) (int64, error) {
	var next [1]byte
	m, err := io.ReadFull(rd, next[:])
	if err == io.EOF {
		err = nil
	}
	return n + int64(m), err
}

// publish makes the content of b, whose digest was checked, a blob of repo.
func (r *Registry) publish(repo string, digest ociregistry.Digest, b *buffer) error {
	c, dup := r.store.add(b.content(cloneDigest(digest)))
	if dup {
		b.free()
	}
	return r.hold(repo, c)
}

// cloneDigest returns a copy to be kept (see repository).
func cloneDigest(digest ociregistry.Digest) ociregistry.Digest {
	return ociregistry.Digest(strings.Clone(string(digest)))
}

// hold adds a blob to a repository, with the reference that the caller has.
func (r *Registry) hold(name string, c *content) error {
	return r.upsert(name, func(repo *repository) error {
		if repo.blobs[c.digest] != nil {
			r.release(c)
			return nil
		}
		repo.blobs[c.digest] = c
		return nil
	})
}

// release takes back a reference to a blob.
func (r *Registry) release(c *content) {
	if r.store.release(c) {
		r.give(c.size)
	}
}

// MountBlob implements [ociregistry.Writer.MountBlob].
func (r *Registry) MountBlob(ctx context.Context, fromRepo, toRepo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	c, err := r.mountSource(ctx, fromRepo, toRepo, digest)
	if err == nil {
		err = r.hold(toRepo, c)
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

// PushManifest implements [ociregistry.Writer.PushManifest]. When the digest is
// there already, with another media type, that is replaced.
func (r *Registry) PushManifest(ctx context.Context, repo string, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	desc, err := r.pushManifest(ctx, repo, ref, contents, mediaType, tags)
	if err != nil {
		return ociregistry.Descriptor{}, opError(err, "PushManifest", repo, ref)
	}
	return desc, nil
}

func (r *Registry) pushManifest(ctx context.Context, name string, ref string, contents []byte, mediaType string, tags []string) (desc ociregistry.Descriptor, err error) {
	if err := ociregistry.CheckRepository(name); err != nil {
		return desc, err
	}
	dgst, tags, err := resolveRef(ref, contents, tags)
	if err != nil {
		return desc, err
	}
	if err := ociregistry.CheckMediaType(mediaType); err != nil {
		return desc, err
	}
	text := string(contents)
	info, err := manifest.Parse(mediaType, text)
	if err != nil {
		return desc, err
	}
	if err := ctx.Err(); err != nil {
		return desc, err
	}
	m := &storedManifest{
		mediaType:    ownMediaType(mediaType),
		digest:       dgst,
		contents:     text,
		subject:      info.Subject,
		artifactType: info.ArtifactType,
	}
	condition := ociregistry.PushConditionFrom(ctx)
	err = r.upsert(name, func(repo *repository) error {
		if condition.IfMatch != nil || condition.IfNoneMatch != nil {
			if err := condition.Check(repo.current(ref, dgst)); err != nil {
				return err
			}
		}
		return r.putManifest(ctx, repo, m, info, tags)
	})
	return m.desc(), err
}

// ownMediaType returns a copy to be kept (see repository), of which there is one
// for each of the usual types.
func ownMediaType(mediaType string) string {
	if known, ok := manifest.Known(mediaType); ok {
		return known
	}
	return strings.Clone(mediaType)
}

// resolveRef checks ref and tags, and returns the digest of contents, to be
// kept, and all the tags to set.
func resolveRef(ref string, contents []byte, tags []string) (ociregistry.Digest, []string, error) {
	dgst := ociregistry.Digest("")
	switch {
	case strings.Contains(ref, ":"):
		dgst = ociregistry.Digest(ref)
		if err := ociregistry.CheckDigest(dgst); err != nil {
			return "", nil, err
		}
	case ref != "":
		tags = append([]string{ref}, tags...)
	}
	for _, tag := range tags {
		if !ociref.IsValidTag(tag) {
			return "", nil, fmt.Errorf("%w: invalid tag %.130q", ociregistry.ErrManifestInvalid, tag)
		}
	}
	if dgst == "" {
		return sha256Digest(contents), tags, nil
	}
	if dgst.Algorithm().FromBytes(contents) != dgst {
		return "", nil, ociregistry.ErrDigestInvalid
	}
	return cloneDigest(dgst), tags, nil
}

// sha256Digest is digest.FromBytes with one allocation.
func sha256Digest(contents []byte) ociregistry.Digest {
	const prefix = "sha256:"
	sum := sha256.Sum256(contents)
	text := append(make([]byte, 0, len(prefix)+2*len(sum)), prefix...)
	return ociregistry.Digest(hex.AppendEncode(text, sum[:]))
}

// current returns the digest that ref resolves to, or "". A push without a ref
// is one by digest.
func (repo *repository) current(ref string, digest ociregistry.Digest) ociregistry.Digest {
	m := repo.manifests[digest]
	if ref != "" && !strings.Contains(ref, ":") {
		m, _ = repo.tag(ref)
	}
	if m == nil {
		return ""
	}
	return m.digest
}

// putManifest stores m, if it may be, and points tags at it.
func (r *Registry) putManifest(ctx context.Context, repo *repository, m *storedManifest, info manifest.Info, tags []string) error {
	if err := r.checkReferences(ctx, repo, info); err != nil {
		return err
	}
	if err := r.checkMoves(repo, m, tags); err != nil {
		return err
	}
	old := repo.manifests[m.digest]
	switch {
	case old == nil:
		if err := r.take(m.size()); err != nil {
			return err
		}
		repo.addManifest(m, info)
	case old.mediaType == m.mediaType:
		m = old
	default:
		repo.removeManifest(old)
		repo.addManifest(m, info)
		for old.tags != nil {
			repo.setTag(old.tags.name, m)
		}
	}
	for _, tag := range tags {
		repo.setTag(tag, m)
	}
	return nil
}

// checkReferences checks that what a manifest names is there, and has the size
// that it says. Image indexes are known to list blobs too: build caches are pushed
// as such.
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

func (r *Registry) checkBlob(ctx context.Context, repo *repository, ref *manifest.Ref, what string) error {
	switch c := repo.blobs[ref.Digest]; {
	case c != nil:
		return ref.CheckSize(c.size)
	case r.mayBeMissing(ctx, ref):
		return nil
	}
	return fmt.Errorf("%w: %s %s", ociregistry.ErrManifestBlobUnknown, what, ref.Digest)
}

// mayBeMissing reports whether a manifest may name what is not there.
func (r *Registry) mayBeMissing(ctx context.Context, ref *manifest.Ref) bool {
	return ref.Elsewhere || r.cfg.Sparse || r.cfg.LaxChildReferences || ociregistry.MissingAllowed(ctx)
}

// checkMoves checks that tags may be pointed at m.
func (r *Registry) checkMoves(repo *repository, m *storedManifest, tags []string) error {
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
