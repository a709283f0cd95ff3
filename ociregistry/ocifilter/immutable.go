package ocifilter

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/internal/stripes"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Immutable returns a view of r that accepts new content, and in which existing
// content cannot be changed or deleted.
//
// The methods of [ociregistry.Deleter] return [ociregistry.ErrDenied]. So does a
// PushManifest that would move a tag to another digest, or give a manifest another
// media type; it sets none of its tags. Pushing the same manifest under the same tag
// again succeeds. If r fails to say whether a tag or a manifest exists, with an error
// other than [ociregistry.ErrManifestUnknown] or [ociregistry.ErrNameUnknown], the
// push fails with that error.
//
// Between the check and the push, existing content is protected in two ways:
//
//   - Pushes through one view that have a tag or the manifest in common wait for
//     each other, or until their contexts end.
//   - Against changes that do not go through the view, the push carries an
//     [ociregistry.PushCondition]: if r honours it, only one of two concurrent
//     pushes of a tag succeeds. A condition applies to ref only; if ref is empty, or
//     a SHA-256 digest, the first of tags takes its place. Further tags are
//     protected in the first way only.
//
// A PushCondition in the context of the caller must hold too, and is checked first.
// If it does not hold, the error is [ociregistry.ErrPreconditionFailed].
func Immutable(r ociregistry.Interface) ociregistry.Interface {
	return &immutable{
		Reader:   r,
		Lister:   r,
		refusing: refusing{&ociregistry.Funcs{NewError: denyChange}},
		r:        r,
		locks:    stripes.New(),
	}
}

type immutable struct {
	ociregistry.Reader
	ociregistry.Lister
	refusing
	r     ociregistry.Interface
	locks *stripes.Locks
}

func denyChange(_ context.Context, method, repo string) error {
	return call.New(method, repo, "").Wrap(fmt.Errorf("%w: content is immutable", ociregistry.ErrDenied))
}

func (r *immutable) PushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, content io.Reader) (ociregistry.Descriptor, error) {
	return r.r.PushBlob(ctx, repo, desc, content)
}

func (r *immutable) PushBlobChunked(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
	return r.r.PushBlobChunked(ctx, repo, chunkSize)
}

func (r *immutable) PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
	return r.r.PushBlobChunkedResume(ctx, repo, id, offset, chunkSize)
}

func (r *immutable) MountBlob(ctx context.Context, fromRepo, toRepo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	return r.r.MountBlob(ctx, fromRepo, toRepo, digest)
}

func (r *immutable) PushManifest(ctx context.Context, repo string, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	at := call.New("PushManifest", repo, ref)
	if err := at.CheckPush(tags); err != nil {
		return ociregistry.Descriptor{}, err
	}
	canonical := digest.FromBytes(contents)
	p := manifestPush{repo, ref, contents, mediaType, tags, canonical}
	if call.IsDigest(ref) {
		p.digest = ociregistry.Digest(ref)
	}
	if ref == "" || ref == string(canonical) {
		p.chooseRef(ociregistry.PushConditionFrom(ctx))
	}
	unlock, err := r.locks.Lock(ctx, p.keys()...)
	if err != nil {
		return ociregistry.Descriptor{}, at.Wrap(err)
	}
	defer unlock()
	return r.push(ctx, at, p)
}

// maxPushes is the maximum number of consecutive attempts at a push while changes that
// do not go through the view move what ref resolves to.
const maxPushes = 3

// push checks and pushes p, whose keys are locked.
func (r *immutable) push(ctx context.Context, at call.Call, p manifestPush) (ociregistry.Descriptor, error) {
	for try := 1; ; try++ {
		current, err := r.check(ctx, p)
		if err != nil {
			return ociregistry.Descriptor{}, at.Wrap(err)
		}
		desc, err := r.r.PushManifest(onlyWhile(ctx, current), p.repo, p.ref, p.contents, p.mediaType, p.tags...)
		if !errors.Is(err, ociregistry.ErrPreconditionFailed) || try == maxPushes {
			return desc, err
		}
	}
}

// check returns an error if p would change existing content, or if the condition of the
// caller does not hold. Otherwise it returns the digest that p.ref resolves to: that of
// p, or "" if it does not exist.
func (r *immutable) check(ctx context.Context, p manifestPush) (current ociregistry.Digest, err error) {
	manifest, exists, err := lookUp(r.r.ResolveManifest(ctx, p.repo, p.digest))
	if err != nil {
		return "", fmt.Errorf("cannot tell whether manifest %s exists: %w", p.digest, err)
	}
	if exists {
		current = p.digest
	}
	pointsAt := make(map[string]ociregistry.Digest)
	for _, tag := range p.allTags() {
		desc, exists, err := lookUp(r.r.ResolveTag(ctx, p.repo, tag))
		if err != nil {
			return "", fmt.Errorf("cannot tell whether tag %s exists: %w", tag, err)
		}
		if exists {
			pointsAt[tag] = desc.Digest
		}
	}
	if p.refIsTag() {
		current = pointsAt[p.ref]
	}
	if err := ociregistry.PushConditionFrom(ctx).Check(current); err != nil {
		return "", err
	}
	if exists && manifest.MediaType != p.mediaType {
		return "", fmt.Errorf("%w: manifest %s is immutable and has media type %q", ociregistry.ErrDenied, p.digest, manifest.MediaType)
	}
	for _, tag := range p.allTags() {
		if d, exists := pointsAt[tag]; exists && d != p.digest {
			return "", fmt.Errorf("%w: tag %s is immutable and points at %s", ociregistry.ErrDenied, tag, d)
		}
	}
	return current, nil
}

// lookUp tells content that does not exist from content that cannot be looked up.
func lookUp(desc ociregistry.Descriptor, err error) (_ ociregistry.Descriptor, exists bool, _ error) {
	if err == nil {
		return desc, true, nil
	}
	if notFound(err) {
		return desc, false, nil
	}
	return desc, false, err
}

// notFound reports whether err says that a tag or manifest does not exist. If err wraps
// several errors, as that of a union of registries may, all of them must say so.
func notFound(err error) bool { return call.ErrorIsOnly(err, notFoundErrors) }

var notFoundErrors = []error{ociregistry.ErrManifestUnknown, ociregistry.ErrNameUnknown}

// manifestPush has the arguments of PushManifest, and the digest under which the
// manifest will be stored.
type manifestPush struct {
	repo, ref string
	contents  []byte
	mediaType string
	tags      []string
	digest    ociregistry.Digest
}

// chooseRef sets ref to what a condition should apply to: a tag if there is one, or
// else the manifest. It must be called only if ref is empty or the SHA-256 digest of
// the manifest, so that the push has the same effect. If the caller has a condition,
// that applies to the manifest.
func (p *manifestPush) chooseRef(condition ociregistry.PushCondition) {
	conditional := condition.IfMatch != nil || condition.IfNoneMatch != nil
	if !conditional && len(p.tags) > 0 {
		p.ref, p.tags = p.tags[0], p.tags[1:]
		return
	}
	p.ref = string(p.digest)
}

func (p *manifestPush) refIsTag() bool { return call.IsTag(p.ref) }

func (p *manifestPush) allTags() []string {
	if p.refIsTag() {
		return append([]string{p.ref}, p.tags...)
	}
	return p.tags
}

// keys returns the keys to lock for the push.
func (p *manifestPush) keys() []string {
	keys := []string{p.repo + "@" + string(p.digest)}
	for _, tag := range p.allTags() {
		keys = append(keys, p.repo+":"+tag)
	}
	return keys
}

// onlyWhile returns a context that makes a push fail if its ref no longer resolves to
// current. It replaces the condition of the caller, which holds for current.
func onlyWhile(ctx context.Context, current ociregistry.Digest) context.Context {
	if current == "" {
		return ociregistry.WithPushCondition(ctx, ociregistry.PushCondition{IfNoneMatch: []ociregistry.Digest{ociregistry.AnyManifest}})
	}
	return ociregistry.WithPushCondition(ctx, ociregistry.PushCondition{IfMatch: []ociregistry.Digest{current}})
}
