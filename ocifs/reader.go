package ocifs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// mediaTypeBlob is the media type of blobs, which registries do not keep.
const mediaTypeBlob = "application/octet-stream"

// GetBlob implements [ociregistry.Reader.GetBlob]. The reader implements
// [io.WriterTo], [io.Seeker] and [io.ReaderAt]. Its WriteTo lets the system send
// the file to a network connection without a copy.
func (r *Registry) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	b, err := r.openBlob(ctx, repo, digest)
	if err != nil {
		return nil, opError(err, "GetBlob", repo, string(digest))
	}
	return r.read(ctx, &b, 0, b.size), nil
}

// GetBlobRange implements [ociregistry.Reader.GetBlobRange]. The reader is as
// that of GetBlob, with offsets that count from offset0.
func (r *Registry) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	b, offset1, err := r.openRange(ctx, repo, digest, offset0, offset1)
	if err != nil {
		return nil, opError(err, "GetBlobRange", repo, string(digest))
	}
	return r.read(ctx, &b, offset0, offset1), nil
}

// openRange opens a blob of which the bytes from offset0 to offset1 are to be read,
// and returns where they end.
func (r *Registry) openRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (b blob, end int64, err error) {
	b, err = r.openBlob(ctx, repo, digest)
	if err == nil && (offset0 < 0 || offset0 > b.size || offset1 >= 0 && offset1 < offset0) {
		b.close()
		err = fmt.Errorf("%w: there are %d bytes", ociregistry.ErrRangeInvalid, b.size)
	}
	if offset1 < 0 || offset1 > b.size {
		offset1 = b.size
	}
	return b, offset1, err
}

// read returns a reader of a blob's bytes from start to end.
func (r *Registry) read(ctx context.Context, b *blob, start, end int64) ociregistry.BlobReader {
	if r.opts.VerifyReads {
		return r.readVerified(ctx, b, start, end)
	}
	return b.reader(ctx, start, end)
}

// ResolveBlob implements [ociregistry.Reader.ResolveBlob].
func (r *Registry) ResolveBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	desc, err := r.resolveBlob(ctx, repo, digest)
	return desc, opError(err, "ResolveBlob", repo, string(digest))
}

func (r *Registry) resolveBlob(ctx context.Context, name string, digest ociregistry.Digest) (desc ociregistry.Descriptor, err error) {
	if err := check(ctx, name, digest); err != nil {
		return desc, err
	}
	repo, err := r.open(name)
	if err != nil {
		return desc, err
	}
	size, err := repo.statBlob(digest)
	if err != nil {
		return desc, err
	}
	return blobDescriptor(digest, size), nil
}

// statBlob returns the size of a blob.
func (repo *repository) statBlob(digest ociregistry.Digest) (size int64, err error) {
	contents, want, err := repo.knownBlob(digest)
	if err != nil {
		return 0, err
	}
	if contents != "" {
		return int64(len(contents)), nil
	}
	size, err = repo.registry.store.stat(repo.dir, digest)
	return size, repo.checkFile(err, digest, size, want)
}

// knownBlob returns the contents of a blob that is not a file yet, or else the
// size that its file must have, which is -1 if nothing is known of it.
func (repo *repository) knownBlob(digest ociregistry.Digest) (contents string, size int64, err error) {
	repo.mu.RLock()
	unread := len(repo.state.unread) > 0
	repo.mu.RUnlock()
	if unread {
		repo.readAll() // a manifest that cannot be read does not keep blobs from being read
	}
	repo.mu.RLock()
	defer repo.mu.RUnlock()
	s := repo.state
	if contents, ok := s.blobs[digest]; ok {
		return contents, int64(len(contents)), nil
	}
	m := s.manifests[digest]
	_, deleted := s.deleted[digest]
	if deleted || m != nil && !m.blob {
		return "", 0, ociregistry.ErrBlobUnknown
	}
	size = -1
	if ref := s.refs[digest]; ref != nil {
		size = ref.size
	}
	return "", size, nil
}

// checkFile returns the error for a blob whose file was looked for with the
// given result, and is to have want bytes if that is not -1.
func (repo *repository) checkFile(err error, digest ociregistry.Digest, size, want int64) error {
	if errors.Is(err, fs.ErrNotExist) {
		return repo.missing(ociregistry.ErrBlobUnknown)
	}
	if err != nil || want < 0 || size == want {
		return err
	}
	if _, err = repo.soundSize(digest); errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: its file has %d bytes, its manifests say %d", ociregistry.ErrBlobUnknown, size, want)
	}
	return err
}

// soundSize returns the size of a blob whose file has not the size that a manifest
// says. If the file is not damaged, it is the manifest that is wrong, and what it
// says of the size counts no more; else the error is [fs.ErrNotExist].
//
// That takes as long as to read the file, and is remembered.
func (repo *repository) soundSize(digest ociregistry.Digest) (int64, error) {
	size, err := repo.registry.store.soundSize(repo.registry.ctx, repo.dir, digest)
	if err != nil {
		return 0, err
	}
	repo.mu.Lock()
	defer repo.mu.Unlock()
	if ref := repo.state.refs[digest]; ref != nil && ref.size != size {
		ref.size = -1
	}
	return size, nil
}

// blob is a blob that is open: contents or a file.
type blob struct {
	digest   ociregistry.Digest
	size     int64
	contents string
	file     file
	info     fs.FileInfo
}

func (r *Registry) openBlob(ctx context.Context, name string, digest ociregistry.Digest) (b blob, err error) {
	if err := check(ctx, name, digest); err != nil {
		return b, err
	}
	repo, err := r.open(name)
	if err != nil {
		return b, err
	}
	contents, want, err := repo.knownBlob(digest)
	if err != nil {
		return b, repo.missing(err)
	}
	b = blob{digest: digest, contents: contents, size: want}
	if contents != "" {
		return b, nil
	}
	b.file, b.info, err = r.store.openNamed(blobPath(repo.dir, digest), digest, os.O_RDONLY)
	missing := err != nil
	if !missing {
		b.size = b.info.Size()
	}
	if err := repo.checkFile(err, digest, b.size, want); err != nil {
		if !missing {
			b.file.Close()
		}
		return b, err
	}
	return b, nil
}

func (b *blob) close() {
	if b.file != nil {
		b.file.Close()
	}
}

// reader returns a reader of the bytes from start to end.
func (b *blob) reader(ctx context.Context, start, end int64) ociregistry.BlobReader {
	desc := blobDescriptor(b.digest, b.size)
	if b.file == nil {
		return newTextReader(b.contents[start:end], desc)
	}
	return newBlobReader(ctx, b.file, desc, start, end)
}

func blobDescriptor(digest ociregistry.Digest, size int64) ociregistry.Descriptor {
	return ociregistry.Descriptor{MediaType: mediaTypeBlob, Digest: digest, Size: size}
}

// textReader reads what is in memory.
type textReader struct {
	*strings.Reader
	desc ociregistry.Descriptor
}

func newTextReader(text string, desc ociregistry.Descriptor) *textReader {
	return &textReader{strings.NewReader(text), desc}
}

func (r *textReader) Descriptor() ociregistry.Descriptor { return r.desc }
func (r *textReader) Close() error                       { return nil }

// GetManifest implements [ociregistry.Reader.GetManifest].
func (r *Registry) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	at, m, err := r.manifest(ctx, repo, digest)
	return readManifest(at, m, err, "GetManifest", repo, string(digest))
}

// GetTag implements [ociregistry.Reader.GetTag].
func (r *Registry) GetTag(ctx context.Context, repo string, tagName string) (ociregistry.BlobReader, error) {
	at, m, err := r.tag(ctx, repo, tagName)
	return readManifest(at, m, err, "GetTag", repo, tagName)
}

func readManifest(repo *repository, m *stored, err error, op, name, ref string) (ociregistry.BlobReader, error) {
	text := ""
	if err == nil {
		if text, err = repo.contents(m); errors.Is(err, fs.ErrNotExist) {
			err = ociregistry.ErrManifestUnknown
		}
	}
	if err != nil {
		return nil, opError(err, op, name, ref)
	}
	return newTextReader(text, m.desc()), nil
}

// ResolveManifest implements [ociregistry.Reader.ResolveManifest].
func (r *Registry) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	at, m, err := r.manifest(ctx, repo, digest)
	return resolveManifest(at, m, err, "ResolveManifest", repo, string(digest))
}

// ResolveTag implements [ociregistry.Reader.ResolveTag].
func (r *Registry) ResolveTag(ctx context.Context, repo string, tagName string) (ociregistry.Descriptor, error) {
	at, m, err := r.tag(ctx, repo, tagName)
	return resolveManifest(at, m, err, "ResolveTag", repo, tagName)
}

func resolveManifest(repo *repository, m *stored, err error, op, name, ref string) (ociregistry.Descriptor, error) {
	if err == nil {
		var present bool
		if present, err = repo.isPresent(m); err == nil && !present {
			err = ociregistry.ErrManifestUnknown
		}
	}
	if err != nil {
		return ociregistry.Descriptor{}, opError(err, op, name, ref)
	}
	return m.desc(), nil
}

func (r *Registry) manifest(ctx context.Context, name string, digest ociregistry.Digest) (*repository, *stored, error) {
	if err := check(ctx, name, digest); err != nil {
		return nil, nil, err
	}
	repo, err := r.open(name)
	if err != nil {
		return nil, nil, err
	}
	m, err := repo.manifest(digest)
	if err == nil && m == nil {
		err = repo.missing(ociregistry.ErrManifestUnknown)
	}
	return repo, m, err
}

// manifest returns a manifest, or nil. If only an index names it, it is found by
// reading all indexes; that is done only if there is a file of that name.
func (repo *repository) manifest(digest ociregistry.Digest) (*stored, error) {
	repo.mu.RLock()
	m := repo.state.manifests[digest]
	unread := len(repo.state.unread) > 0
	repo.mu.RUnlock()
	if m != nil || !unread {
		return m, nil
	}
	if _, err := repo.registry.store.stat(repo.dir, digest); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return nil, err
	}
	if err := repo.readAll(); err != nil {
		return nil, err
	}
	repo.mu.RLock()
	defer repo.mu.RUnlock()
	return repo.state.manifests[digest], nil
}

func (r *Registry) tag(ctx context.Context, name, tag string) (*repository, *stored, error) {
	if err := ociregistry.CheckRepository(name); err != nil {
		return nil, nil, err
	}
	if !ociref.IsValidTag(tag) {
		return nil, nil, ociregistry.ErrManifestUnknown
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	repo, err := r.open(name)
	if err != nil {
		return nil, nil, err
	}
	repo.mu.RLock()
	t := repo.state.tags[tag]
	var m *stored
	if t != nil {
		m = t.manifest
	}
	repo.mu.RUnlock()
	if m == nil {
		return nil, nil, repo.missing(ociregistry.ErrManifestUnknown)
	}
	return repo, m, nil
}

// check makes the checks that begin most methods.
func check(ctx context.Context, repo string, digest ociregistry.Digest) error {
	if err := ociregistry.CheckRepositoryAndDigest(repo, digest); err != nil {
		return err
	}
	return ctx.Err()
}
