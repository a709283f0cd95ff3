package ocifilter

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
)

// AccessKind says what a call does in a repository. Packages ociserver and ociauth
// have their own words for that:
//
//	ocifilter                           ociserver     ociauth
//	AccessRead                          ActionPull    ActionPull
//	AccessWrite                         ActionPush    ActionPush, with ActionPull
//	AccessDelete                        ActionDelete  ActionDelete
//	AccessList of tags and referrers    ActionPull    ActionPull
//	AccessList of "*", the repositories ActionList    CatalogScope
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
// check returns an error, the method returns it, wrapped in an
// [ociregistry.OpError], and does not call r. The check function must be safe for
// concurrent use.
//
// The check function is called with valid repository names only. Invalid names, and
// invalid digests and tags in a lookup, fail before. A repository for which check
// returns [ociregistry.ErrNameUnknown] therefore looks as if it did not exist.
//
//   - MountBlob needs AccessRead to fromRepo and AccessWrite to toRepo. An empty
//     fromRepo fails with [ociregistry.ErrUnsupported], because r would also search
//     the repositories that check hides. Callers upload the blob instead.
//   - Repositories needs AccessList to "*", which is not a repository name. It lists
//     the repositories to which check allows AccessRead.
//   - Referrers yields nothing where check returns ErrNameUnknown for AccessList, as
//     for a repository that does not exist.
func AccessChecker(r ociregistry.Interface, check func(repoName string, access AccessKind) error) ociregistry.Interface {
	return &accessChecker{r: r, check: check}
}

type accessChecker struct {
	*ociregistry.Funcs
	r     ociregistry.Interface
	check func(repoName string, access AccessKind) error
}

// allow checks the repository of a call and the access to it.
func (c *accessChecker) allow(at call.Call, access AccessKind) error {
	if err := at.CheckRepository(); err != nil {
		return err
	}
	if err := c.check(at.Repository, access); err != nil {
		return at.Wrap(err)
	}
	return nil
}

// allowDigest is allow for a call that looks up a digest.
func (c *accessChecker) allowDigest(op, repo string, digest ociregistry.Digest, access AccessKind) error {
	at := call.New(op, repo, string(digest))
	if err := at.CheckDigest(); err != nil {
		return err
	}
	return c.allow(at, access)
}

// allowTag is allow for a call that looks up a tag.
func (c *accessChecker) allowTag(op, repo, tag string, access AccessKind) error {
	at := call.New(op, repo, tag)
	if err := at.CheckTag(); err != nil {
		return err
	}
	return c.allow(at, access)
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
	if err := c.allow(call.New("PushBlob", repo, string(desc.Digest)), AccessWrite); err != nil {
		return ociregistry.Descriptor{}, err
	}
	return c.r.PushBlob(ctx, repo, desc, content)
}

func (c *accessChecker) PushBlobChunked(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
	if err := c.allow(call.New("PushBlobChunked", repo, ""), AccessWrite); err != nil {
		return nil, err
	}
	return c.r.PushBlobChunked(ctx, repo, chunkSize)
}

// PushBlobChunkedResume relies on r to refuse the upload ID of another repository.
func (c *accessChecker) PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
	if err := c.allow(call.New("PushBlobChunkedResume", repo, id), AccessWrite); err != nil {
		return nil, err
	}
	return c.r.PushBlobChunkedResume(ctx, repo, id, offset, chunkSize)
}

func (c *accessChecker) MountBlob(ctx context.Context, fromRepo, toRepo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	from, to := call.New("MountBlob", fromRepo, string(digest)), call.New("MountBlob", toRepo, string(digest))
	if fromRepo != "" {
		if err := from.CheckRepository(); err != nil {
			return ociregistry.Descriptor{}, err
		}
	}
	if err := to.CheckDigest(); err != nil {
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
		return ociregistry.Descriptor{}, to.Wrap(errMountFromAny)
	}
	return c.r.MountBlob(ctx, fromRepo, toRepo, digest)
}

func (c *accessChecker) PushManifest(ctx context.Context, repo string, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	if err := c.allow(call.New("PushManifest", repo, ref), AccessWrite); err != nil {
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
			yield("", call.New("Repositories", "", "").Wrap(err))
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
		if err := c.allow(call.New("Tags", repo, ""), AccessList); err != nil {
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
