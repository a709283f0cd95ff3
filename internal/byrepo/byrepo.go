// Package byrepo passes each call on to the registry of its repository, for registries that
// are made of several. [Reads], [Writes] and [Deletes] are to be embedded; what concerns two
// repositories, or all, is up to the type that embeds them.
package byrepo

import (
	"context"
	"io"
	"iter"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Base is an [ociregistry.Funcs] to embed beside the other types, whose methods hide its own.
type Base struct{ *ociregistry.Funcs }

// Reads returns the registry of a repository. Its methods are those that read one.
type Reads func(repo string) ociregistry.Interface

func (of Reads) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	return of(repo).GetBlob(ctx, repo, digest)
}

func (of Reads) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	return of(repo).GetBlobRange(ctx, repo, digest, offset0, offset1)
}

func (of Reads) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	return of(repo).GetManifest(ctx, repo, digest)
}

func (of Reads) GetTag(ctx context.Context, repo string, tagName string) (ociregistry.BlobReader, error) {
	return of(repo).GetTag(ctx, repo, tagName)
}

func (of Reads) ResolveBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	return of(repo).ResolveBlob(ctx, repo, digest)
}

func (of Reads) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	return of(repo).ResolveManifest(ctx, repo, digest)
}

func (of Reads) ResolveTag(ctx context.Context, repo string, tagName string) (ociregistry.Descriptor, error) {
	return of(repo).ResolveTag(ctx, repo, tagName)
}

func (of Reads) Tags(ctx context.Context, repo string, startAfter string) iter.Seq2[string, error] {
	return of(repo).Tags(ctx, repo, startAfter)
}

func (of Reads) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	return of(repo).Referrers(ctx, repo, digest, artifactType)
}

// Writes returns the registry of a repository. Its methods are those that write to one.
type Writes func(repo string) ociregistry.Interface

func (of Writes) PushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, content io.Reader) (ociregistry.Descriptor, error) {
	return of(repo).PushBlob(ctx, repo, desc, content)
}

func (of Writes) PushBlobChunked(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
	return of(repo).PushBlobChunked(ctx, repo, chunkSize)
}

func (of Writes) PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
	return of(repo).PushBlobChunkedResume(ctx, repo, id, offset, chunkSize)
}

func (of Writes) PushManifest(ctx context.Context, repo string, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	return of(repo).PushManifest(ctx, repo, ref, contents, mediaType, tags...)
}

// Deletes returns the registry of a repository. Its methods are those that delete from one.
type Deletes func(repo string) ociregistry.Interface

func (of Deletes) DeleteBlob(ctx context.Context, repo string, digest ociregistry.Digest) error {
	return of(repo).DeleteBlob(ctx, repo, digest)
}

func (of Deletes) DeleteManifest(ctx context.Context, repo string, digest ociregistry.Digest) error {
	return of(repo).DeleteManifest(ctx, repo, digest)
}

func (of Deletes) DeleteTag(ctx context.Context, repo string, name string) error {
	return of(repo).DeleteTag(ctx, repo, name)
}
