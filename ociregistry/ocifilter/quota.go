package ocifilter

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// QuotaRule is the quota of a repository and of those below it.
type QuotaRule struct {
	// Prefix is the name of the repository, which need not exist. Empty means that the
	// quota is for all repositories.
	Prefix string

	// MaxBytes is the maximum number of bytes of blobs and manifests, as
	// [ociregistry.UsageReporter] counts them. It must be positive.
	MaxBytes int64
}

// Quota returns a view of r in which pushes and mounts return [ociregistry.ErrDenied] if a
// repository would exceed the quota of a rule. All rules that cover a repository must hold.
//
// What is on its way counts as it arrives. So concurrent pushes do not exceed a quota
// together, and one that claims a size keeps no room from others. A push that does not fit
// leaves nothing behind: its upload session ends. Content that the repository already has can
// be pushed when there is no room left. What is pushed to r directly counts, but is not
// refused.
//
// MountBlob to a repository with a quota needs a source repository. Without one it fails with
// [ociregistry.ErrUnsupported], because nobody knows the size; callers upload the blob
// instead.
//
// A rule that is wrong is an error. So is a registry that is not an
// [ociregistry.UsageReporter], which is [ociregistry.ErrUnsupported].
func Quota(r ociregistry.Interface, rules []QuotaRule) (ociregistry.Interface, error) {
	usage, ok := r.(ociregistry.UsageReporter)
	if !ok {
		return nil, fmt.Errorf("%w: a quota needs a registry that reports its usage", ociregistry.ErrUnsupported)
	}
	q := &quota{Reader: r, Deleter: r, Lister: r, r: usage}
	for _, rule := range rules {
		if rule.Prefix != "" {
			if err := ociregistry.CheckRepository(rule.Prefix); err != nil {
				return nil, fmt.Errorf("quota of %q: %w", rule.Prefix, err)
			}
		}
		if rule.MaxBytes <= 0 {
			return nil, fmt.Errorf("quota of %q: %d bytes are not a quota", rule.Prefix, rule.MaxBytes)
		}
		q.limits = append(q.limits, &limit{QuotaRule: rule, usage: usage, changed: make(chan struct{})})
	}
	return q, nil
}

type quota struct {
	ociregistry.Reader
	ociregistry.Deleter
	ociregistry.Lister
	refusing
	r      ociregistry.UsageReporter
	limits []*limit
}

var _ ociregistry.UsageReporter = (*quota)(nil)

// Usage implements [ociregistry.UsageReporter].
func (q *quota) Usage(ctx context.Context, prefix string) (int64, error) {
	return q.r.Usage(ctx, prefix)
}

func (q *quota) PushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, content io.Reader) (ociregistry.Descriptor, error) {
	at := call.New("PushBlob", repo, string(desc.Digest))
	if err := at.CheckDigest(); err != nil {
		return ociregistry.Descriptor{}, err
	}
	v := q.reservation(repo)
	defer v.release()
	if err := v.check(ctx, max(desc.Size, 0)); err != nil {
		if !q.hasBlob(ctx, repo, desc.Digest) {
			return ociregistry.Descriptor{}, at.Wrap(err)
		}
		v.limits = nil
	}
	if len(v.limits) == 0 {
		return q.r.PushBlob(ctx, repo, desc, content)
	}
	return q.r.PushBlob(ctx, repo, desc, &reservingReader{ctx: ctx, r: content, v: v, atEnd: v.finish})
}

func (q *quota) hasBlob(ctx context.Context, repo string, digest ociregistry.Digest) bool {
	_, err := q.r.ResolveBlob(ctx, repo, digest)
	return err == nil
}

func (q *quota) MountBlob(ctx context.Context, fromRepo, toRepo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	at := call.New("MountBlob", toRepo, string(digest))
	if fromRepo != "" {
		if err := call.New("MountBlob", fromRepo, string(digest)).CheckRepository(); err != nil {
			return ociregistry.Descriptor{}, err
		}
	}
	if err := at.CheckDigest(); err != nil {
		return ociregistry.Descriptor{}, err
	}
	v := q.reservation(toRepo)
	defer v.release()
	if len(v.limits) == 0 {
		return q.r.MountBlob(ctx, fromRepo, toRepo, digest)
	}
	if fromRepo == "" {
		return ociregistry.Descriptor{}, at.Wrap(errMountFromAny)
	}
	desc, err := q.r.ResolveBlob(ctx, fromRepo, digest)
	if err != nil {
		return ociregistry.Descriptor{}, at.Wrap(err)
	}
	if err := v.grow(ctx, desc.Size); err != nil && !q.hasBlob(ctx, toRepo, digest) {
		return ociregistry.Descriptor{}, at.Wrap(err)
	}
	v.finish()
	return q.r.MountBlob(ctx, fromRepo, toRepo, digest)
}

func (q *quota) PushManifest(ctx context.Context, repo string, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	at := call.New("PushManifest", repo, ref)
	if err := at.CheckPush(tags); err != nil {
		return ociregistry.Descriptor{}, err
	}
	v := q.reservation(repo)
	defer v.release()
	if err := v.grow(ctx, int64(len(contents))); err != nil && !q.hasManifest(ctx, repo, ref, contents) {
		return ociregistry.Descriptor{}, at.Wrap(err)
	}
	v.finish()
	return q.r.PushManifest(ctx, repo, ref, contents, mediaType, tags...)
}

func (q *quota) hasManifest(ctx context.Context, repo, ref string, contents []byte) bool {
	d := digest.FromBytes(contents)
	if call.IsDigest(ref) {
		d = ociregistry.Digest(ref)
	}
	_, err := q.r.ResolveManifest(ctx, repo, d)
	return err == nil
}

func (q *quota) PushBlobChunked(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
	w, err := q.r.PushBlobChunked(ctx, repo, chunkSize)
	return q.writer(ctx, repo, w, err)
}

func (q *quota) PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
	w, err := q.r.PushBlobChunkedResume(ctx, repo, id, offset, chunkSize)
	return q.writer(ctx, repo, w, err)
}

func (q *quota) writer(ctx context.Context, repo string, w ociregistry.BlobWriter, err error) (ociregistry.BlobWriter, error) {
	v := q.reservation(repo)
	if err != nil || len(v.limits) == 0 {
		return w, err
	}
	return &reservingWriter{BlobWriter: w, ctx: ctx, q: q, repo: repo, v: v}, nil
}

// reservingReader reserves room for what it reads.
type reservingReader struct {
	ctx    context.Context
	r      io.Reader
	v      *reservation
	atEnd  func() // may be nil
	failed error  // because of which there is no room
}

// Verified implements [verified.Reader].
func (r *reservingReader) Verified() verified.State { return verified.By(r.r) }

func (r *reservingReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if r.failed = r.v.grow(r.ctx, int64(n)); r.failed != nil {
		return 0, r.failed
	}
	if r.atEnd != nil && errors.Is(err, io.EOF) {
		r.atEnd()
	}
	return n, err
}
