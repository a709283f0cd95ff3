package ociregistry

import (
	"context"
	"io"
	"iter"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

type (
	// Digest identifies content by a hash of its bytes, as in "sha256:e3b0c442…".
	// Backends support sha256 and sha512.
	Digest = digest.Digest

	// Descriptor describes content: its media type, digest and size in bytes.
	Descriptor = ocispec.Descriptor

	// Manifest is an OCI image manifest.
	Manifest = ocispec.Manifest
)

// Interface is one registry. To copy content from one registry to another, see package
// ocicopy.
//
// Interface can be implemented only by embedding another Interface or a [*Funcs], so
// that adding a method does not break implementations.
type Interface interface {
	Reader
	Writer
	Deleter
	Lister

	sealed()
}

// ReadWriter is the part of [Interface] that moves content.
type ReadWriter interface {
	Reader
	Writer
}

// Reader has the methods that read content by digest or by tag.
//
// For a repository that does not exist, all methods return [ErrNameUnknown]. The Resolve
// methods of a remote registry may report unknown content instead, because the answer to
// a HEAD request has no body that tells the difference.
type Reader interface {
	// GetBlob returns the content of a blob. The reader keeps working if the blob is
	// deleted while it is read.
	//
	// Errors: [ErrNameInvalid], [ErrDigestInvalid], [ErrNameUnknown],
	// [ErrBlobUnknown].
	GetBlob(ctx context.Context, repo string, digest Digest) (BlobReader, error)

	// GetBlobRange returns the bytes of a blob from offset0 up to but not including
	// offset1. A negative offset1, or one beyond the end, means the end. The reader's
	// descriptor is that of the whole blob.
	//
	// If offset0 is equal to the size, the reader is empty. The error is
	// [ErrRangeInvalid] if offset0 is negative or greater than the size, or if offset1
	// is not negative and less than offset0.
	//
	// Errors: those of GetBlob, and [ErrRangeInvalid].
	GetBlobRange(ctx context.Context, repo string, digest Digest, offset0, offset1 int64) (BlobReader, error)

	// GetManifest returns the content of a manifest, byte for byte as it was pushed.
	// The reader's descriptor has the media type of the push.
	//
	// Errors: [ErrNameInvalid], [ErrDigestInvalid], [ErrNameUnknown],
	// [ErrManifestUnknown].
	GetManifest(ctx context.Context, repo string, digest Digest) (BlobReader, error)

	// GetTag returns the content of the manifest that a tag points at.
	//
	// Errors: [ErrNameInvalid], [ErrNameUnknown], [ErrManifestUnknown] (also for a
	// malformed tag, which cannot exist).
	GetTag(ctx context.Context, repo string, tagName string) (BlobReader, error)

	// ResolveBlob returns the descriptor of a blob, with its media type, digest and size.
	// The media type is application/octet-stream, because registries do not store one.
	// The cost does not depend on the size of the blob.
	//
	// Errors: those of GetBlob.
	ResolveBlob(ctx context.Context, repo string, digest Digest) (Descriptor, error)

	// ResolveManifest returns the descriptor of a manifest, with its media
	// type, digest and size.
	//
	// Errors: those of GetManifest.
	ResolveManifest(ctx context.Context, repo string, digest Digest) (Descriptor, error)

	// ResolveTag returns the descriptor of the manifest that a tag points at,
	// with its media type, digest and size.
	//
	// Errors: those of GetTag.
	ResolveTag(ctx context.Context, repo string, tagName string) (Descriptor, error)
}

// Writer has the methods that add content. When a method returns without an error, every
// caller can read the content. A call that fails leaves no trace.
type Writer interface {
	// PushBlob stores a blob, whose content it reads from r to the end. Only the Digest
	// and Size (in bytes) of desc matter. Both are checked against the content, in one
	// pass, before the blob becomes visible. The content as a whole is not buffered. On
	// success PushBlob returns desc.
	//
	// Errors: [ErrNameInvalid], [ErrDigestInvalid] (malformed, or not the
	// content's), [ErrSizeInvalid] (negative, or not the content's), and any
	// error of r.
	PushBlob(ctx context.Context, repo string, desc Descriptor, r io.Reader) (Descriptor, error)

	// PushBlobChunked opens an upload session for a blob whose digest need not be known
	// yet.
	//
	// The chunkSize is a hint for the number of bytes to send at a time, where that
	// matters. Zero means the backend's choice. The backend may use a larger size.
	//
	// The context applies to the BlobWriter too. When it ends, a blocked call of the
	// writer returns, and the session can still be resumed.
	//
	// Errors: [ErrNameInvalid].
	PushBlobChunked(ctx context.Context, repo string, chunkSize int) (BlobWriter, error)

	// PushBlobChunkedResume continues an upload session of the same repository. The id,
	// offset and chunkSize are the ID, Size and ChunkSize of the earlier writer. An
	// offset of -1 means the end of the session.
	//
	// Several writers may be open on one session. At each offset, the first of them that
	// writes succeeds. The next Write or Commit of the others fails with
	// [ErrRangeInvalid].
	//
	// Errors: [ErrNameInvalid], [ErrBlobUploadUnknown] (repo has no session with that
	// id: it was never opened, or has been committed or cancelled, or has expired),
	// [ErrRangeInvalid] (offset is not the end of the session, which remains open).
	PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (BlobWriter, error)

	// MountBlob adds a blob of fromRepo to toRepo without moving its bytes. An empty
	// fromRepo means any repository that has the blob. MountBlob succeeds if toRepo
	// already has the blob.
	//
	// The returned descriptor has the digest. Its size may be 0, because a remote
	// registry does not tell it.
	//
	// Errors: [ErrNameInvalid], [ErrDigestInvalid], [ErrNameUnknown] (fromRepo
	// does not exist), [ErrBlobUnknown], [ErrUnsupported].
	MountBlob(ctx context.Context, fromRepo, toRepo string, digest Digest) (Descriptor, error)

	// PushManifest stores a manifest and points tags at it, in one atomic step: either
	// everything happens or nothing.
	//
	// The ref is what the specification calls <tag-or-digest>: a tag, the digest of
	// contents, or empty. The tags are further tags for the same manifest. A tag that
	// exists is moved.
	//
	// For the media types of images and indexes (OCI, Docker schema 2, and ORAS
	// artifacts), contents must be a JSON object. Its mediaType field, if there is one,
	// must equal mediaType. The repository must have the config, layers, blobs and
	// manifests that it names, except layers that are non-distributable or have URLs.
	// The subject may be missing. Manifests of other media types are stored unchecked,
	// if [CheckMediaType] accepts the media type. PushManifest does not retain contents.
	//
	// A caller can make the push depend on what ref currently resolves to: see
	// [WithPushCondition].
	//
	// The returned descriptor has the media type, digest and size.
	//
	// Errors: [ErrNameInvalid], [ErrDigestInvalid] (ref is a digest that is malformed or
	// not that of contents), [ErrManifestInvalid] (contents, the media type or a tag is
	// invalid), [ErrManifestBlobUnknown], [ErrPreconditionFailed], [ErrDenied] (a tag
	// exists and must not be moved).
	PushManifest(ctx context.Context, repo string, ref string, contents []byte, mediaType string, tags ...string) (Descriptor, error)
}

// Deleter has the methods that delete content. Content that manifests of the repository
// name cannot be deleted before these manifests: the error is [ErrInUse].
type Deleter interface {
	// DeleteBlob deletes a blob from a repository. Other repositories keep it.
	//
	// Errors: [ErrNameInvalid], [ErrDigestInvalid], [ErrNameUnknown],
	// [ErrBlobUnknown], [ErrInUse] (a manifest of the repository names it, or
	// it is a manifest).
	DeleteBlob(ctx context.Context, repo string, digest Digest) error

	// DeleteManifest deletes a manifest and every tag that points at it, in one atomic
	// step. The content that it names and its referrers remain.
	//
	// Errors: [ErrNameInvalid], [ErrDigestInvalid], [ErrNameUnknown],
	// [ErrManifestUnknown], [ErrInUse] (an index of the repository names it).
	DeleteManifest(ctx context.Context, repo string, digest Digest) error

	// DeleteTag deletes a tag. The manifest that it points at remains.
	//
	// Errors: [ErrNameInvalid], [ErrNameUnknown], [ErrManifestUnknown].
	DeleteTag(ctx context.Context, repo string, name string) error
}

// Lister has the methods that list. Their sequences are lazy: they fetch elements as the
// loop consumes them, and leaving the loop early costs nothing. Ranging over a sequence
// again lists again. An element that is added or removed during an iteration may or may
// not be listed; every other element is listed once. An error is the last element, with
// a zero value beside it.
type Lister interface {
	// Repositories lists the names of the existing repositories in byte order, from the
	// first that is greater than startAfter, which need not exist.
	Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error]

	// Tags lists the tags of a repository in byte order, from the first that is greater
	// than startAfter, which need not exist.
	//
	// Errors: [ErrNameInvalid], [ErrNameUnknown].
	Tags(ctx context.Context, repo string, startAfter string) iter.Seq2[string, error]

	// Referrers lists the descriptors of the manifests whose subject is the given
	// digest, in byte order of their digests. The descriptors have media type, digest,
	// size, artifactType and annotations, as the specification's section "Listing
	// Referrers" says. They belong to the caller. If artifactType is not empty, only
	// manifests of that type are listed.
	//
	// The list is empty if the digest or the repository is unknown. That is no error,
	// since a referrer may be pushed before its subject. To list only the last
	// descriptors, see [WithReferrersAfter].
	//
	// Errors: [ErrNameInvalid], [ErrDigestInvalid].
	Referrers(ctx context.Context, repo string, digest Digest, artifactType string) iter.Seq2[Descriptor, error]
}

// BlobReader is the content of a blob or a manifest. It must be closed.
//
// A reader of stored content may also implement [io.WriterTo], [io.Seeker] and
// [io.ReaderAt].
type BlobReader interface {
	io.ReadCloser

	// Descriptor returns the descriptor of the whole content, even if the reader has
	// only a range of it.
	Descriptor() Descriptor
}

// BlobWriter writes to an upload session. The session ends with Commit or Cancel. After
// Close, it remains open and can be resumed.
//
// After Commit or Cancel, Write and Commit return [ErrBlobUploadUnknown]. After Close,
// they return another error. After a Write that failed, they return the same error, and
// so does Close if it would have to send buffered bytes; another writer can then continue
// from the end of the session.
type BlobWriter interface {
	// Write appends to the content. If another writer has appended to the session in
	// the meantime, Write appends nothing and returns [ErrRangeInvalid]. If a Commit of
	// the session has begun that was broken off, or goes on elsewhere, the session may
	// take nothing more, but can be committed; the error is [ErrBlobUploadInvalid] then.
	io.Writer

	// Close releases the session, which can be resumed by its ID. It does nothing after
	// Commit or Cancel.
	io.Closer

	// Size returns the number of bytes of the session up to this writer's position,
	// which is the offset to resume at.
	Size() int64

	// ChunkSize returns the best number of bytes to send at a time.
	ChunkSize() int

	// ID returns the id of the session for PushBlobChunkedResume. It is opaque, cannot
	// be guessed, and is valid from before the first Write until after Close.
	ID() string

	// Commit ends the session and makes its content a blob of the repository, if the
	// content has the given digest. The check and the publication are one atomic step.
	// A wrong digest also ends the session. Of several calls for one session at the same
	// time, more than one may succeed.
	//
	// Errors: [ErrDigestInvalid] (digest is malformed, in which case the session remains
	// open, or not that of the content), [ErrRangeInvalid], [ErrBlobUploadUnknown],
	// [ErrBlobUploadInvalid] (a Commit with another digest has begun).
	Commit(digest Digest) (Descriptor, error)

	// Cancel ends the session and frees its content. It does nothing after Commit or
	// Cancel, so that it can be deferred. The error is [ErrBlobUploadInvalid] if a Commit of
	// another writer has begun, and the session can only be committed.
	Cancel() error
}
