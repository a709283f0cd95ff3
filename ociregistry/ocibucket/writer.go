package ocibucket

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/blobs"
)

// PushBlob implements [ociregistry.Writer.PushBlob]. It notices the end of the context
// between two reads, and cannot interrupt a read that blocks.
func (r *Registry) PushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, rd io.Reader) (ociregistry.Descriptor, error) {
	if err := r.pushBlob(ctx, repo, desc, rd); err != nil {
		return ociregistry.Descriptor{}, opError(err, "PushBlob", repo, string(desc.Digest))
	}
	return desc, nil
}

func (r *Registry) pushBlob(ctx context.Context, name string, desc ociregistry.Descriptor, rd io.Reader) error {
	if err := ociregistry.CheckRepositoryAndDigest(name, desc.Digest); err != nil {
		return err
	}
	if desc.Size < 0 {
		return fmt.Errorf("%w: negative size", ociregistry.ErrSizeInvalid)
	}
	if err := r.mayWrite(ctx); err != nil {
		return err
	}
	repo := r.repos.Open(name)
	defer repo.Release()
	return r.blobs.Push(ctx, repo, desc, rd)
}

// mayWrite checks that a call may change something.
func (r *Registry) mayWrite(ctx context.Context) error {
	if err := r.writable(); err != nil {
		return err
	}
	return ctx.Err()
}

// PushBlobChunked implements [ociregistry.Writer.PushBlobChunked]. What is written is kept when the
// writer is closed, and, of large content, when parts of it are complete. If there are
// [Options.MaxUploads] sessions, the error is [ociregistry.ErrTooManyRequests].
func (r *Registry) PushBlobChunked(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
	err := ociregistry.CheckRepository(repo)
	if err == nil {
		err = r.mayWrite(ctx)
	}
	if err != nil {
		return nil, opError(err, "PushBlobChunked", repo, "")
	}
	w, err := r.uploads.Start(ctx, repo, chunkSize)
	if err != nil {
		return nil, opError(err, "PushBlobChunked", repo, "")
	}
	return w, nil
}

// PushBlobChunkedResume implements [ociregistry.Writer.PushBlobChunkedResume]. The session may be
// one of another process.
func (r *Registry) PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
	err := ociregistry.CheckRepository(repo)
	if err == nil {
		err = r.mayWrite(ctx)
	}
	if err != nil {
		return nil, opError(err, "PushBlobChunkedResume", repo, id)
	}
	w, err := r.uploads.Resume(ctx, repo, id, offset, chunkSize)
	if err != nil {
		return nil, opError(err, "PushBlobChunkedResume", repo, id)
	}
	return w, nil
}

// MountBlob implements [ociregistry.Writer.MountBlob].
func (r *Registry) MountBlob(ctx context.Context, fromRepo, toRepo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	l, err := r.mountBlob(ctx, fromRepo, toRepo, digest)
	if err != nil {
		return ociregistry.Descriptor{}, opError(err, "MountBlob", toRepo, string(digest))
	}
	return l.Descriptor(digest), nil
}

func (r *Registry) mountBlob(ctx context.Context, fromRepo, toRepo string, digest ociregistry.Digest) (blobs.Link, error) {
	if fromRepo != "" {
		if err := ociregistry.CheckRepository(fromRepo); err != nil {
			return blobs.Link{}, err
		}
	}
	if err := ociregistry.CheckRepositoryAndDigest(toRepo, digest); err != nil {
		return blobs.Link{}, err
	}
	if err := r.mayWrite(ctx); err != nil {
		return blobs.Link{}, err
	}
	if fromRepo == toRepo {
		return r.blob(ctx, toRepo, digest)
	}
	to := r.repos.Open(toRepo)
	defer to.Release()
	if fromRepo == "" {
		return r.blobs.MountAny(ctx, to, digest)
	}
	l, err := r.blobs.Mount(ctx, fromRepo, to, digest)
	if errors.Is(err, ociregistry.ErrBlobUnknown) {
		from := r.repos.Open(fromRepo)
		defer from.Release()
		err = r.blobs.Unknown(ctx, from, err)
	}
	return l, err
}

// PushManifest implements [ociregistry.Writer.PushManifest]. If the repository has the
// manifest with another media type, PushManifest replaces that. An error that wraps
// [objstore.ErrUnclear] means that the push may have happened, or may happen later.
func (r *Registry) PushManifest(ctx context.Context, repo string, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	desc, err := r.pushManifest(ctx, repo, ref, contents, mediaType, tags)
	if err != nil {
		return ociregistry.Descriptor{}, opError(err, "PushManifest", repo, ref)
	}
	return desc, nil
}
