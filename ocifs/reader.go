package ocifs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/internal/window"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/content"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/garbage"
	"github.com/seed-40b21970/oci/ocifs/internal/refs"
	"github.com/seed-40b21970/oci/ocifs/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// mediaTypeBlob is the media type of every blob: registries do not store one.
const mediaTypeBlob = "application/octet-stream"

// GetBlob implements [ociregistry.Reader.GetBlob]. The reader also implements
// [io.WriterTo], [io.Seeker] and [io.ReaderAt]. Its WriteTo method lets the system
// send the file to a network connection without copying the bytes.
func (r *Registry) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	b, err := r.openBlob(ctx, repo, digest)
	if err != nil {
		return nil, opError(err, "GetBlob", repo, string(digest))
	}
	return r.read(ctx, &b, 0, b.size), nil
}

// GetBlobRange implements [ociregistry.Reader.GetBlobRange]. The reader is like that
// of GetBlob; its offsets count from offset0.
func (r *Registry) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	b, offset1, err := r.openRange(ctx, repo, digest, offset0, offset1)
	if err != nil {
		return nil, opError(err, "GetBlobRange", repo, string(digest))
	}
	return r.read(ctx, &b, offset0, offset1), nil
}

// openRange opens a blob to read its bytes from offset0 to offset1, and returns the
// actual end of the range.
func (r *Registry) openRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (b blob, end int64, err error) {
	if b, err = r.openBlob(ctx, repo, digest); err != nil {
		return b, 0, err
	}
	if end, err = window.End(b.size, offset0, offset1); err != nil {
		b.close()
	}
	return b, end, err
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
	repo := r.repos.Use(name)
	defer repo.Release()
	size, statErr := repo.Touch(ctx, digest)
	if statErr != nil && !errors.Is(statErr, fs.ErrNotExist) {
		return desc, statErr
	}
	contents, want, err := knownBlob(repo, digest)
	if err == nil && contents == "" {
		err = checkFile(repo, statErr, digest, size, want)
	}
	if err != nil {
		return desc, err
	}
	return blobDescriptor(digest, max(size, int64(len(contents)))), nil
}

// statBlob returns the size of a blob.
func (r *Registry) statBlob(repo *repos.Repository, digest ociregistry.Digest) (size int64, err error) {
	contents, want, err := knownBlob(repo, digest)
	if err != nil {
		return 0, err
	}
	if contents != "" {
		return int64(len(contents)), nil
	}
	size, err = r.store.Stat(repo.Dir, digest)
	return size, checkFile(repo, err, digest, size, want)
}

// knownBlob returns the contents of a blob that is not a file yet. For any other blob
// it returns the size that the file must have, or -1 if the size is unknown.
func knownBlob(repo *repos.Repository, digest ociregistry.Digest) (contents string, size int64, err error) {
	refs.ReadChildren(repo, digest)
	refs.ReadAll(repo) // a manifest that cannot be read does not keep blobs from being read
	switch b := repo.Blob(digest); {
	case b.InText:
		return b.Text, int64(len(b.Text)), nil
	case !b.InFile:
		return "", 0, ociregistry.ErrBlobUnknown
	}
	repo.View(func(s *repostate.State) { size = s.NamedSize(digest) })
	return "", size, nil
}

// checkFile returns the error for a blob, given the result of looking for its file:
// err or size. The file must have want bytes, unless want is -1.
func checkFile(repo *repos.Repository, err error, digest ociregistry.Digest, size, want int64) error {
	if errors.Is(err, fs.ErrNotExist) {
		return repo.Missing(ociregistry.ErrBlobUnknown)
	}
	if err != nil || want < 0 || size == want {
		return err
	}
	if _, err = content.IntactSize(repo, digest); errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: its file has %d bytes, its manifests say %d", ociregistry.ErrBlobUnknown, size, want)
	}
	return err
}

// blob is an open blob: contents or a file.
type blob struct {
	digest   ociregistry.Digest
	size     int64
	contents string
	file     disk.File
	info     fs.FileInfo
}

func (r *Registry) openBlob(ctx context.Context, name string, digest ociregistry.Digest) (b blob, err error) {
	if err := check(ctx, name, digest); err != nil {
		return b, err
	}
	repo, err := r.repos.Open(name)
	if err != nil {
		return b, err
	}
	defer repo.Release()
	contents, want, err := knownBlob(repo, digest)
	if err != nil {
		return b, repo.Missing(err)
	}
	b = blob{digest: digest, contents: contents, size: want}
	if contents != "" {
		return b, nil
	}
	b.file, b.info, err = r.store.Open(repo.Dir, digest)
	missing := err != nil
	if !missing {
		b.size = b.info.Size()
	}
	if err := checkFile(repo, err, digest, b.size, want); err != nil {
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
	return blobs.NewReader(ctx, b.file, desc, start, end)
}

func blobDescriptor(digest ociregistry.Digest, size int64) ociregistry.Descriptor {
	return ociregistry.Descriptor{MediaType: mediaTypeBlob, Digest: digest, Size: size}
}

// textReader reads content that is in memory.
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
	return r.readManifest(ctx, at, m, err, "GetManifest", repo, string(digest))
}

// GetTag implements [ociregistry.Reader.GetTag].
func (r *Registry) GetTag(ctx context.Context, repo string, tagName string) (ociregistry.BlobReader, error) {
	at, m, err := r.tag(ctx, repo, tagName)
	return r.readManifest(ctx, at, m, err, "GetTag", repo, tagName)
}

func (r *Registry) readManifest(ctx context.Context, repo *repos.Repository, m *repostate.Manifest, err error, op, name, ref string) (ociregistry.BlobReader, error) {
	if repo != nil {
		defer repo.Release()
	}
	text := ""
	if err == nil {
		if text, err = content.Text(repo, m); errors.Is(err, fs.ErrNotExist) {
			err = ociregistry.ErrManifestUnknown
		}
	}
	if err != nil {
		return nil, opError(err, op, name, ref)
	}
	if !r.opts.ReadOnly && !ociregistry.IsInspection(ctx) {
		r.pulls.Note(repo.Name, m.Digest, r.store.Clock.Now())
	}
	return newTextReader(text, m.Descriptor()), nil
}

// ResolveManifest implements [ociregistry.Reader.ResolveManifest].
func (r *Registry) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	at, m, err := r.manifest(ctx, repo, digest)
	if err == nil && !r.opts.ReadOnly {
		m, err = garbage.Keep(ctx, at, m)
	}
	return resolveManifest(at, m, err, "ResolveManifest", repo, string(digest))
}

// ResolveTag implements [ociregistry.Reader.ResolveTag].
func (r *Registry) ResolveTag(ctx context.Context, repo string, tagName string) (ociregistry.Descriptor, error) {
	at, m, err := r.tag(ctx, repo, tagName)
	return resolveManifest(at, m, err, "ResolveTag", repo, tagName)
}

func resolveManifest(repo *repos.Repository, m *repostate.Manifest, err error, op, name, ref string) (ociregistry.Descriptor, error) {
	if repo != nil {
		defer repo.Release()
	}
	if err == nil {
		var present bool
		if present, err = content.IsPresent(repo, m); err == nil && !present {
			err = ociregistry.ErrManifestUnknown
		}
	}
	if err != nil {
		return ociregistry.Descriptor{}, opError(err, op, name, ref)
	}
	return m.Descriptor(), nil
}

// manifest returns a manifest, and the repository that has it, which the caller releases
// unless it is nil, also after an error.
func (r *Registry) manifest(ctx context.Context, name string, digest ociregistry.Digest) (*repos.Repository, *repostate.Manifest, error) {
	if err := check(ctx, name, digest); err != nil {
		return nil, nil, err
	}
	repo, err := r.repos.Open(name)
	if err != nil {
		return nil, nil, err
	}
	m, err := refs.Find(repo, digest)
	if err == nil && m == nil {
		err = repo.Missing(ociregistry.ErrManifestUnknown)
	}
	return repo, m, err
}

// tag is like manifest, for the one that a tag points at.
func (r *Registry) tag(ctx context.Context, name, tag string) (*repos.Repository, *repostate.Manifest, error) {
	if err := ociregistry.CheckRepository(name); err != nil {
		return nil, nil, err
	}
	if !ociref.IsValidTag(tag) {
		return nil, nil, ociregistry.ErrManifestUnknown
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	repo, err := r.repos.Open(name)
	if err != nil {
		return nil, nil, err
	}
	var m *repostate.Manifest
	repo.View(func(s *repostate.State) { m = s.Tag(tag) })
	if m == nil {
		return repo, nil, repo.Missing(ociregistry.ErrManifestUnknown)
	}
	return repo, m, nil
}

// check does the checks that most methods begin with.
func check(ctx context.Context, repo string, digest ociregistry.Digest) error {
	if err := ociregistry.CheckRepositoryAndDigest(repo, digest); err != nil {
		return err
	}
	return ctx.Err()
}
