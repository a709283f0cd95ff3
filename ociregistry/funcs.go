package ociregistry

import (
	"context"
	"io"
	"iter"
)

// Funcs implements [Interface] by a function for each method. If a function is nil, its
// method returns the error of NewError, or an error that wraps [ErrUnsupported] if
// NewError is nil too. A nil *Funcs has only nil functions.
//
// Other types implement Interface by embedding a *Funcs. With its functions set, a Funcs
// is a fault injector or a fake for tests.
type Funcs struct {
	// NewError returns the error of a method that has no function. Its arguments are
	// the name of the method and the repository, which is empty for Repositories, and
	// toRepo for MountBlob.
	NewError func(ctx context.Context, methodName, repo string) error

	GetBlob_               func(ctx context.Context, repo string, digest Digest) (BlobReader, error)
	GetBlobRange_          func(ctx context.Context, repo string, digest Digest, offset0, offset1 int64) (BlobReader, error)
	GetManifest_           func(ctx context.Context, repo string, digest Digest) (BlobReader, error)
	GetTag_                func(ctx context.Context, repo string, tagName string) (BlobReader, error)
	ResolveBlob_           func(ctx context.Context, repo string, digest Digest) (Descriptor, error)
	ResolveManifest_       func(ctx context.Context, repo string, digest Digest) (Descriptor, error)
	ResolveTag_            func(ctx context.Context, repo string, tagName string) (Descriptor, error)
	PushBlob_              func(ctx context.Context, repo string, desc Descriptor, r io.Reader) (Descriptor, error)
	PushBlobChunked_       func(ctx context.Context, repo string, chunkSize int) (BlobWriter, error)
	PushBlobChunkedResume_ func(ctx context.Context, repo, id string, offset int64, chunkSize int) (BlobWriter, error)
	MountBlob_             func(ctx context.Context, fromRepo, toRepo string, digest Digest) (Descriptor, error)
	PushManifest_          func(ctx context.Context, repo string, ref string, contents []byte, mediaType string, tags ...string) (Descriptor, error)
	DeleteBlob_            func(ctx context.Context, repo string, digest Digest) error
	DeleteManifest_        func(ctx context.Context, repo string, digest Digest) error
	DeleteTag_             func(ctx context.Context, repo string, name string) error
	Repositories_          func(ctx context.Context, startAfter string) iter.Seq2[string, error]
	Tags_                  func(ctx context.Context, repo string, startAfter string) iter.Seq2[string, error]
	Referrers_             func(ctx context.Context, repo string, digest Digest, artifactType string) iter.Seq2[Descriptor, error]
}

var _ Interface = (*Funcs)(nil)

func (f *Funcs) sealed() {}

func (f *Funcs) unsupported(ctx context.Context, method, repo string) error {
	if f != nil && f.NewError != nil {
		return f.NewError(ctx, method, repo)
	}
	return &OpError{Op: method, Repository: repo, Err: ErrUnsupported}
}

// GetBlob implements [Reader.GetBlob].
func (f *Funcs) GetBlob(ctx context.Context, repo string, digest Digest) (BlobReader, error) {
	if f != nil && f.GetBlob_ != nil {
		return f.GetBlob_(ctx, repo, digest)
	}
	return nil, f.unsupported(ctx, "GetBlob", repo)
}

// GetBlobRange implements [Reader.GetBlobRange].
func (f *Funcs) GetBlobRange(ctx context.Context, repo string, digest Digest, offset0, offset1 int64) (BlobReader, error) {
	if f != nil && f.GetBlobRange_ != nil {
		return f.GetBlobRange_(ctx, repo, digest, offset0, offset1)
	}
	return nil, f.unsupported(ctx, "GetBlobRange", repo)
}

// GetManifest implements [Reader.GetManifest].
func (f *Funcs) GetManifest(ctx context.Context, repo string, digest Digest) (BlobReader, error) {
	if f != nil && f.GetManifest_ != nil {
		return f.GetManifest_(ctx, repo, digest)
	}
	return nil, f.unsupported(ctx, "GetManifest", repo)
}

// GetTag implements [Reader.GetTag].
func (f *Funcs) GetTag(ctx context.Context, repo string, tagName string) (BlobReader, error) {
	if f != nil && f.GetTag_ != nil {
		return f.GetTag_(ctx, repo, tagName)
	}
	return nil, f.unsupported(ctx, "GetTag", repo)
}

// ResolveBlob implements [Reader.ResolveBlob].
func (f *Funcs) ResolveBlob(ctx context.Context, repo string, digest Digest) (Descriptor, error) {
	if f != nil && f.ResolveBlob_ != nil {
		return f.ResolveBlob_(ctx, repo, digest)
	}
	return Descriptor{}, f.unsupported(ctx, "ResolveBlob", repo)
}

// ResolveManifest implements [Reader.ResolveManifest].
func (f *Funcs) ResolveManifest(ctx context.Context, repo string, digest Digest) (Descriptor, error) {
	if f != nil && f.ResolveManifest_ != nil {
		return f.ResolveManifest_(ctx, repo, digest)
	}
	return Descriptor{}, f.unsupported(ctx, "ResolveManifest", repo)
}

// ResolveTag implements [Reader.ResolveTag].
func (f *Funcs) ResolveTag(ctx context.Context, repo string, tagName string) (Descriptor, error) {
	if f != nil && f.ResolveTag_ != nil {
		return f.ResolveTag_(ctx, repo, tagName)
	}
	return Descriptor{}, f.unsupported(ctx, "ResolveTag", repo)
}

// PushBlob implements [Writer.PushBlob].
func (f *Funcs) PushBlob(ctx context.Context, repo string, desc Descriptor, r io.Reader) (Descriptor, error) {
	if f != nil && f.PushBlob_ != nil {
		return f.PushBlob_(ctx, repo, desc, r)
	}
	return Descriptor{}, f.unsupported(ctx, "PushBlob", repo)
}

// PushBlobChunked implements [Writer.PushBlobChunked].
func (f *Funcs) PushBlobChunked(ctx context.Context, repo string, chunkSize int) (BlobWriter, error) {
	if f != nil && f.PushBlobChunked_ != nil {
		return f.PushBlobChunked_(ctx, repo, chunkSize)
	}
	return nil, f.unsupported(ctx, "PushBlobChunked", repo)
}

// PushBlobChunkedResume implements [Writer.PushBlobChunkedResume].
func (f *Funcs) PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (BlobWriter, error) {
	if f != nil && f.PushBlobChunkedResume_ != nil {
		return f.PushBlobChunkedResume_(ctx, repo, id, offset, chunkSize)
	}
	return nil, f.unsupported(ctx, "PushBlobChunkedResume", repo)
}

// MountBlob implements [Writer.MountBlob].
func (f *Funcs) MountBlob(ctx context.Context, fromRepo, toRepo string, digest Digest) (Descriptor, error) {
	if f != nil && f.MountBlob_ != nil {
		return f.MountBlob_(ctx, fromRepo, toRepo, digest)
	}
	return Descriptor{}, f.unsupported(ctx, "MountBlob", toRepo)
}

// PushManifest implements [Writer.PushManifest].
func (f *Funcs) PushManifest(ctx context.Context, repo string, ref string, contents []byte, mediaType string, tags ...string) (Descriptor, error) {
	if f != nil && f.PushManifest_ != nil {
		return f.PushManifest_(ctx, repo, ref, contents, mediaType, tags...)
	}
	return Descriptor{}, f.unsupported(ctx, "PushManifest", repo)
}

// DeleteBlob implements [Deleter.DeleteBlob].
func (f *Funcs) DeleteBlob(ctx context.Context, repo string, digest Digest) error {
	if f != nil && f.DeleteBlob_ != nil {
		return f.DeleteBlob_(ctx, repo, digest)
	}
	return f.unsupported(ctx, "DeleteBlob", repo)
}

// DeleteManifest implements [Deleter.DeleteManifest].
func (f *Funcs) DeleteManifest(ctx context.Context, repo string, digest Digest) error {
	if f != nil && f.DeleteManifest_ != nil {
		return f.DeleteManifest_(ctx, repo, digest)
	}
	return f.unsupported(ctx, "DeleteManifest", repo)
}

// DeleteTag implements [Deleter.DeleteTag].
func (f *Funcs) DeleteTag(ctx context.Context, repo string, name string) error {
	if f != nil && f.DeleteTag_ != nil {
		return f.DeleteTag_(ctx, repo, name)
	}
	return f.unsupported(ctx, "DeleteTag", repo)
}

// Repositories implements [Lister.Repositories].
func (f *Funcs) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	if f != nil && f.Repositories_ != nil {
		return f.Repositories_(ctx, startAfter)
	}
	return ErrorSeq[string](f.unsupported(ctx, "Repositories", ""))
}

// Tags implements [Lister.Tags].
func (f *Funcs) Tags(ctx context.Context, repo string, startAfter string) iter.Seq2[string, error] {
	if f != nil && f.Tags_ != nil {
		return f.Tags_(ctx, repo, startAfter)
	}
	return ErrorSeq[string](f.unsupported(ctx, "Tags", repo))
}

// Referrers implements [Lister.Referrers].
func (f *Funcs) Referrers(ctx context.Context, repo string, digest Digest, artifactType string) iter.Seq2[Descriptor, error] {
	if f != nil && f.Referrers_ != nil {
		return f.Referrers_(ctx, repo, digest, artifactType)
	}
	return ErrorSeq[Descriptor](f.unsupported(ctx, "Referrers", repo))
}
