package ociunify

import (
	"context"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
)

// DeleteBlob implements [ociregistry.Deleter.DeleteBlob].
func (u *union) DeleteBlob(ctx context.Context, repo string, digest ociregistry.Digest) error {
	at := call.New("DeleteBlob", repo, string(digest))
	if err := at.CheckDigest(); err != nil {
		return err
	}
	return u.remove(at, func(r ociregistry.Interface) error { return r.DeleteBlob(ctx, repo, digest) })
}

// DeleteManifest implements [ociregistry.Deleter.DeleteManifest].
func (u *union) DeleteManifest(ctx context.Context, repo string, digest ociregistry.Digest) error {
	at := call.New("DeleteManifest", repo, string(digest))
	if err := at.CheckDigest(); err != nil {
		return err
	}
	return u.remove(at, func(r ociregistry.Interface) error { return r.DeleteManifest(ctx, repo, digest) })
}

// DeleteTag implements [ociregistry.Deleter.DeleteTag].
func (u *union) DeleteTag(ctx context.Context, repo string, name string) error {
	at := call.New("DeleteTag", repo, name)
	if err := at.CheckTag(); err != nil {
		return err
	}
	unlock, err := u.locks.Lock(ctx, repo+":"+name)
	if err != nil {
		return at.Wrap(err)
	}
	defer unlock()
	return u.remove(at, func(r ociregistry.Interface) error { return r.DeleteTag(ctx, repo, name) })
}

// remove deletes content from each registry that has it. If r0 refuses, because the
// content is in use for instance, r1 is not asked.
func (u *union) remove(at call.Call, remove func(ociregistry.Interface) error) error {
	err0 := remove(u.r[0])
	if u.opts.WritePolicy == WriteFirst || err0 != nil && !notFound(err0) {
		return err0
	}
	err1 := remove(u.r[1])
	switch {
	case err1 == nil, notFound(err1) && err0 == nil:
		return nil
	case notFound(err1):
		return eitherNotFound(err0, err1)
	}
	return at.Wrap(inRegistry(1, err1))
}
