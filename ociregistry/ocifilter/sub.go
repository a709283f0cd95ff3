package ocifilter

import (
	"context"
	"io"
	"iter"
	"strings"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// Sub returns a view of the repositories of r that are below prefix: "b" in the
// view is prefix/b in r. Of the repositories
//
//	a  a-b  a/b/c  a/d  aa/b
//
// Sub(r, "a") has b/c and d. Sub(r, "") is r.
//
// No name leads out of the view. A name that is not well formed, or that is too
// long with the prefix before it, is [ociregistry.ErrNameInvalid]. So is every
// name if the prefix is not a well-formed repository name itself.
//
// MountBlob needs a repository to take from. Without one it returns
// [ociregistry.ErrUnsupported], since r would look for the blob outside as well;
// callers upload the blob instead.
//
// Repositories does not look at what is outside, apart from the one name that
// follows the view's last.
//
// Scopes that a context asks for in advance ([ociauth.ContextWithScope]) are of
// repositories of the view; r is asked with its own names for them.
//
// Errors name repositories as the view does, where they are an
// [ociregistry.OpError] without a Registry: a remote registry has its
// repositories by their full names. The errors of readers and writers are r's.
func Sub(r ociregistry.Interface, prefix string) ociregistry.Interface {
	if prefix == "" {
		return r
	}
	return &sub{r: r, prefix: prefix + "/"}
}

type sub struct {
	*ociregistry.Funcs
	r      ociregistry.Interface
	prefix string // with the slash
}

// into returns the context for a call of r: what it asks for in advance of
// repositories of the view ([ociauth.ContextWithScope]) has their names in r.
func (s *sub) into(ctx context.Context) context.Context {
	scope := ociauth.ScopeFromContext(ctx)
	if scope.Len() <= 0 {
		return ctx
	}
	var full []ociauth.ResourceScope
	for rs := range scope.Iter() {
		if rs.ResourceType == ociauth.TypeRepository && rs.Resource != "" {
			rs.Resource = s.prefix + rs.Resource
		}
		full = append(full, rs)
	}
	return ociauth.ContextWithScope(ctx, ociauth.NewScope(full...))
}

// full returns the name that the repository of t has in r. All of it is
// checked: a valid name that begins with the prefix is below the prefix.
func (s *sub) full(t target) (string, error) {
	full := s.prefix + t.repo
	if !ociref.IsValidRepository(full) {
		return "", t.fail(ociregistry.ErrNameInvalid)
	}
	return full, nil
}

// local returns err with the repository's name in the view.
func (s *sub) local(err error) error {
	op, ok := err.(*ociregistry.OpError)
	if !ok || op.Registry != "" {
		return err
	}
	name, ok := strings.CutPrefix(op.Repo, s.prefix)
	if !ok {
		return err
	}
	local := *op
	local.Repo = name
	return &local
}

func (s *sub) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	full, err := s.full(target{"GetBlob", repo, string(digest)})
	if err != nil {
		return nil, err
	}
	rd, err := s.r.GetBlob(s.into(ctx), full, digest)
	return rd, s.local(err)
}

func (s *sub) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	full, err := s.full(target{"GetBlobRange", repo, string(digest)})
	if err != nil {
		return nil, err
	}
	rd, err := s.r.GetBlobRange(s.into(ctx), full, digest, offset0, offset1)
	return rd, s.local(err)
}

func (s *sub) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	full, err := s.full(target{"GetManifest", repo, string(digest)})
	if err != nil {
		return nil, err
	}
	rd, err := s.r.GetManifest(s.into(ctx), full, digest)
	return rd, s.local(err)
}

func (s *sub) GetTag(ctx context.Context, repo string, tagName string) (ociregistry.BlobReader, error) {
	full, err := s.full(target{"GetTag", repo, tagName})
	if err != nil {
		return nil, err
	}
	rd, err := s.r.GetTag(s.into(ctx), full, tagName)
	return rd, s.local(err)
}

func (s *sub) ResolveBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	full, err := s.full(target{"ResolveBlob", repo, string(digest)})
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	desc, err := s.r.ResolveBlob(s.into(ctx), full, digest)
	return desc, s.local(err)
}

func (s *sub) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	full, err := s.full(target{"ResolveManifest", repo, string(digest)})
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	desc, err := s.r.ResolveManifest(s.into(ctx), full, digest)
	return desc, s.local(err)
}

func (s *sub) ResolveTag(ctx context.Context, repo string, tagName string) (ociregistry.Descriptor, error) {
	full, err := s.full(target{"ResolveTag", repo, tagName})
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	desc, err := s.r.ResolveTag(s.into(ctx), full, tagName)
	return desc, s.local(err)
}

func (s *sub) PushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, content io.Reader) (ociregistry.Descriptor, error) {
	full, err := s.full(target{"PushBlob", repo, string(desc.Digest)})
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	desc, err = s.r.PushBlob(s.into(ctx), full, desc, content)
	return desc, s.local(err)
}

func (s *sub) PushBlobChunked(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
	full, err := s.full(target{"PushBlobChunked", repo, ""})
	if err != nil {
		return nil, err
	}
	w, err := s.r.PushBlobChunked(s.into(ctx), full, chunkSize)
	return w, s.local(err)
}

func (s *sub) PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
	full, err := s.full(target{"PushBlobChunkedResume", repo, id})
	if err != nil {
		return nil, err
	}
	w, err := s.r.PushBlobChunkedResume(s.into(ctx), full, id, offset, chunkSize)
	return w, s.local(err)
}

func (s *sub) MountBlob(ctx context.Context, fromRepo, toRepo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	to := target{"MountBlob", toRepo, string(digest)}
	fullTo, err := s.full(to)
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	if fromRepo == "" {
		if err := to.checkDigest(); err != nil {
			return ociregistry.Descriptor{}, err
		}
		return ociregistry.Descriptor{}, to.fail(errMountFromAny)
	}
	fullFrom, err := s.full(target{"MountBlob", fromRepo, string(digest)})
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	desc, err := s.r.MountBlob(s.into(ctx), fullFrom, fullTo, digest)
	return desc, s.local(err)
}

func (s *sub) PushManifest(ctx context.Context, repo string, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	full, err := s.full(target{"PushManifest", repo, ref})
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	desc, err := s.r.PushManifest(s.into(ctx), full, ref, contents, mediaType, tags...)
	return desc, s.local(err)
}

func (s *sub) DeleteBlob(ctx context.Context, repo string, digest ociregistry.Digest) error {
	full, err := s.full(target{"DeleteBlob", repo, string(digest)})
	if err != nil {
		return err
	}
	return s.local(s.r.DeleteBlob(s.into(ctx), full, digest))
}

func (s *sub) DeleteManifest(ctx context.Context, repo string, digest ociregistry.Digest) error {
	full, err := s.full(target{"DeleteManifest", repo, string(digest)})
	if err != nil {
		return err
	}
	return s.local(s.r.DeleteManifest(s.into(ctx), full, digest))
}

func (s *sub) DeleteTag(ctx context.Context, repo string, name string) error {
	full, err := s.full(target{"DeleteTag", repo, name})
	if err != nil {
		return err
	}
	return s.local(s.r.DeleteTag(s.into(ctx), full, name))
}

// Repositories goes through a range of r's names, since in byte order those that
// begin with the prefix are together: from the first after prefix/startAfter.
func (s *sub) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	if !ociref.IsValidRepository(strings.TrimSuffix(s.prefix, "/")) {
		return ociregistry.ErrorSeq[string](target{op: "Repositories"}.fail(ociregistry.ErrNameInvalid))
	}
	return func(yield func(string, error) bool) {
		for full, err := range s.r.Repositories(s.into(ctx), s.prefix+startAfter) {
			if err != nil {
				yield("", s.local(err))
				return
			}
			name, below := strings.CutPrefix(full, s.prefix)
			if !below || !yield(name, nil) {
				return
			}
		}
	}
}

func (s *sub) Tags(ctx context.Context, repo string, startAfter string) iter.Seq2[string, error] {
	full, err := s.full(target{"Tags", repo, ""})
	if err != nil {
		return ociregistry.ErrorSeq[string](err)
	}
	return localSeq(s, s.r.Tags(s.into(ctx), full, startAfter))
}

func (s *sub) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	full, err := s.full(target{"Referrers", repo, string(digest)})
	if err != nil {
		return ociregistry.ErrorSeq[ociregistry.Descriptor](err)
	}
	return localSeq(s, s.r.Referrers(s.into(ctx), full, digest, artifactType))
}

// localSeq returns seq with the view's names in its error.
func localSeq[T any](s *sub, seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for x, err := range seq {
			if !yield(x, s.local(err)) {
				return
			}
		}
	}
}
