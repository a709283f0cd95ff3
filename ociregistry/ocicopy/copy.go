package ocicopy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
)

// ErrLimit is for a copy that would go beyond the limits of its [Options].
var ErrLimit = errors.New("beyond the limits of a copy")

// Place is where an artifact is, or where it goes.
type Place struct {
	Registry ociregistry.Interface
	Repo     string

	// Ref is a tag or a digest. At the destination it may be empty: then it is
	// that of the source.
	Ref string
}

// Options has the settings of a copy. Its zero value copies an artifact for all
// its platforms, and nothing that refers to it.
type Options struct {
	// Referrers copies the manifests whose subject is one of those copied, and
	// the referrers of these, and so on. One that cannot be copied fails the
	// copy, but for one that the source lists and no longer has: it is among the
	// Missing of the [Result]. A list that cannot be read fails the copy too, also
	// at a source that has none ([ociregistry.ErrUnsupported]).
	Referrers bool

	// ReferrerTypes are the artifact types of the referrers to copy. Nil is
	// all of them.
	ReferrerTypes []string

	// CosignTags copies the signatures, attestations and SBOMs that cosign
	// keeps under tags made of a digest, sha256-HEX.sig, .att and .sbom.
	CosignTags bool

	// SkipBrokenReferrers copies an artifact without those of its referrers, and
	// of what cosign keeps under tags, that the source cannot give in full: one
	// that cannot be read, lacks a blob or has other content than it says, or all
	// of a list that cannot be read. They are among the Missing of the [Result].
	// Otherwise one of them fails the copy, each time.
	SkipBrokenReferrers bool

	// Platforms are the platforms to copy out of an index. Nil is all of them.
	// Fields that are empty match everything. What is no index is copied
	// whatever its platform.
	//
	// The index itself is copied unchanged, with the other platforms missing,
	// if the destination takes it, which a sparse one does. A destination that
	// refuses it ([ociregistry.ErrManifestBlobUnknown]) gets the chosen manifest
	// under the tag instead; there must be one, then.
	//
	// Manifests with attestations, as BuildKit makes them, go with the image that
	// they are about.
	Platforms []ocispec.Platform

	// DropOthers makes a new index of each index of which not all was chosen by
	// Platforms, with the entries that were, and all else that it has. This is the
	// one case in which a digest changes: the new one is that of the [Result], whose
	// MadeOf has the old one. An index of which everything was chosen stays as it is,
	// and so does what is no index.
	//
	// A new index says in its annotations what it was made of ([AnnotationMadeOf],
	// [AnnotationPlatforms]). A repeated copy to its tag believes that, and neither
	// reads the index of the source nor makes it again, as long as the tag there
	// points at the same digest and the platforms are the same.
	//
	// The referrers of an index that was replaced, and what cosign keeps for it, are
	// about its old digest, which the destination does not have: they are not copied.
	// Who needs signatures of what is served has to sign the new index. Those of the
	// images in it are copied as ever.
	//
	// A digest as the Ref of the destination is that of the source's manifest, then;
	// what is pushed has the new one.
	DropOthers bool

	// NonDistributable copies non-distributable layers too (OCI image
	// specification, section "Non-Distributable Layers"), where the source
	// has them.
	NonDistributable bool

	// TrustDestination takes for granted that the destination holds all that the
	// manifests name which it holds: what it has is not followed further. A
	// repeated copy then makes one request to the destination for each manifest
	// that was asked for, where it otherwise makes one for each manifest and each
	// blob. This is for a destination that checked all of that when the manifests
	// were pushed, and never loses content: it is neither sparse nor a cache.
	TrustDestination bool

	// MountFrom has repositories of the destination that may have blobs of the
	// artifact. When source and destination are one registry, the source's
	// repository is tried first without being asked for.
	MountFrom []string

	// Concurrency is how many requests are made at a time. Zero stands for
	// DefaultConcurrency.
	Concurrency int

	// Progress is told how the copy goes on, if it is not nil. It is called by
	// one goroutine at a time, which waits for it: at the start and the end of
	// each item, and after some hundred kilobytes between them.
	Progress func(Progress)

	// MaxManifestSize bounds the size in bytes of each manifest. Zero stands for
	// DefaultMaxManifestSize.
	MaxManifestSize int64

	// MaxManifests bounds the number of manifests. Zero stands for DefaultMaxManifests.
	MaxManifests int

	// MaxBlobs bounds the number of blobs. Zero stands for DefaultMaxBlobs.
	MaxBlobs int

	// MaxDepth bounds how far the manifests are from the one that was asked
	// for, counting steps from an index to its children and from a subject to
	// its referrers. Zero stands for DefaultMaxDepth.
	MaxDepth int

	inner inner
}

// inner has the settings that only this package makes copies with.
type inner struct {
	// resolved is what a tag of the source pointed at. The copy is by its digest.
	resolved ociregistry.Descriptor

	// onlyIndexes reads no other manifests than indexes.
	onlyIndexes bool

	// afresh forgets what the destination's tag may have been made of.
	afresh bool

	// admit is asked before anything is copied that the destination's tag does
	// not point at yet, if it is not nil.
	admit func(context.Context) error

	// signatures reports whether an artifact type is that of a signature without
	// which the destination's tag does not move. Nil is none.
	signatures func(artifactType string) bool

	// triedAgain says that a copy which fails will be tried again, if that may help.
	triedAgain bool

	// hasTag reports whether the source has a tag. Nil is for others.
	hasTag func(tag string) bool

	// shared is common to copies to one registry, or nil. Copies of one sharer
	// wait for each other.
	shared *shared
	sharer any

	// confirmed is common to the copies of a pass, or nil.
	confirmed *confirmed
}

// The values that Options have by default.
const (
	DefaultConcurrency     = 6
	DefaultMaxManifestSize = 4 << 20
	DefaultMaxManifests    = 4096
	DefaultMaxBlobs        = 1 << 17
	DefaultMaxDepth        = 16
)

// maxGraph bounds the bytes of all manifests of a copy: they are in memory until
// they are written.
const maxGraph = 128 << 20

// Copy copies the artifact src to dst, with all that it names: an image, an index
// and its children, or any other artifact. It returns what it did, also when it
// fails.
//
// The source is asked as little as possible. A repeated copy of a tag resolves
// the tag at both ends, finds the same digest, and asks the source nothing more; a
// copy by digest does not ask it at all, then. With referrers or cosign's tags,
// these are asked for in addition, and with Platforms the index is read.
//
// The destination is asked for every manifest and every blob, Concurrency of them
// at a time: that it has a manifest does not say that it has what that names, nor
// that it has it under its media type. What is not there is copied, and a manifest
// with another media type is pushed again. Blobs that the destination has are not
// read. See TrustDestination.
//
// Of a tag of the source that is new to the destination, everything is copied but
// what a proxy serves in place of a registry: a page, an error, or nothing, which is
// [ociregistry.ErrManifestInvalid]. By digest, everything is copied.
//
// Copy stops soon after ctx ends, and returns when all that it started has ended.
//
// Errors are those of the two registries, wrapped: among them
// [ociregistry.ErrManifestUnknown] and [ociregistry.ErrNameUnknown] of the source,
// [ociregistry.ErrBlobUnknown] where the source lacks a blob that a manifest
// names, [ociregistry.ErrDigestInvalid] where it has other content than it says,
// [ociregistry.ErrManifestInvalid] for a malformed manifest or what is none; and
// [ErrLimit].
func Copy(ctx context.Context, dst, src Place, opts *Options) (Result, error) {
	return run(ctx, dst, src, opts, false)
}

// Plan returns what [Copy] would do, and changes nothing. It reads manifests, and
// no blobs. What it cannot know is taken for the better: that mounts succeed
// between repositories of one registry, and that the destination takes an index
// of which some platforms are missing. Errors are those of Copy.
func Plan(ctx context.Context, dst, src Place, opts *Options) (Result, error) {
	return run(ctx, dst, src, opts, true)
}

func run(ctx context.Context, dst, src Place, opts *Options, dry bool) (Result, error) {
	c := newCopier(dst, src, opts, dry)
	err := c.run(ctx)
	if c.remembered && absent(err) {
		// The destination lost a part of what was made, which the source never had.
		opts := c.opts
		opts.inner.afresh = true
		c = newCopier(dst, src, &opts, dry)
		err = c.run(ctx)
	}
	if err != nil {
		err = fmt.Errorf("copy of %s to %s: %w", describe(src), describe(c.dst), err)
	}
	return c.result(), err
}

func describe(p Place) string {
	if isDigest(p.Ref) {
		return p.Repo + "@" + p.Ref
	}
	return p.Repo + ":" + p.Ref
}

// isDigest tells digests from tags, which have no colon.
func isDigest(ref string) bool { return strings.Contains(ref, ":") }

// sourceError is an error of the source, or about what it has.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return "at the source: " + e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// atSource and atDestination say which of the two an error is from.
func atSource(err error) error      { return &sourceError{err} }
func atDestination(err error) error { return fmt.Errorf("at the destination: %w", err) }

func fromSource(err error) bool {
	var at *sourceError
	return errors.As(err, &at)
}

// absent reports whether err says that there is no such content.
func absent(err error) bool {
	return errors.Is(err, ociregistry.ErrNameUnknown) ||
		errors.Is(err, ociregistry.ErrManifestUnknown) ||
		errors.Is(err, ociregistry.ErrBlobUnknown)
}
