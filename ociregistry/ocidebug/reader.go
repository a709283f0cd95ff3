package ocidebug

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/seed-40b21970/oci/ociregistry"
)

func (r *registry) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	c := r.begin(ctx, slog.String("repository", repo), slog.String("digest", string(digest)))
	rd, err := r.r.GetBlob(ctx, repo, digest)
	return c.endReader("GetBlob", rd, err)
}

func (r *registry) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	c := r.begin(ctx, slog.String("repository", repo), slog.String("digest", string(digest)),
		slog.Int64("offset0", offset0), slog.Int64("offset1", offset1))
	rd, err := r.r.GetBlobRange(ctx, repo, digest, offset0, offset1)
	return c.endReader("GetBlobRange", rd, err)
}

func (r *registry) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	c := r.begin(ctx, slog.String("repository", repo), slog.String("digest", string(digest)))
	rd, err := r.r.GetManifest(ctx, repo, digest)
	return c.endReader("GetManifest", rd, err)
}

func (r *registry) GetTag(ctx context.Context, repo string, tagName string) (ociregistry.BlobReader, error) {
	c := r.begin(ctx, slog.String("repository", repo), slog.String("tag", tagName))
	rd, err := r.r.GetTag(ctx, repo, tagName)
	return c.endReader("GetTag", rd, err)
}

func (r *registry) ResolveBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	c := r.begin(ctx, slog.String("repository", repo), slog.String("digest", string(digest)))
	desc, err := r.r.ResolveBlob(ctx, repo, digest)
	c.endWith("ResolveBlob", err, desc)
	return desc, err
}

func (r *registry) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	c := r.begin(ctx, slog.String("repository", repo), slog.String("digest", string(digest)))
	desc, err := r.r.ResolveManifest(ctx, repo, digest)
	c.endWith("ResolveManifest", err, desc)
	return desc, err
}

func (r *registry) ResolveTag(ctx context.Context, repo string, tagName string) (ociregistry.Descriptor, error) {
	c := r.begin(ctx, slog.String("repository", repo), slog.String("tag", tagName))
	desc, err := r.r.ResolveTag(ctx, repo, tagName)
	c.endWith("ResolveTag", err, desc)
	return desc, err
}

// endReader ends a call that returned the reader rd, and returns a reader that counts its
// bytes. That implements [io.Seeker] and [io.ReaderAt] if rd does. It always implements
// [io.WriterTo], by [io.Copy] if rd does not.
func (c *call) endReader(op string, rd ociregistry.BlobReader, err error) (ociregistry.BlobReader, error) {
	if err != nil {
		c.end(op, err)
		return rd, err
	}
	c.endWith(op, nil, rd.Descriptor())
	r := &reader{rd: rd, transfer: transfer{call: c}}
	seeker, canSeek := rd.(io.Seeker)
	at, canReadAt := rd.(io.ReaderAt)
	switch {
	case canSeek && canReadAt:
		return struct {
			*reader
			io.Seeker
			io.ReaderAt
		}{r, seeker, readerAt{at, r}}, nil
	case canSeek:
		return struct {
			*reader
			io.Seeker
		}{r, seeker}, nil
	case canReadAt:
		return struct {
			*reader
			io.ReaderAt
		}{r, readerAt{at, r}}, nil
	}
	return r, nil
}

// transfer counts the bytes of a reader or a writer.
type transfer struct {
	call   *call
	bytes  atomic.Int64
	failed atomic.Pointer[error] // the first error
	ended  atomic.Bool
}

// moved counts n bytes and remembers an error.
func (t *transfer) moved(n int64, err error) {
	t.bytes.Add(n)
	if err != nil && err != io.EOF {
		t.failed.CompareAndSwap(nil, &err)
	}
}

// end writes a record with the number of bytes. If err is nil, the record has an earlier
// error.
func (t *transfer) end(op string, err error, attrs ...slog.Attr) {
	if failed := t.failed.Load(); err == nil && failed != nil {
		err = *failed
	}
	t.call.end(op, err, append(attrs, slog.Int64("bytes", t.bytes.Load()))...)
}

type reader struct {
	rd ociregistry.BlobReader
	transfer
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.rd.Read(p)
	r.moved(int64(n), err)
	return n, err
}

func (r *reader) WriteTo(w io.Writer) (int64, error) {
	n, err := io.Copy(w, r.rd)
	r.moved(n, err)
	return n, err
}

func (r *reader) Close() error {
	err := r.rd.Close()
	if !r.ended.Swap(true) {
		r.end("BlobReader.Close", err)
	}
	return err
}

func (r *reader) Descriptor() ociregistry.Descriptor { return r.rd.Descriptor() }

type readerAt struct {
	io.ReaderAt
	r *reader
}

func (at readerAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := at.ReaderAt.ReadAt(p, off)
	at.r.moved(int64(n), err)
	return n, err
}
