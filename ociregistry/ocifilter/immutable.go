package ocifilter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/stripes"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// Immutable returns a view of r to which content can be added, and in which
// nothing that is there can be changed or removed.
//
// The methods of [ociregistry.Deleter] return [ociregistry.ErrDenied]. So does a
// PushManifest that would move a tag to another digest, or give a manifest
// another media type; then none of its tags are set. Pushing the same manifest
// under the same tag again is fine. When r fails to say whether a tag or a
// manifest exists, with an error other than [ociregistry.ErrManifestUnknown] or
// [ociregistry.ErrNameUnknown], the push is refused with that error.
//
// Two things keep others out between the look at what is there and the push:
//
//   - Pushes through one view that have a tag or the manifest in common wait for
//     each other, or until their contexts end.
//   - Against those who do not go through the view, the push carries an
//     [ociregistry.PushCondition]: if r honours it, of two concurrent pushes of
//     one tag only one wins. The condition can speak of ref alone; when that is
//     empty, or a SHA-256 digest, the first of tags takes its place. Further
//     tags have only the first protection.
//
// A PushCondition that the caller put into the context must hold as well. It is
// looked at first: where it does not hold, the error is
// [ociregistry.ErrPreconditionFailed].
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
	return target{method, repo, ""}.fail(fmt.Errorf("%w: content is immutable", ociregistry.ErrDenied))
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
	at := target{"PushManifest", repo, ref}
	canonical := digest.FromBytes(contents)
	p := manifestPush{repo, ref, contents, mediaType, tags, canonical}
	if strings.Contains(ref, ":") {
		if err := at.checkDigest(); err != nil {
			return ociregistry.Descriptor{}, err
		}
		p.digest = ociregistry.Digest(ref)
	} else if err := at.checkRepo(); err != nil {
		return ociregistry.Descriptor{}, err
	}
	for _, tag := range p.allTags() {
		if !ociref.IsValidTag(tag) {
			return ociregistry.Descriptor{}, at.fail(fmt.Errorf("%w: invalid tag %.128q", ociregistry.ErrManifestInvalid, tag))
		}
	}
	if ref == "" || ref == string(canonical) {
		p.chooseRef(ociregistry.PushConditionFrom(ctx))
	}
	unlock, err := r.locks.Lock(ctx, p.keys()...)
	if err != nil {
		return ociregistry.Descriptor{}, at.fail(err)
	}
	defer unlock()
	return r.push(ctx, at, p)
}

// maxPushes is how often a push is tried while others, who do not go through
// this view, change what ref resolves to.
const maxPushes = 3

// push pushes p while what it is about is locked.
func (r *immutable) push(ctx context.Context, at target, p manifestPush) (ociregistry.Descriptor, error) {
	for try := 1; ; try++ {
		current, err := r.check(ctx, p)
		if err != nil {
			return ociregistry.Descriptor{}, at.fail(err)
		}
		desc, err := r.r.PushManifest(onlyWhile(ctx, current), p.repo, p.ref, p.contents, p.mediaType, p.tags...)
		if !errors.Is(err, ociregistry.ErrPreconditionFailed) || try == maxPushes {
			return desc, err
		}
	}
}

// check returns an error if p would change anything, or if the caller's
// condition does not hold. Else it returns the digest that p.ref resolves to,
// which is empty or p's own.
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

// lookUp tells content that does not exist from content that cannot be had.
func lookUp(desc ociregistry.Descriptor, err error) (_ ociregistry.Descriptor, exists bool, _ error) {
	if err == nil {
		return desc, true, nil
	}
	if notFound(err) {
		return desc, false, nil
	}
	return desc, false, err
}

// notFound reports whether err says that there is nothing, and nothing else: if
// it wraps several errors, as that of a registry made of several may, all of
// them have to say so.
func notFound(err error) bool {
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		errs := e.Unwrap()
		return len(errs) > 0 && !slices.ContainsFunc(errs, func(err error) bool { return !notFound(err) })
	case interface{ Unwrap() error }:
		return notFound(e.Unwrap())
	}
	return errors.Is(err, ociregistry.ErrManifestUnknown) || errors.Is(err, ociregistry.ErrNameUnknown)
}

// manifestPush has the arguments of PushManifest, and the digest under which the
// manifest will be stored.
type manifestPush struct {
	repo, ref string
	contents  []byte
	mediaType string
	tags      []string
	digest    ociregistry.Digest
}

// chooseRef makes ref what a condition should speak of: a tag if there is one,
// else the manifest. It must be empty or the manifest's digest by SHA-256, so
// that what is pushed stays the same. A caller with a condition of its own has
// meant the manifest.
func (p *manifestPush) chooseRef(condition ociregistry.PushCondition) {
	conditional := condition.IfMatch != nil || condition.IfNoneMatch != nil
	if !conditional && len(p.tags) > 0 {
		p.ref, p.tags = p.tags[0], p.tags[1:]
		return
	}
	p.ref = string(p.digest)
}

func (p *manifestPush) refIsTag() bool { return p.ref != "" && !strings.Contains(p.ref, ":") }

func (p *manifestPush) allTags() []string {
	if p.refIsTag() {
		return append([]string{p.ref}, p.tags...)
	}
	return p.tags
}

// keys returns what the push is about, for locking.
func (p *manifestPush) keys() []string {
	keys := []string{p.repo + "@" + string(p.digest)}
	for _, tag := range p.allTags() {
		keys = append(keys, p.repo+":"+tag)
	}
	return keys
}

// onlyWhile returns a context that makes a push fail when its ref no longer
// resolves to current. The caller's condition, which holds for current, needs no
// second look then.
func onlyWhile(ctx context.Context, current ociregistry.Digest) context.Context {
	if current == "" {
		return ociregistry.WithPushCondition(ctx, ociregistry.PushCondition{IfNoneMatch: []ociregistry.Digest{ociregistry.AnyManifest}})
	}
	return ociregistry.WithPushCondition(ctx, ociregistry.PushCondition{IfMatch: []ociregistry.Digest{current}})
}
