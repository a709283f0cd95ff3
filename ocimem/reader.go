package ocimem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync/atomic"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// mediaTypeBlob is the media type of blobs, which registries do not keep.
const mediaTypeBlob = "application/octet-stream"

// GetBlob implements [ociregistry.Reader.GetBlob]. The reader implements
// [io.WriterTo], [io.Seeker] and [io.ReaderAt].
func (r *Registry) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	c, err := r.blob(ctx, repo, digest)
	if err != nil {
		return nil, opError(err, "GetBlob", repo, string(digest))
	}
	return newReader(ctx, c, blobDescriptor(digest, c), 0, c.size), nil
}

// GetBlobRange implements [ociregistry.Reader.GetBlobRange]. The reader
// implements [io.WriterTo], [io.Seeker] and [io.ReaderAt], with offsets that
// count from offset0.
func (r *Registry) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	c, err := r.blob(ctx, repo, digest)
	if err == nil && (offset0 < 0 || offset0 > c.size || offset1 >= 0 && offset1 < offset0) {
		err = fmt.Errorf("%w: there are %d bytes", ociregistry.ErrRangeInvalid, c.size)
	}
	if err != nil {
		return nil, opError(err, "GetBlobRange", repo, string(digest))
	}
	if offset1 < 0 || offset1 > c.size {
		offset1 = c.size
	}
	return newReader(ctx, c, blobDescriptor(digest, c), offset0, offset1), nil
}

// ResolveBlob implements [ociregistry.Reader.ResolveBlob].
func (r *Registry) ResolveBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	c, err := r.blob(ctx, repo, digest)
	if err != nil {
		return ociregistry.Descriptor{}, opError(err, "ResolveBlob", repo, string(digest))
	}
	return blobDescriptor(digest, c), nil
}

// GetManifest implements [ociregistry.Reader.GetManifest].
func (r *Registry) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	m, err := r.manifest(ctx, repo, digest)
	if err != nil {
		return nil, opError(err, "GetManifest", repo, string(digest))
	}
	return &manifestReader{strings.NewReader(m.contents), m.desc()}, nil
}

// GetTag implements [ociregistry.Reader.GetTag].
func (r *Registry) GetTag(ctx context.Context, repo string, tagName string) (ociregistry.BlobReader, error) {
	m, err := r.tag(ctx, repo, tagName)
	if err != nil {
		return nil, opError(err, "GetTag", repo, tagName)
	}
	return &manifestReader{strings.NewReader(m.contents), m.desc()}, nil
}

// ResolveManifest implements [ociregistry.Reader.ResolveManifest].
func (r *Registry) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	m, err := r.manifest(ctx, repo, digest)
	if err != nil {
		return ociregistry.Descriptor{}, opError(err, "ResolveManifest", repo, string(digest))
	}
	return m.desc(), nil
}

// ResolveTag implements [ociregistry.Reader.ResolveTag].
func (r *Registry) ResolveTag(ctx context.Context, repo string, tagName string) (ociregistry.Descriptor, error) {
	m, err := r.tag(ctx, repo, tagName)
	if err != nil {
		return ociregistry.Descriptor{}, opError(err, "ResolveTag", repo, tagName)
	}
	return m.desc(), nil
}

func (r *Registry) blob(ctx context.Context, name string, digest ociregistry.Digest) (c *content, err error) {
	if err := ociregistry.CheckRepositoryAndDigest(name, digest); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = r.view(name, func(repo *repository) error {
		c, err = repo.blob(digest)
		return err
	})
	return c, err
}

func (r *Registry) manifest(ctx context.Context, name string, digest ociregistry.Digest) (m *storedManifest, err error) {
	if err := ociregistry.CheckRepositoryAndDigest(name, digest); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = r.view(name, func(repo *repository) error {
		m, err = repo.manifest(digest)
		return err
	})
	return m, err
}

func (r *Registry) tag(ctx context.Context, name, tag string) (m *storedManifest, err error) {
	if err := ociregistry.CheckRepository(name); err != nil {
		return nil, err
	}
	if !ociref.IsValidTag(tag) {
		return nil, ociregistry.ErrManifestUnknown
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = r.view(name, func(repo *repository) error {
		m, err = repo.tag(tag)
		return err
	})
	return m, err
}

func blobDescriptor(digest ociregistry.Digest, c *content) ociregistry.Descriptor {
	return ociregistry.Descriptor{MediaType: mediaTypeBlob, Digest: digest, Size: c.size}
}

// NewBytesReader returns a BlobReader of data. It implements [io.WriterTo],
// [io.Seeker] and [io.ReaderAt]. The data is not copied.
func NewBytesReader(data []byte, desc ociregistry.Descriptor) ociregistry.BlobReader {
	return &bytesReader{Reader: bytes.NewReader(data), desc: desc}
}

type bytesReader struct {
	*bytes.Reader
	desc ociregistry.Descriptor
}

func (r *bytesReader) Descriptor() ociregistry.Descriptor { return r.desc }
func (r *bytesReader) Close() error                       { return nil }

// manifestReader reads a manifest, which needs no chunks.
type manifestReader struct {
	*strings.Reader
	desc ociregistry.Descriptor
}

func (r *manifestReader) Descriptor() ociregistry.Descriptor { return r.desc }
func (r *manifestReader) Close() error                       { return nil }

// reader reads the bytes of a blob from start to end.
type reader struct {
	ctx        context.Context
	content    *content
	desc       ociregistry.Descriptor
	start, end int64
	offset     int64 // of the next byte, counted from the blob's first
	closed     atomic.Bool
}

func newReader(ctx context.Context, c *content, desc ociregistry.Descriptor, start, end int64) *reader {
	return &reader{ctx: ctx, content: c, desc: desc, start: start, end: end, offset: start}
}

func (r *reader) Descriptor() ociregistry.Descriptor { return r.desc }

func (r *reader) Close() error {
	r.closed.Store(true)
	return nil
}

func (r *reader) check() error {
	if r.closed.Load() {
		return fs.ErrClosed
	}
	return r.ctx.Err()
}

func (r *reader) Read(p []byte) (n int, err error) {
	if err := r.check(); err != nil {
		return 0, err
	}
	if r.offset >= r.end && len(p) > 0 {
		return 0, io.EOF
	}
	n = r.fill(p, r.offset)
	r.offset += int64(n)
	return n, nil
}

// WriteTo writes the chunks as they are stored.
func (r *reader) WriteTo(w io.Writer) (written int64, err error) {
	for {
		if err := r.check(); err != nil {
			return written, err
		}
		chunk := r.content.chunk(r.offset, r.end)
		if len(chunk) == 0 {
			return written, nil
		}
		n, err := w.Write(chunk)
		written += int64(n)
		r.offset += int64(n)
		if err == nil && n != len(chunk) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return written, err
		}
	}
}

func (r *reader) ReadAt(p []byte, off int64) (n int, err error) {
	if err := r.check(); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, errors.New("ReadAt: negative offset")
	}
	n = r.fill(p, r.start+min(off, r.end-r.start))
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// fill copies the bytes from offset on into p.
func (r *reader) fill(p []byte, offset int64) (n int) {
	for n < len(p) {
		chunk := r.content.chunk(offset+int64(n), r.end)
		if len(chunk) == 0 {
			break
		}
		n += copy(p[n:], chunk)
	}
	return n
}

func (r *reader) Seek(offset int64, whence int) (int64, error) {
	if err := r.check(); err != nil {
		return 0, err
	}
	switch whence {
	case io.SeekStart:
		offset += r.start
	case io.SeekCurrent:
		offset += r.offset
	case io.SeekEnd:
		offset += r.end
	default:
		return 0, errors.New("Seek: invalid whence")
	}
	if offset < r.start {
		return 0, errors.New("Seek: negative position")
	}
	r.offset = offset
	return offset - r.start, nil
}
