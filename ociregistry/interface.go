package ociregistry

import (
	"context"
	"io"
	"iter"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

type (
	// Digest names content by a hash of its bytes, as in
	// "sha256:e3b0c442…". Backends support sha256 and sha512.
	Digest = digest.Digest

	// Descriptor describes content: its media type, digest and size in bytes.
	Descriptor = ocispec.Descriptor

	// Manifest is an OCI image manifest.
	Manifest = ocispec.Manifest
)

// Interface is one registry. All methods concern that registry alone; package
// ocicopy moves content between two.
//
// It can be implemented only by embedding another Interface or [*Funcs], so
// that methods can be added to it without breaking implementations.
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
// In a repository that does not exist they all return [ErrNameUnknown], except
// that a remote registry may report the Resolve methods' unknown repositories
// as unknown content: the answer to a HEAD request has no body to tell them
// apart.
type Reader interface {
	// GetBlob returns the content of a blob. The reader keeps working when the
	// blob is deleted while it is read.
	//
	// Errors: [ErrNameInvalid], [ErrDigestInvalid], [ErrNameUnknown],
	// [ErrBlobUnknown].
	GetBlob(ctx context.Context, repo string, digest Digest) (BlobReader, error)

	// GetBlobRange returns the bytes of a blob from offset0 up to but not
	// including offset1. If offset1 is negative or beyond the end, it stands
	// for the end. The reader's descriptor is that of the whole blob.
	//
	// An offset0 that is equal to the size gives an empty reader. An offset0
	// that is negative or greater than the size is [ErrRangeInvalid], as is an
	// offset1 that is not negative and less than offset0.
	//
	// Errors: those of GetBlob, and [ErrRangeInvalid].
	GetBlobRange(ctx context.Context, repo string, digest Digest, offset0, offset1 int64) (BlobReader, error)

	// GetManifest returns the content of a manifest, byte for byte as it was
	// pushed. The reader's descriptor has the media type it was pushed with.
	//
	// Errors: [ErrNameInvalid], [ErrDigestInvalid], [ErrNameUnknown],
	// [ErrManifestUnknown].
	GetManifest(ctx context.Context, repo string, digest Digest) (BlobReader, error)

	// GetTag returns the content of the manifest that a tag points at.
	//
	// Errors: [ErrNameInvalid], [ErrNameUnknown], [ErrManifestUnknown] (also
	// for a tag that is not well formed: it cannot exist).
	GetTag(ctx context.Context, repo string, tagName string) (BlobReader, error)

	// ResolveBlob returns the descriptor of a blob, with its media type (which
	// is application/octet-stream: registries do not keep one), digest and
	// size. It costs the same for any size of blob.
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

// Writer has the methods that add content. What they acknowledge can be read
// at once by every other caller; what they refuse leaves no trace.
type Writer interface {
	// PushBlob stores a blob, reading its content from r to the end. Of desc,
	// only Digest and Size (in bytes) matter; both are checked against the
	// content, in one pass, before the blob becomes visible. The content is not
	// buffered as a whole on its way. On success desc is returned.
	//
	// Errors: [ErrNameInvalid], [ErrDigestInvalid] (malformed, or not the
	// content's), [ErrSizeInvalid] (negative, or not the content's), and any
	// error of r.
	PushBlob(ctx context.Context, repo string, desc Descriptor, r io.Reader) (Descriptor, error)

	// PushBlobChunked opens an upload session for a blob whose digest need not
	// be known yet.
	//
	// The chunkSize, in bytes, is a hint for how much is sent at a time where
	// that matters; zero leaves it to the backend, which may also use more.
	//
	// The context stays with the BlobWriter; when it ends, a blocked call of
	// the writer ends, and the session can still be resumed.
	//
	// Errors: [ErrNameInvalid].
	PushBlobChunked(ctx context.Context, repo string, chunkSize int) (BlobWriter, error)

	// PushBlobChunkedResume continues an upload session of the same repository.
	// The id, offset and chunkSize are what the earlier writer's ID, Size and
	// ChunkSize returned. An offset of -1 continues where the session is.
	//
	// Several writers may be open on one session. At each offset only one of
	// them gets to write: the first; the others' next Write or Commit fails
	// with [ErrRangeInvalid].
	//
	// Errors: [ErrNameInvalid], [ErrBlobUploadUnknown] (no session with that id
	// in repo: never opened, committed, cancelled or expired),
	// [ErrRangeInvalid] (offset is not where the session is; the session
	// stays).
	PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (BlobWriter, error)

	// MountBlob makes a blob of fromRepo a blob of toRepo too, without moving
	// its bytes. An empty fromRepo stands for any repository that has the blob.
	// Mounting what toRepo has already succeeds.
	//
	// The returned descriptor has the digest; a remote registry does not tell
	// the size, which may therefore be 0.
	//
	// Errors: [ErrNameInvalid], [ErrDigestInvalid], [ErrNameUnknown] (fromRepo
	// does not exist), [ErrBlobUnknown], [ErrUnsupported].
	MountBlob(ctx context.Context, fromRepo, toRepo string, digest Digest) (Descriptor, error)

	// PushManifest stores a manifest and points tags at it, as one atomic step:
	// everything happens, or nothing does.
	//
	// The ref is what the specification calls <tag-or-digest>: empty for no
	// tag, a tag, or the digest that contents must have. The tags are further
	// tags for the same manifest. A tag that exists is moved.
	//
	// For the media types of images and indexes (OCI, Docker schema 2, and ORAS
	// artifacts) contents must be a JSON object; its mediaType field, if there,
	// must equal mediaType; and the config, layers, blobs and manifests that it
	// names must be in the repository. Exempt are layers that are
	// non-distributable or have URLs, and the subject, which may be missing.
	// Manifests of other media types, of which [CheckMediaType] says what they are,
	// are stored unchecked. The contents are not kept by reference.
	//
	// A caller can make the push depend on what ref resolves to at that moment:
	// see [WithPushCondition].
	//
	// The returned descriptor has the media type, digest and size.
	//
	// Errors: [ErrNameInvalid], [ErrDigestInvalid] (ref is a digest and
	// malformed, or not the contents'), [ErrManifestInvalid] (contents, media
	// type or a tag), [ErrManifestBlobUnknown], [ErrPreconditionFailed],
	// [ErrDenied] (a tag exists and must not move).
	PushManifest(ctx context.Context, repo string, ref string, contents []byte, mediaType string, tags ...string) (Descriptor, error)
}

// Deleter has the methods that remove content. What others still need is kept:
// it answers [ErrInUse] until they are gone.
type Deleter interface {
	// DeleteBlob removes a blob from a repository; other repositories keep
	// theirs.
	//
	// Errors: [ErrNameInvalid], [ErrDigestInvalid], [ErrNameUnknown],
	// [ErrBlobUnknown], [ErrInUse] (a manifest of the repository names it, or
	// it is a manifest).
	DeleteBlob(ctx context.Context, repo string, digest Digest) error

	// DeleteManifest removes a manifest and every tag that points at it, as one
	// atomic step. What it named, and its referrers, stay.
	//
	// Errors: [ErrNameInvalid], [ErrDigestInvalid], [ErrNameUnknown],
	// [ErrManifestUnknown], [ErrInUse] (an index of the repository names it).
	DeleteManifest(ctx context.Context, repo string, digest Digest) error

	// DeleteTag removes a tag. The manifest that it pointed at stays.
	//
	// Errors: [ErrNameInvalid], [ErrNameUnknown], [ErrManifestUnknown].
	DeleteTag(ctx context.Context, repo string, name string) error
}

// Lister has the methods that enumerate. Their sequences are lazy: they fetch
// as they are consumed, stop for free when the loop ends, and may be ranged
// over again, which asks again. Content that comes and goes during an
// iteration may be seen or not; everything else is seen once. An error is the
// last element, with a zero value beside it.
type Lister interface {
	// Repositories lists the names of the repositories that exist, in byte
	// order, from the first that is greater than startAfter, which need not
	// exist.
	Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error]

	// Tags lists the tags of a repository, in byte order, from the first that
	// is greater than startAfter, which need not exist.
	//
	// Errors: [ErrNameInvalid], [ErrNameUnknown].
	Tags(ctx context.Context, repo string, startAfter string) iter.Seq2[string, error]

	// Referrers lists the descriptors of the manifests whose subject is the
	// given digest, in byte order of their digests. The descriptors have media
	// type, digest, size, artifactType and annotations, as the specification's
	// section "Listing Referrers" says, and belong to the caller. If artifactType
	// is not empty, only those of that type are listed.
	//
	// There are none where the digest or the repository is unknown; that is no
	// error, since a referrer may be pushed before its subject. A caller that wants
	// only the end of the list can say so: see [WithReferrersAfter].
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

	// Descriptor returns the descriptor of the whole content, also when the
	// reader has only a range of it.
	Descriptor() Descriptor
}

// BlobWriter is an open upload session. It ends with Commit or Cancel; Close
// leaves the session open, to be resumed.
//
// After Commit or Cancel, Write and Commit return [ErrBlobUploadUnknown]; after
// Close, they return an error as well. After a Write that failed, they return its
// error, as does Close where it sends what was kept; another writer can go on where
// the session is.
type BlobWriter interface {
	// Write appends to the content. It fails with [ErrRangeInvalid], and
	// appends nothing, when another writer has moved the session on.
	io.Writer

	// Close lets go of the session, which can be resumed by its ID. It does
	// nothing after Commit and Cancel.
	io.Closer

	// Size returns the number of bytes that the session has up to this writer's
	// position: the offset to resume at.
	Size() int64

	// ChunkSize returns the number of bytes that are best sent at a time.
	ChunkSize() int

	// ID returns the name of the session, for PushBlobChunkedResume. It is
	// opaque, cannot be guessed, and is valid before the first Write and after
	// Close.
	ID() string

	// Commit ends the session and makes its content a blob of the repository,
	// if digest is the content's: the check and the publication are one step.
	// A digest that is not the content's ends the session too.
	//
	// Errors: [ErrDigestInvalid] (malformed, and then the session stays; or
	// not the content's), [ErrRangeInvalid], [ErrBlobUploadUnknown].
	Commit(digest Digest) (Descriptor, error)

	// Cancel ends the session and frees what it held. It does nothing after
	// Commit and Cancel, so that it can be deferred.
	Cancel() error
}
