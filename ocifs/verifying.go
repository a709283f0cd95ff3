package ocifs

import (
	"context"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Verified returns a view of the registry that never completes a read of content that
// does not match its digest. It is for registries whose files may be damaged
// unnoticed, by a disk or by other programs.
//
// Each read of a blob compares the size of its file with the size that is known for
// the digest. The first time that a file is read completely, the reader hashes it,
// and withholds the last byte until the digest is verified. If the digest is wrong,
// the reader's error is an [ociregistry.ErrDigestInvalid]. From then on the file is
// read as in the registry itself, until its inode, size or modification time changes.
// Until a file is verified, ranges of it are checked by size alone. A reader from
// GetBlob that skips bytes hashes them before it returns the last byte.
//
// Content that was found damaged is reported as [ociregistry.ErrBlobUnknown] or
// [ociregistry.ErrManifestUnknown], in the registry itself as well. A push replaces
// it. The results are kept in memory for about 16,000 digests.
func (r *Registry) Verified() ociregistry.Interface { return verifiedView{r} }

var _ verified.Registry = (*Registry)(nil)

// verifiedView differs from the registry in how it reads blobs. Manifests are
// compared with their digests whenever they are read from a file.
type verifiedView struct{ *Registry }

func (v verifiedView) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	b, err := v.openBlob(ctx, repo, digest)
	if err != nil {
		return nil, opError(err, "GetBlob", repo, string(digest))
	}
	return v.readVerified(ctx, &b, 0, b.size), nil
}

func (v verifiedView) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	b, offset1, err := v.openRange(ctx, repo, digest, offset0, offset1)
	if err != nil {
		return nil, opError(err, "GetBlobRange", repo, string(digest))
	}
	return v.readVerified(ctx, &b, offset0, offset1), nil
}

// readVerified returns a reader of a blob's bytes from start to end. The reader
// verifies them if they are the whole blob and were not verified yet.
func (r *Registry) readVerified(ctx context.Context, b *blob, start, end int64) ociregistry.BlobReader {
	if b.file == nil || b.size == 0 || end-start < b.size {
		return b.reader(ctx, start, end)
	}
	return r.store.NewVerifyingReader(ctx, b.file, b.info, blobDescriptor(b.digest, b.size))
}
