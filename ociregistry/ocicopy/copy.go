package ocicopy

import (
	"context"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
)

// ErrLimit is the error of a copy that exceeds the limits in its [Options].
var ErrLimit = errors.New("limit of a copy exceeded")

// Place is the location of an artifact.
type Place struct {
	Registry   ociregistry.Interface
	Repository string

	// Ref is a tag or a digest. For a destination, empty means the Ref of the source.
	Ref string
}

// Options has the settings of a copy. The zero value copies an artifact for all of its
// platforms, without its referrers.
type Options struct {
	// Referrers copies the manifests whose subject is copied, the referrers of these,
	// and so on. The copy fails if a referrer cannot be copied, or if a list cannot be
	// read, even if the source does not support lists ([ociregistry.ErrUnsupported]).
	// Only a referrer that the source lists but no longer has is skipped: it is in the
	// Missing field of the [Result].
	Referrers bool

	// ReferrerTypes are the artifact types of the referrers to copy. Nil means all
	// types.
	ReferrerTypes []string

	// CosignTags copies the signatures, attestations and SBOMs that cosign stores under
	// tags made of a digest: sha256-HEX.sig, .att and .sbom.
	CosignTags bool

	// SkipBrokenReferrers skips referrers, and what cosign stores under tags, that the
	// source cannot deliver in full: because they cannot be read, lack a blob, or do
	// not match their digest, or because the list cannot be read. They are in the
	// Missing field of the [Result]. Without SkipBrokenReferrers, each of them fails
	// the copy.
	SkipBrokenReferrers bool

	// Platforms are the platforms to copy from an index. Nil means all of them. An
	// empty field of a platform matches any value. An artifact that is not an index is
	// copied whatever its platform.
	//
	// The index itself is copied unchanged, without the content of the other platforms,
	// if the destination accepts that; sparse registries do. If the destination refuses
	// it ([ociregistry.ErrManifestBlobUnknown]), the tag is set to the chosen manifest
	// instead, of which there must be exactly one.
	//
	// Attestation manifests, as BuildKit makes them, are copied with the image that
	// they describe.
	Platforms []ocispec.Platform

	// DropOthers replaces each index of which Platforms chose only a part by a new index
	// that has the chosen entries and is otherwise the same. This is the only case in
	// which a digest changes: the [Result] has the new digest in Descriptor and the old
	// one in MadeOf. An index that was chosen as a whole does not change, nor does an
	// artifact that is not an index.
	//
	// The annotations [AnnotationMadeOf] and [AnnotationPlatforms] of a new index say
	// what it was made of. A repeated copy to its tag believes them: it neither reads
	// the index of the source nor makes a new one, as long as the source's tag points
	// at the same digest and the platforms are the same.
	//
	// The referrers of a replaced index, and what cosign stores for it, are not copied:
	// their subject is the old digest, which the destination does not have. Whoever
	// needs a signature of the new index must sign it. The referrers of the images in
	// the index are copied as usual.
	//
	// If the Ref of the destination is a digest, it is that of the source's manifest;
	// the index that is pushed has another one.
	DropOthers bool

	// NonDistributable also copies non-distributable layers (OCI image
	// specification, section "Non-Distributable Layers") that the source has.
	NonDistributable bool

	// TrustDestination assumes that the destination has everything that its manifests
	// name, and does not check the content below a manifest that it has. A repeated
	// copy then makes one request to the destination, where it otherwise makes one for
	// each manifest and each blob. Use it only for a destination that checks manifests
	// when they are pushed, and never loses content: not for a sparse registry, and not
	// for a cache.
	TrustDestination bool

	// MountFrom lists repositories of the destination that may have blobs of the
	// artifact. If source and destination are the same registry, the source's
	// repository is tried first, without being listed.
	MountFrom []string

	// Concurrency is the maximum number of requests that are made at the same time.
	// Zero means DefaultConcurrency.
	Concurrency int

	// Progress, if not nil, is called at the start and the end of each item, and after
	// every few hundred kilobytes in between. It is called by one goroutine at a time,
	// which waits for it.
	Progress func(Progress)

	// MaxManifestSize is the maximum size of a manifest in bytes. Zero means
	// DefaultMaxManifestSize.
	MaxManifestSize int64

	// MaxManifests is the maximum number of manifests. Zero means DefaultMaxManifests.
	MaxManifests int

	// MaxBlobs is the maximum number of blobs. Zero means DefaultMaxBlobs.
	MaxBlobs int

	// MaxDepth is the maximum distance of a manifest from the one that is copied,
	// counting steps from an index to its children and from a subject to its
	// referrers. Zero means DefaultMaxDepth.
	MaxDepth int

	inner inner
}

// inner has settings that only this package uses.
type inner struct {
	// resolved is what the tag of the source points at. The copy is made by its digest.
	resolved ociregistry.Descriptor

	// onlyIndexes reads indexes, and no other manifests.
	onlyIndexes bool

	// ignoreMadeOf does not believe the annotations of an index at the destination.
	ignoreMadeOf bool

	// admit, if not nil, is called before the copy if the destination's tag does not
	// point at the artifact yet. Its error ends the copy.
	admit func(context.Context) error

	// signatures, if not nil, reports whether an artifact type is that of a signature.
	// The destination's tag does not move if no such referrer was copied.
	signatures func(artifactType string) bool

	// willRetry is set if a copy that fails with a temporary error will be retried.
	willRetry bool

	// hasTag reports whether the source has a tag. It is nil if the tags are not known.
	hasTag func(tag string) bool

	// shared is used by all copies to one registry, or nil. Copies with the same sharer
	// wait for each other.
	shared *shared
	sharer any

	// confirmed is used by all copies of a pass, or nil.
	confirmed *confirmed
}

// The defaults of [Options].
const (
	DefaultConcurrency     = 6
	DefaultMaxManifestSize = 4 << 20
	DefaultMaxManifests    = 4096
	DefaultMaxBlobs        = 1 << 17
	DefaultMaxDepth        = 16
)

// maxGraph is the maximum size in bytes of all manifests of a copy, which are in memory
// until they are written.
const maxGraph = 128 << 20

// Copy copies the artifact src to dst with everything that it names: an image, an
// index and its children, or any other artifact. It returns what it did, even if it
// fails. Nil opts mean the zero Options.
//
// Copy makes as few requests to the source as possible. A repeated copy of a tag
// resolves the tag at both registries, finds the same digest, and asks the source for
// nothing else. A repeated copy by digest does not ask the source at all. Referrers
// and cosign's tags are looked up in addition, and with Platforms the index is read.
//
// Copy asks the destination for every manifest and every blob, unless
// TrustDestination is set: a destination that has a manifest need not have what it
// names, nor have it under the right media type. Missing content is copied, and a
// manifest with a wrong media type is pushed again. Blobs that the destination has
// are not read.
//
// A tag may point at a manifest of any type. But what a proxy serves in place of a
// registry, such as a page, an error or nothing, is not copied by tag: the error is
// [ociregistry.ErrManifestInvalid]. By digest, everything is copied.
//
// Copy stops soon after ctx ends, and returns when everything that it started has
// ended.
//
// Copy wraps the errors of the two registries, among them
// [ociregistry.ErrManifestUnknown] and [ociregistry.ErrNameUnknown] of the source,
// and [ociregistry.ErrBlobUnknown] if the source lacks a blob that a manifest names.
// The error is [ociregistry.ErrDigestInvalid] if content of the source does not match
// its digest, [ociregistry.ErrManifestInvalid] if a manifest is malformed, and
// [ErrLimit] if the artifact exceeds a limit.
func Copy(ctx context.Context, dst, src Place, opts *Options) (Result, error) {
	return run(ctx, dst, src, false, opts)
}

// Plan returns what [Copy] would do, and changes nothing. It reads manifests, but no
// blobs. It assumes that mounts between repositories of one registry succeed, and that
// the destination accepts an index without the content of some platforms. Errors are
// those of Copy.
func Plan(ctx context.Context, dst, src Place, opts *Options) (Result, error) {
	return run(ctx, dst, src, true, opts)
}

func run(ctx context.Context, dst, src Place, dry bool, opts *Options) (Result, error) {
	c := newCopier(dst, src, dry, opts)
	err := c.run(ctx)
	if c.remembered && absent(err) {
		// The destination lost a part of the new index, which the source never had.
		opts := c.opts
		opts.inner.ignoreMadeOf = true
		c = newCopier(dst, src, dry, &opts)
		err = c.run(ctx)
	}
	if err != nil {
		err = fmt.Errorf("copy of %s to %s: %w", describe(src), describe(c.dst), err)
	}
	return c.result(), err
}

func describe(p Place) string {
	if call.IsDigest(p.Ref) {
		return p.Repository + "@" + p.Ref
	}
	return p.Repository + ":" + p.Ref
}

// sourceError is an error of the source, or about its content.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return "at the source: " + e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// atSource and atDestination add to an error which registry it is from.
func atSource(err error) error      { return &sourceError{err} }
func atDestination(err error) error { return fmt.Errorf("at the destination: %w", err) }

func fromSource(err error) bool {
	var at *sourceError
	return errors.As(err, &at)
}

// absent reports whether err says that the content does not exist.
func absent(err error) bool {
	return errors.Is(err, ociregistry.ErrNameUnknown) ||
		errors.Is(err, ociregistry.ErrManifestUnknown) ||
		errors.Is(err, ociregistry.ErrBlobUnknown)
}
