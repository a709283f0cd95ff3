package ocifilter

import (
	"context"
	"io"
	"iter"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

// renamed is a view in which the repositories of r have other names.
type renamed struct {
	*ociregistry.Funcs
	r     ociregistry.Interface
	names names
}

// names are those of a view: the local ones. In r, the full names stand for them.
type names interface {
	// full returns the name that stands for a local one, which may be invalid.
	full(local string) (string, error)

	// local returns the name for which a full one stands, if the view has it.
	local(full string) (string, bool)

	// mountsFromAny reports whether all repositories of r are in the view.
	mountsFromAny() bool

	// repositories returns the local names after startAfter. The function list is that of r.
	repositories(list func(startAfter string) iter.Seq2[string, error], startAfter string) iter.Seq2[string, error]
}

// into returns the context for a call of r, in which scopes name repositories as r
// does.
func (s *renamed) into(ctx context.Context) context.Context {
	scope := ociauth.ScopeFromContext(ctx)
	if scope.Len() <= 0 {
		return ctx
	}
	var full []ociauth.ResourceScope
	for rs := range scope.Iter() {
		if rs.ResourceType == ociauth.TypeRepository && rs.Resource != "" {
			name, err := s.names.full(rs.Resource)
			if err != nil {
				continue // r has nothing to allow
			}
			rs.Resource = name
		}
		full = append(full, rs)
	}
	return ociauth.ContextWithScope(ctx, ociauth.NewScope(full...))
}

// full returns the name of a call's repository in r.
func (s *renamed) full(at call.Call) (string, error) {
	full, err := s.names.full(at.Repository)
	return full, at.Wrap(err)
}

// local returns err with the name that the repository has in the view.
func (s *renamed) local(err error) error {
	op, ok := err.(*ociregistry.OpError)
	if !ok || op.Registry != "" || op.Repository == "" {
		return err
	}
	name, ok := s.names.local(op.Repository)
	if !ok {
		return err
	}
	local := *op
	local.Repository = name
	return &local
}

func (s *renamed) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	full, err := s.full(call.New("GetBlob", repo, string(digest)))
	if err != nil {
		return nil, err
	}
	rd, err := s.r.GetBlob(s.into(ctx), full, digest)
	return rd, s.local(err)
}

func (s *renamed) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	full, err := s.full(call.New("GetBlobRange", repo, string(digest)))
	if err != nil {
		return nil, err
	}
	rd, err := s.r.GetBlobRange(s.into(ctx), full, digest, offset0, offset1)
	return rd, s.local(err)
}

func (s *renamed) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	full, err := s.full(call.New("GetManifest", repo, string(digest)))
	if err != nil {
		return nil, err
	}
	rd, err := s.r.GetManifest(s.into(ctx), full, digest)
	return rd, s.local(err)
}

func (s *renamed) GetTag(ctx context.Context, repo string, tagName string) (ociregistry.BlobReader, error) {
	full, err := s.full(call.New("GetTag", repo, tagName))
	if err != nil {
		return nil, err
	}
	rd, err := s.r.GetTag(s.into(ctx), full, tagName)
	return rd, s.local(err)
}

func (s *renamed) ResolveBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	full, err := s.full(call.New("ResolveBlob", repo, string(digest)))
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	desc, err := s.r.ResolveBlob(s.into(ctx), full, digest)
	return desc, s.local(err)
}

func (s *renamed) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	full, err := s.full(call.New("ResolveManifest", repo, string(digest)))
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	desc, err := s.r.ResolveManifest(s.into(ctx), full, digest)
	return desc, s.local(err)
}

func (s *renamed) ResolveTag(ctx context.Context, repo string, tagName string) (ociregistry.Descriptor, error) {
	full, err := s.full(call.New("ResolveTag", repo, tagName))
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	desc, err := s.r.ResolveTag(s.into(ctx), full, tagName)
	return desc, s.local(err)
}

func (s *renamed) PushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, content io.Reader) (ociregistry.Descriptor, error) {
	full, err := s.full(call.New("PushBlob", repo, string(desc.Digest)))
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	desc, err = s.r.PushBlob(s.into(ctx), full, desc, content)
	return desc, s.local(err)
}

func (s *renamed) PushBlobChunked(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
	full, err := s.full(call.New("PushBlobChunked", repo, ""))
	if err != nil {
		return nil, err
	}
	w, err := s.r.PushBlobChunked(s.into(ctx), full, chunkSize)
	return w, s.local(err)
}

func (s *renamed) PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
	full, err := s.full(call.New("PushBlobChunkedResume", repo, id))
	if err != nil {
		return nil, err
	}
	w, err := s.r.PushBlobChunkedResume(s.into(ctx), full, id, offset, chunkSize)
	return w, s.local(err)
}

func (s *renamed) MountBlob(ctx context.Context, fromRepo, toRepo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	to := call.New("MountBlob", toRepo, string(digest))
	fullTo, err := s.full(to)
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	fullFrom := ""
	switch {
	case fromRepo != "":
		fullFrom, err = s.full(call.New("MountBlob", fromRepo, string(digest)))
	case !s.names.mountsFromAny():
		if err = to.CheckDigest(); err == nil {
			err = to.Wrap(errMountFromAny)
		}
	}
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	desc, err := s.r.MountBlob(s.into(ctx), fullFrom, fullTo, digest)
	return desc, s.local(err)
}

func (s *renamed) PushManifest(ctx context.Context, repo string, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	full, err := s.full(call.New("PushManifest", repo, ref))
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	desc, err := s.r.PushManifest(s.into(ctx), full, ref, contents, mediaType, tags...)
	return desc, s.local(err)
}

func (s *renamed) DeleteBlob(ctx context.Context, repo string, digest ociregistry.Digest) error {
	full, err := s.full(call.New("DeleteBlob", repo, string(digest)))
	if err != nil {
		return err
	}
	return s.local(s.r.DeleteBlob(s.into(ctx), full, digest))
}

func (s *renamed) DeleteManifest(ctx context.Context, repo string, digest ociregistry.Digest) error {
	full, err := s.full(call.New("DeleteManifest", repo, string(digest)))
	if err != nil {
		return err
	}
	return s.local(s.r.DeleteManifest(s.into(ctx), full, digest))
}

func (s *renamed) DeleteTag(ctx context.Context, repo string, name string) error {
	full, err := s.full(call.New("DeleteTag", repo, name))
	if err != nil {
		return err
	}
	return s.local(s.r.DeleteTag(s.into(ctx), full, name))
}

func (s *renamed) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	return localSeq(s, s.names.repositories(func(startAfter string) iter.Seq2[string, error] {
		return s.r.Repositories(s.into(ctx), startAfter)
	}, startAfter))
}

func (s *renamed) Tags(ctx context.Context, repo string, startAfter string) iter.Seq2[string, error] {
	full, err := s.full(call.New("Tags", repo, ""))
	if err != nil {
		return ociregistry.ErrorSeq[string](err)
	}
	return localSeq(s, s.r.Tags(s.into(ctx), full, startAfter))
}

func (s *renamed) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	full, err := s.full(call.New("Referrers", repo, string(digest)))
	if err != nil {
		return ociregistry.ErrorSeq[ociregistry.Descriptor](err)
	}
	return localSeq(s, s.r.Referrers(s.into(ctx), full, digest, artifactType))
}

// localSeq returns seq with the names of the view in its errors.
func localSeq[T any](s *renamed, seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for x, err := range seq {
			if !yield(x, s.local(err)) {
				return
			}
		}
	}
}
