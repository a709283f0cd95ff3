package ocifs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/seed-40b21970/oci/internal/ctxio"
	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/content"
	"github.com/seed-40b21970/oci/ocifs/internal/repos"
	"github.com/seed-40b21970/oci/ocifs/internal/uploads"
	"github.com/seed-40b21970/oci/ociregistry"
)

// smallBlob is the maximum size, in bytes, of a blob that is written to the journal.
const smallBlob = uploads.MaxSmall

// PushBlob implements [ociregistry.Writer.PushBlob]. It notices the end of the
// context between two reads; ending a read that blocks is up to rd.
func (r *Registry) PushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, rd io.Reader) (ociregistry.Descriptor, error) {
	if err := r.pushBlob(ctx, repo, desc, rd); err != nil {
		return ociregistry.Descriptor{}, opError(err, "PushBlob", repo, string(desc.Digest))
	}
	return desc, nil
}

func (r *Registry) pushBlob(ctx context.Context, name string, desc ociregistry.Descriptor, rd io.Reader) error {
	if err := check(ctx, name, desc.Digest); err != nil {
		return err
	}
	if desc.Size < 0 {
		return fmt.Errorf("%w: negative size", ociregistry.ErrSizeInvalid)
	}
	if err := r.writable(name); err != nil {
		return err
	}
	if 0 < desc.Size && desc.Size <= smallBlob {
		text, err := readSmall(ctx, rd, desc)
		if err != nil {
			return err
		}
		return r.putNewText(ctx, name, desc.Digest, text)
	}
	content, err := r.store.Receive(ctx, rd, desc.Digest, desc.Size)
	if err != nil {
		return err
	}
	defer content.Discard()
	return r.publish(ctx, name, desc.Digest, content)
}

// readSmall reads and checks the content of a small blob.
func readSmall(ctx context.Context, rd io.Reader, desc ociregistry.Descriptor) (string, error) {
	text := make([]byte, desc.Size+1)
	n, err := ctxio.ReadFull(ctx, rd, text)
	switch {
	case err != nil && err != io.EOF:
		return "", err
	case int64(n) != desc.Size:
		return "", ociregistry.ErrSizeInvalid
	}
	text = text[:n]
	if desc.Digest.Algorithm().FromBytes(text) != desc.Digest {
		return "", ociregistry.ErrDigestInvalid
	}
	return string(text), nil
}

// putNewText is putText for bytes that are not accounted for yet.
func (r *Registry) putNewText(ctx context.Context, name string, digest ociregistry.Digest, text string) error {
	share := r.quota.NewShare(0)
	if err := share.Reserve(int64(len(text))); err != nil {
		return err
	}
	defer share.Free()
	added, err := r.putText(ctx, name, digest, text)
	if added {
		share.HandOver()
	}
	return err
}

// putText makes small content, whose digest was checked, a blob of a repository. It
// reports whether the content is new, that is, not stored anywhere as far as the pool
// shows.
func (r *Registry) putText(ctx context.Context, name string, digest ociregistry.Digest, text string) (added bool, err error) {
	repo := r.repos.Use(name)
	defer repo.Release()
	// Usually the blob is new. Find out before taking the lock. If somebody pushes it
	// meanwhile, adding it twice does no harm.
	_, err = r.store.Stat(repo.Dir, digest)
	absent := errors.Is(err, fs.ErrNotExist)
	_, err = r.store.StatPool(digest)
	if added = errors.Is(err, fs.ErrNotExist); err != nil && !added {
		return false, err
	}
	err = repo.Commit(&repos.Change{Ctx: ctx, Creates: true, Size: len(text), Check: func(b *repos.Batch) error {
		place := repo.Blob(digest)
		_, inBatch := b.Blob(digest)
		has := place.InText || inBatch
		if !has && place.InFile && !absent {
			var err error
			if has, err = content.IsReadable(repo, digest, int64(len(text))); err == nil && has {
				_, err = r.store.Touch(repo.Dir, digest)
			}
			if err != nil {
				return err
			}
			if !has {
				repo.Doubt() // the file may have been counted
			}
		}
		if !has {
			b.Add(repostate.Op{Kind: repostate.PutBlob, Digest: digest, Text: text})
		}
		added = added && !has
		return nil
	}})
	return added && err == nil, err
}

// publish makes content, whose digest was checked, a blob of a repository. It creates
// the repository if necessary.
func (r *Registry) publish(ctx context.Context, name string, digest ociregistry.Digest, content *blobs.Staged) error {
	repo := r.repos.Use(name)
	defer repo.Release()
	return repo.AddFile(ctx, digest, func() error { return r.store.Put(ctx, repo.Dir, digest, content) })
}

// PushBlobChunked implements [ociregistry.Writer.PushBlobChunked]. The writer also
// implements [io.ReaderFrom].
//
// A session without bytes has no file: every Registry for the same directory
// recognizes its id. A session whose writer was closed survives the end of the
// process at any instant, and another Registry for the same directory can resume it.
// After a power cut, it can be resumed if its bytes are there.
//
// If there are [Options.MaxUploads] sessions, the first byte of another one fails
// with [ociregistry.ErrTooManyRequests]. It can be written again later.
func (r *Registry) PushBlobChunked(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
	err := ociregistry.CheckRepository(repo)
	if err == nil {
		err = r.writable(repo)
	}
	if err != nil {
		return nil, opError(err, "PushBlobChunked", repo, "")
	}
	w, err := r.uploads.Start(ctx, repo, chunkSize)
	return w, opError(err, "PushBlobChunked", repo, "")
}

// PushBlobChunkedResume implements [ociregistry.Writer.PushBlobChunkedResume].
func (r *Registry) PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
	err := ociregistry.CheckRepository(repo)
	if err == nil {
		err = r.writable(repo)
	}
	if err != nil {
		return nil, opError(err, "PushBlobChunkedResume", repo, id)
	}
	w, err := r.uploads.Resume(ctx, repo, id, offset, chunkSize)
	return w, opError(err, "PushBlobChunkedResume", repo, id)
}

// publishUpload makes the content of an upload, whose digest was checked, a blob of a
// repository.
func (r *Registry) publishUpload(ctx context.Context, name string, digest ociregistry.Digest, content *blobs.Staged) error {
	if content.Size() == 0 || content.Size() > smallBlob {
		return r.publish(ctx, name, digest, content)
	}
	text := make([]byte, content.Size())
	if _, err := content.ReadAt(text, 0); err != nil && err != io.EOF {
		return err
	}
	added, err := r.putText(ctx, name, digest, string(text))
	if added {
		content.HandOver() // the reserved bytes are the blob's now
	}
	return err
}

// publishUploadText is publishUpload for content that is not in a file. It reports
// whether the bytes that are reserved for the content now belong to the blob.
func (r *Registry) publishUploadText(ctx context.Context, name string, digest ociregistry.Digest, text string) (added bool, err error) {
	if text != "" {
		return r.putText(ctx, name, digest, text)
	}
	content, err := r.store.Stage(digest.Algorithm())
	if err != nil {
		return false, err
	}
	defer content.Discard()
	return false, r.publish(ctx, name, digest, content)
}

// MountBlob implements [ociregistry.Writer.MountBlob]. On a filesystem with hard
// links its cost does not depend on the size of the blob; elsewhere it copies the
// blob. With an empty fromRepo it finds blobs that were pushed or mounted through a
// Registry.
func (r *Registry) MountBlob(ctx context.Context, fromRepo, toRepo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	size, err := r.mountBlob(ctx, fromRepo, toRepo, digest)
	if err != nil {
		return ociregistry.Descriptor{}, opError(err, "MountBlob", toRepo, string(digest))
	}
	return blobDescriptor(digest, size), nil
}

func (r *Registry) mountBlob(ctx context.Context, from, to string, digest ociregistry.Digest) (size int64, err error) {
	if from != "" {
		if err := ociregistry.CheckRepository(from); err != nil {
			return 0, err
		}
	}
	if err := check(ctx, to, digest); err != nil {
		return 0, err
	}
	if err := r.writable(to); err != nil {
		return 0, err
	}
	source, text, size, err := r.mountSource(from, digest)
	if from == "" && errors.Is(err, ociregistry.ErrBlobUnknown) {
		// Other programs, and interrupted pushes, leave blobs that are not in
		// the pool.
		if source, text, size, err = r.mountSource(to, digest); err != nil {
			err = ociregistry.ErrBlobUnknown
		}
	}
	if err != nil {
		return 0, err
	}
	if text != "" {
		return size, r.putNewText(ctx, to, digest, text)
	}
	repo := r.repos.Use(to)
	defer repo.Release()
	err = repo.AddFile(ctx, digest, func() error { return r.store.Link(ctx, source, repo.Dir, digest) })
	if errors.Is(err, blobs.ErrNoSource) {
		return 0, ociregistry.ErrBlobUnknown // deleted meanwhile
	}
	return size, err
}

// mountSource returns the directory of the layout from which a blob can be linked, or
// "" for the pool. If the blob is not a file yet, it returns the blob's text.
func (r *Registry) mountSource(from string, digest ociregistry.Digest) (dir, text string, size int64, err error) {
	if from != "" {
		repo, err := r.repos.Open(from)
		if err != nil {
			return "", "", 0, err
		}
		defer repo.Release()
		if size, err = r.statBlob(repo, digest); err != nil {
			return "", "", 0, repo.Missing(err)
		}
		return repo.Dir, repo.Blob(digest).Text, size, nil
	}
	size, err = r.store.StatPool(digest)
	if !errors.Is(err, fs.ErrNotExist) {
		return "", "", size, err
	}
	text, err = r.unfoldedBlob(digest)
	if text != "" || err != nil {
		return "", text, int64(len(text)), err
	}
	// A fold may just have moved it from a journal to the pool.
	size, err = r.store.StatPool(digest)
	if errors.Is(err, fs.ErrNotExist) {
		err = ociregistry.ErrBlobUnknown
	}
	return "", "", size, err
}

// unfoldedBlob returns the contents of a blob that only a journal has, or "".
func (r *Registry) unfoldedBlob(digest ociregistry.Digest) (string, error) {
	names, err := r.repos.Marked()
	for _, name := range names {
		repo, err := r.repos.Open(name)
		if err != nil {
			continue // the call is not about this repository
		}
		text := repo.Blob(digest).Text
		repo.Release()
		if text != "" {
			return text, nil
		}
	}
	return "", err
}

// PushManifest implements [ociregistry.Writer.PushManifest]. If the manifest exists
// with another media type, the new media type replaces it.
func (r *Registry) PushManifest(ctx context.Context, repo string, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	desc, err := r.pushManifest(ctx, repo, ref, contents, mediaType, tags)
	if err != nil {
		return ociregistry.Descriptor{}, opError(err, "PushManifest", repo, ref)
	}
	return desc, nil
}

func (r *Registry) pushManifest(ctx context.Context, name string, ref string, contents []byte, mediaType string, tags []string) (desc ociregistry.Descriptor, err error) {
	checked, err := manifest.CheckPush(ctx, name, ref, contents, mediaType, tags)
	if err != nil {
		return desc, err
	}
	digest, size, info := checked.Digest, int64(len(contents)), checked.Info
	if err := r.writable(name); err != nil {
		return desc, err
	}
	repo := r.repos.Use(name)
	defer repo.Release()
	p := &push{
		registry:  r,
		share:     r.quota.NewShare(0),
		repo:      repo,
		ref:       ref,
		condition: ociregistry.PushConditionFrom(ctx),
		sparse:    r.opts.Sparse || ociregistry.MissingAllowed(ctx),
		op:        repostate.Op{Kind: repostate.PutManifest, Digest: digest, MediaType: mediaType, Size: size, Text: checked.Contents, Tags: checked.Tags, Info: &info},
	}
	if err := p.commit(ctx); err != nil {
		p.share.Free()
		return desc, err
	}
	return ociregistry.Descriptor{MediaType: mediaType, Digest: digest, Size: size}, nil
}
