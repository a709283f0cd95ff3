package ocimem

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync/atomic"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/internal/window"
	"github.com/seed-40b21970/oci/ociregistry"
)

// mediaTypeBlob is the media type of all blobs. Registries do not store theirs.
const mediaTypeBlob = "application/octet-stream"

// GetBlob implements [ociregistry.Reader.GetBlob]. The reader implements
// [io.WriterTo], [io.Seeker] and [io.ReaderAt].
func (r *Registry) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	b, err := r.blob(ctx, repo, digest)
	if err != nil {
		return nil, opError(err, "GetBlob", repo, string(digest))
	}
	return newReader(ctx, b.content, blobDescriptor(digest, b.content), 0, b.size), nil
}

// GetBlobRange implements [ociregistry.Reader.GetBlobRange]. The reader
// implements [io.WriterTo], [io.Seeker] and [io.ReaderAt], with offsets that
// count from offset0.
func (r *Registry) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	b, err := r.blob(ctx, repo, digest)
	if err == nil {
		offset1, err = window.End(b.size, offset0, offset1)
	}
	if err != nil {
		return nil, opError(err, "GetBlobRange", repo, string(digest))
	}
	return newReader(ctx, b.content, blobDescriptor(digest, b.content), offset0, offset1), nil
}

// ResolveBlob implements [ociregistry.Reader.ResolveBlob].
func (r *Registry) ResolveBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	b, err := view(ctx, r, repo, digest, func(repo *repository) (*blob, error) {
		b, err := repo.blob(digest)
		if err == nil {
			b.time.Store(r.now().UnixNano())
		}
		return b, err
	})
	if err != nil {
		return ociregistry.Descriptor{}, opError(err, "ResolveBlob", repo, string(digest))
	}
	return blobDescriptor(digest, b.content), nil
}

// GetManifest implements [ociregistry.Reader.GetManifest].
func (r *Registry) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	m, err := view(ctx, r, repo, digest, func(repo *repository) (*manifestEntry, error) {
		return repo.manifest(digest)
	})
	if err != nil {
		return nil, opError(err, "GetManifest", repo, string(digest))
	}
	r.notePull(ctx, m)
	return &manifestReader{strings.NewReader(m.contents), m.desc()}, nil
}

// GetTag implements [ociregistry.Reader.GetTag].
func (r *Registry) GetTag(ctx context.Context, repo string, tagName string) (ociregistry.BlobReader, error) {
	m, err := r.tag(ctx, repo, tagName)
	if err != nil {
		return nil, opError(err, "GetTag", repo, tagName)
	}
	r.notePull(ctx, m)
	return &manifestReader{strings.NewReader(m.contents), m.desc()}, nil
}

// notePull notes that a manifest is pulled now, unless somebody only looks at it.
func (r *Registry) notePull(ctx context.Context, m *manifestEntry) {
	if !ociregistry.IsInspection(ctx) {
		m.pulled.Store(r.now().UnixNano())
	}
}

// ResolveManifest implements [ociregistry.Reader.ResolveManifest].
func (r *Registry) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	m, err := view(ctx, r, repo, digest, func(repo *repository) (*manifestEntry, error) {
		m, err := repo.manifest(digest)
		if err == nil {
			m.time.Store(r.now().UnixNano())
		}
		return m, err
	})
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

func (r *Registry) blob(ctx context.Context, repo string, digest ociregistry.Digest) (*blob, error) {
	return view(ctx, r, repo, digest, func(repo *repository) (*blob, error) { return repo.blob(digest) })
}

// view checks the arguments of a call, and calls f with the repository locked for reading.
func view[T any](ctx context.Context, r *Registry, name string, digest ociregistry.Digest, f func(*repository) (T, error)) (found T, err error) {
	if err := ociregistry.CheckRepositoryAndDigest(name, digest); err != nil {
		return found, err
	}
	if err := ctx.Err(); err != nil {
		return found, err
	}
	err = r.view(name, func(repo *repository) error {
		found, err = f(repo)
		return err
	})
	return found, err
}

func (r *Registry) tag(ctx context.Context, name, tag string) (m *manifestEntry, err error) {
	if err := call.CheckRepositoryAndTag(name, tag); err != nil {
		return nil, err
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

// NewBytesReader returns a BlobReader of data, which it does not copy. The reader
// implements [io.WriterTo], [io.Seeker] and [io.ReaderAt].
func NewBytesReader(data []byte, desc ociregistry.Descriptor) ociregistry.BlobReader {
	return &bytesReader{Reader: bytes.NewReader(data), desc: desc}
}

type bytesReader struct {
	*bytes.Reader
	desc ociregistry.Descriptor
}

func (r *bytesReader) Descriptor() ociregistry.Descriptor { return r.desc }
func (r *bytesReader) Close() error                       { return nil }

// manifestReader reads a manifest, which is not divided into chunks.
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

// check returns an error if the reader is closed or its context has ended.
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
	at, err := window.Seek(r.offset-r.start, r.end-r.start, offset, whence)
	if err == nil {
		r.offset = r.start + at
	}
	return at, err
}
