package ocibucket

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/internal/window"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/blobs"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/repos"
)

// GetBlob implements [ociregistry.Reader.GetBlob].
func (r *Registry) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	return r.openBlob(ctx, "GetBlob", repo, digest, 0, -1)
}

// GetBlobRange implements [ociregistry.Reader.GetBlobRange].
func (r *Registry) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	return r.openBlob(ctx, "GetBlobRange", repo, digest, offset0, offset1)
}

func (r *Registry) openBlob(ctx context.Context, op, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	l, err := r.blob(ctx, repo, digest)
	if err == nil {
		offset1, err = window.End(l.Size, offset0, offset1)
	}
	if err != nil {
		return nil, opError(err, op, repo, string(digest))
	}
	reader, err := r.blobs.Open(ctx, l, digest, offset0, offset1)
	return reader, opError(err, op, repo, string(digest))
}

// blob returns the link of a blob.
func (r *Registry) blob(ctx context.Context, repo string, digest ociregistry.Digest) (l blobs.Link, err error) {
	if err := ociregistry.CheckRepositoryAndDigest(repo, digest); err != nil {
		return blobs.Link{}, err
	}
	if err := ctx.Err(); err != nil {
		return blobs.Link{}, err
	}
	opened := r.repos.Open(repo)
	defer opened.Release()
	err = r.blobs.Look(ctx, opened, digest, func() (err error) {
		l, err = r.blobs.Get(ctx, repo, digest)
		return err
	})
	return l, err
}

// ResolveBlob implements [ociregistry.Reader.ResolveBlob].
func (r *Registry) ResolveBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	l, err := r.blob(ctx, repo, digest)
	if err != nil {
		return ociregistry.Descriptor{}, opError(err, "ResolveBlob", repo, string(digest))
	}
	return l.Descriptor(digest), nil
}

// GetManifest implements [ociregistry.Reader.GetManifest].
func (r *Registry) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	reader, err := r.openManifest(ctx, repo, byDigest(repo, digest))
	return reader, opError(err, "GetManifest", repo, string(digest))
}

// GetTag implements [ociregistry.Reader.GetTag].
func (r *Registry) GetTag(ctx context.Context, repo string, tagName string) (ociregistry.BlobReader, error) {
	reader, err := r.openManifest(ctx, repo, byTag(repo, tagName))
	return reader, opError(err, "GetTag", repo, tagName)
}

// ResolveManifest implements [ociregistry.Reader.ResolveManifest].
func (r *Registry) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	desc, err := r.resolve(ctx, repo, byDigest(repo, digest))
	return desc, opError(err, "ResolveManifest", repo, string(digest))
}

// ResolveTag implements [ociregistry.Reader.ResolveTag].
func (r *Registry) ResolveTag(ctx context.Context, repo string, tagName string) (ociregistry.Descriptor, error) {
	desc, err := r.resolve(ctx, repo, byTag(repo, tagName))
	return desc, opError(err, "ResolveTag", repo, tagName)
}

// A lookup finds a manifest in a state, or returns nil.
type lookup struct {
	err  error // of the arguments
	find func(*repos.State) *repostate.Manifest
}

func byDigest(repo string, digest ociregistry.Digest) lookup {
	return lookup{ociregistry.CheckRepositoryAndDigest(repo, digest), func(s *repos.State) *repostate.Manifest { return s.Manifest(digest) }}
}

func byTag(repo, tag string) lookup {
	return lookup{call.CheckRepositoryAndTag(repo, tag), func(s *repos.State) *repostate.Manifest { return s.Tag(tag) }}
}

// resolve returns the descriptor of a manifest.
func (r *Registry) resolve(ctx context.Context, name string, l lookup) (ociregistry.Descriptor, error) {
	if l.err != nil {
		return ociregistry.Descriptor{}, l.err
	}
	repo := r.repos.Open(name)
	defer repo.Release()
	desc, _, err := r.find(ctx, repo, l)
	if err == nil {
		err = r.promise(ctx, repo, desc.Digest)
	}
	return desc, err
}

// defaultPromiseAge is how old the time may be of a manifest that is reported present.
const defaultPromiseAge = time.Minute

// promiseGrain is by how much longer collections wait for that. Times and Dates are whole seconds.
func (r *Registry) promiseGrain() time.Duration {
	if r.promiseAge == 0 {
		return 0
	}
	return r.promiseAge + 2*time.Second
}

// promise makes a manifest young that has no tag, so that who was told that it is there can name it within the
// delay of collections.
func (r *Registry) promise(ctx context.Context, repo *repos.Repository, digest ociregistry.Digest) error {
	if r.opts.ReadOnly {
		return nil
	}
	isOld := func(s *repos.State, m *repostate.Manifest) bool {
		return m != nil && r.bucket.Seen().Sub(time.Unix(s.ManifestTime(m.Digest), 0)) > r.promiseAge && !s.IsTagged(m)
	}
	old := false
	if err := repo.View(func(s *repos.State) { old = isOld(s, s.Manifest(digest)) }); err != nil || !old {
		return err
	}
	return repo.Commit(ctx, &repos.Change{Check: func(b *repos.Batch) error {
		m := b.Manifest(digest)
		if m == nil {
			return ociregistry.ErrManifestUnknown
		}
		if isOld(b.State(), m) {
			b.Add(&repostate.Op{Kind: repostate.PutManifest, Digest: m.Digest, MediaType: m.MediaType, Size: m.Size})
		}
		return nil
	}})
}

// find returns the descriptor of a manifest, and its text if the state has it.
func (r *Registry) find(ctx context.Context, repo *repos.Repository, l lookup) (desc ociregistry.Descriptor, text string, err error) {
	if err := repo.Refresh(ctx); err != nil {
		return desc, "", err
	}
	for unknown := error(nil); ; {
		found := false
		err := repo.View(func(s *repos.State) {
			if m := l.find(s); m != nil {
				found, desc = true, m.Descriptor()
				text, _ = s.Text(m.Digest)
			}
		})
		if err != nil || found {
			return desc, text, err
		}
		if unknown != nil {
			return desc, "", unknown
		}
		unknown = r.blobs.Unknown(ctx, repo, ociregistry.ErrManifestUnknown)
		if !errors.Is(unknown, ociregistry.ErrManifestUnknown) {
			return desc, "", unknown
		}
		// The repository may exist by what was looked for, and has come meanwhile.
	}
}

func (r *Registry) openManifest(ctx context.Context, name string, l lookup) (ociregistry.BlobReader, error) {
	if l.err != nil {
		return nil, l.err
	}
	repo := r.repos.Open(name)
	defer repo.Release()
	desc, text, err := r.find(ctx, repo, l)
	if err == nil && text == "" {
		text, err = r.text(ctx, repo, desc)
	}
	if err != nil {
		return nil, err
	}
	if !r.opts.ReadOnly && !ociregistry.IsInspection(ctx) {
		r.pulls.Note(name, desc.Digest)
	}
	return blobs.NewTextReader(text, desc), nil
}

// text returns the text of a manifest that the log does not have.
func (r *Registry) text(ctx context.Context, repo *repos.Repository, desc ociregistry.Descriptor) (string, error) {
	if text, ok := r.texts.Get(desc.Digest); ok {
		return text, nil
	}
	text, found, err := repo.ReadManifest(ctx, desc.Digest, desc.Size)
	switch {
	case err != nil:
		return "", err
	case !found:
		return "", fmt.Errorf("%w: its text is not there", ociregistry.ErrManifestUnknown)
	}
	r.texts.Add(desc.Digest, text)
	return text, nil
}
