package ocifilter

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/seed-40b21970/oci/ociregistry"
)

// AccessKind says what a call wants to do in a repository.
type AccessKind int

const (
	// AccessRead is for the methods of [ociregistry.Reader].
	AccessRead AccessKind = iota

	// AccessWrite is for the methods of [ociregistry.Writer].
	AccessWrite

	// AccessDelete is for the methods of [ociregistry.Deleter].
	AccessDelete

	// AccessList is for the methods of [ociregistry.Lister].
	AccessList
)

// AccessChecker returns a view of r that calls check before each call of r. If
// check returns an error, so does the method, wrapped in an
// [ociregistry.OpError], and r is not called. The check function must be safe
// for concurrent use.
//
// It is called with the name of the repository, which is always well formed:
// malformed names, and malformed digests and tags of what is to be looked up,
// fail before. So what check hides behind [ociregistry.ErrNameUnknown] cannot be
// told from what does not exist.
//
//   - MountBlob needs AccessRead to fromRepo, and AccessWrite to toRepo. An empty
//     fromRepo is [ociregistry.ErrUnsupported]: r would look for the blob in
//     the repositories that check hides as well. Callers upload it instead.
//   - Repositories needs AccessList to "*", which is no repository's name. Then it
//     lists the repositories to which check allows AccessRead.
//   - Referrers is empty where check returns ErrNameUnknown for AccessList, as it is
//     for a repository that does not exist.
func AccessChecker(r ociregistry.Interface, check func(repoName string, access AccessKind) error) ociregistry.Interface {
	return &accessChecker{r: r, check: check}
}

type accessChecker struct {
	*ociregistry.Funcs
	r     ociregistry.Interface
	check func(repoName string, access AccessKind) error
}

// allow checks access to the target of a call.
func (c *accessChecker) allow(t target, access AccessKind) error {
	if err := t.checkRepo(); err != nil {
		return err
	}
	if err := c.check(t.repo, access); err != nil {
		return t.fail(err)
	}
	return nil
}

// allowDigest is allow for a call that looks up a digest.
func (c *accessChecker) allowDigest(op, repo string, digest ociregistry.Digest, access AccessKind) error {
	t := target{op, repo, string(digest)}
	if err := t.checkDigest(); err != nil {
		return err
	}
	return c.allow(t, access)
}

// allowTag is allow for a call that looks up a tag.
func (c *accessChecker) allowTag(op, repo, tag string, access AccessKind) error {
	t := target{op, repo, tag}
	if err := t.checkTag(); err != nil {
		return err
	}
	return c.allow(t, access)
}

func (c *accessChecker) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	if err := c.allowDigest("GetBlob", repo, digest, AccessRead); err != nil {
		return nil, err
	}
	return c.r.GetBlob(ctx, repo, digest)
}

func (c *accessChecker) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	if err := c.allowDigest("GetBlobRange", repo, digest, AccessRead); err != nil {
		return nil, err
	}
	return c.r.GetBlobRange(ctx, repo, digest, offset0, offset1)
}

func (c *accessChecker) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	if err := c.allowDigest("GetManifest", repo, digest, AccessRead); err != nil {
		return nil, err
	}
	return c.r.GetManifest(ctx, repo, digest)
}

func (c *accessChecker) GetTag(ctx context.Context, repo string, tagName string) (ociregistry.BlobReader, error) {
	if err := c.allowTag("GetTag", repo, tagName, AccessRead); err != nil {
		return nil, err
	}
	return c.r.GetTag(ctx, repo, tagName)
}

func (c *accessChecker) ResolveBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	if err := c.allowDigest("ResolveBlob", repo, digest, AccessRead); err != nil {
		return ociregistry.Descriptor{}, err
	}
	return c.r.ResolveBlob(ctx, repo, digest)
}

func (c *accessChecker) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	if err := c.allowDigest("ResolveManifest", repo, digest, AccessRead); err != nil {
		return ociregistry.Descriptor{}, err
	}
	return c.r.ResolveManifest(ctx, repo, digest)
}

func (c *accessChecker) ResolveTag(ctx context.Context, repo string, tagName string) (ociregistry.Descriptor, error) {
	if err := c.allowTag("ResolveTag", repo, tagName, AccessRead); err != nil {
		return ociregistry.Descriptor{}, err
	}
	return c.r.ResolveTag(ctx, repo, tagName)
}

func (c *accessChecker) PushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, content io.Reader) (ociregistry.Descriptor, error) {
	if err := c.allow(target{"PushBlob", repo, string(desc.Digest)}, AccessWrite); err != nil {
		return ociregistry.Descriptor{}, err
	}
	return c.r.PushBlob(ctx, repo, desc, content)
}

func (c *accessChecker) PushBlobChunked(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
	if err := c.allow(target{"PushBlobChunked", repo, ""}, AccessWrite); err != nil {
		return nil, err
	}
	return c.r.PushBlobChunked(ctx, repo, chunkSize)
}

// PushBlobChunkedResume relies on r for that an upload id is of one repository.
func (c *accessChecker) PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
	if err := c.allow(target{"PushBlobChunkedResume", repo, id}, AccessWrite); err != nil {
		return nil, err
	}
	return c.r.PushBlobChunkedResume(ctx, repo, id, offset, chunkSize)
}

func (c *accessChecker) MountBlob(ctx context.Context, fromRepo, toRepo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	from, to := target{"MountBlob", fromRepo, string(digest)}, target{"MountBlob", toRepo, string(digest)}
	if fromRepo != "" {
		if err := from.checkRepo(); err != nil {
			return ociregistry.Descriptor{}, err
		}
	}
	if err := to.checkDigest(); err != nil {
		return ociregistry.Descriptor{}, err
	}
	if fromRepo != "" {
		if err := c.allow(from, AccessRead); err != nil {
			return ociregistry.Descriptor{}, err
		}
	}
	if err := c.allow(to, AccessWrite); err != nil {
		return ociregistry.Descriptor{}, err
	}
	if fromRepo == "" {
		return ociregistry.Descriptor{}, to.fail(errMountFromAny)
	}
	return c.r.MountBlob(ctx, fromRepo, toRepo, digest)
}

func (c *accessChecker) PushManifest(ctx context.Context, repo string, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	if err := c.allow(target{"PushManifest", repo, ref}, AccessWrite); err != nil {
		return ociregistry.Descriptor{}, err
	}
	return c.r.PushManifest(ctx, repo, ref, contents, mediaType, tags...)
}

func (c *accessChecker) DeleteBlob(ctx context.Context, repo string, digest ociregistry.Digest) error {
	if err := c.allowDigest("DeleteBlob", repo, digest, AccessDelete); err != nil {
		return err
	}
	return c.r.DeleteBlob(ctx, repo, digest)
}

func (c *accessChecker) DeleteManifest(ctx context.Context, repo string, digest ociregistry.Digest) error {
	if err := c.allowDigest("DeleteManifest", repo, digest, AccessDelete); err != nil {
		return err
	}
	return c.r.DeleteManifest(ctx, repo, digest)
}

func (c *accessChecker) DeleteTag(ctx context.Context, repo string, name string) error {
	if err := c.allowTag("DeleteTag", repo, name, AccessDelete); err != nil {
		return err
	}
	return c.r.DeleteTag(ctx, repo, name)
}

func (c *accessChecker) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := c.check("*", AccessList); err != nil {
			yield("", target{op: "Repositories"}.fail(err))
			return
		}
		for repo, err := range c.r.Repositories(ctx, startAfter) {
			if err == nil && c.check(repo, AccessRead) != nil {
				continue
			}
			if !yield(repo, err) {
				return
			}
		}
	}
}

func (c *accessChecker) Tags(ctx context.Context, repo string, startAfter string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := c.allow(target{"Tags", repo, ""}, AccessList); err != nil {
			yield("", err)
			return
		}
		c.r.Tags(ctx, repo, startAfter)(yield)
	}
}

func (c *accessChecker) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	return func(yield func(ociregistry.Descriptor, error) bool) {
		err := c.allowDigest("Referrers", repo, digest, AccessList)
		switch {
		case errors.Is(err, ociregistry.ErrNameUnknown):
		case err != nil:
			yield(ociregistry.Descriptor{}, err)
		default:
			c.r.Referrers(ctx, repo, digest, artifactType)(yield)
		}
	}
}
