package ociclient

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync"

	"github.com/seed-40b21970/oci/ociregistry"
)

// A blobWriter writes to an upload session. It buffers content until it has a chunk.
type blobWriter struct {
	about     target
	ctx       context.Context // the caller's
	chunkSize int64

	// interrupt ends the request in flight, whose sender holds the lock, when the
	// writer is cancelled.
	sending   context.Context
	interrupt context.CancelFunc

	mu     sync.Mutex
	upload *upload
	chunk  chunk
	ended  error // the result of Write and Commit; nil while the writer is open
	failed error // the error of a failed Write, which is final

	// The writer buffers the content after a full chunk until it has the minimum size
	// of chunks; if the content ends before, it is sent with that chunk. So a proxy
	// never turns chunks that are large enough into some that are not.
	tail  chunk
	least int64
}

var errWriterClosed = errors.New("the upload's writer is closed")

func (c *client) newBlobWriter(ctx context.Context, about target, u *upload, chunkSize int) *blobWriter {
	w := &blobWriter{about: about, ctx: ctx, upload: u, chunkSize: c.chunkSize(chunkSize, u.minChunk)}
	w.sending, w.interrupt = context.WithCancel(ctx)
	w.least = min(max(u.minChunk, 0), w.chunkSize)
	w.chunk.off = u.at
	u.shared = true
	return w
}

// chunkSize returns the size of chunks for the size that a caller asks for, and the
// minimum of the registry.
func (c *client) chunkSize(asked int, least int64) int64 {
	if asked <= 0 {
		asked = c.opts.ChunkSize
	}
	return min(max(int64(asked), least), int64(c.opts.MaxChunkSize))
}

func (w *blobWriter) Write(p []byte) (written int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(p) > 0 {
		w.upload.unused = false // the id may be asked for before the content is sent
	}
	for {
		if err := cmp.Or(w.ended, w.failed, w.sending.Err()); err != nil {
			return written, w.about.wrap(err)
		}
		if w.chunk.n >= w.chunkSize && w.tail.n >= w.least {
			if err := w.flush(); err != nil {
				return written, w.about.wrap(err)
			}
		}
		if len(p) == 0 {
			return written, nil
		}
		if w.chunk.n == 0 && int64(len(p)) >= w.chunkSize+w.least {
			w.chunk.borrowed, w.chunk.n = p[:w.chunkSize], w.chunkSize
			if err := w.flush(); err != nil {
				return written, w.about.wrap(err)
			}
			written += int(w.chunkSize)
			p = p[w.chunkSize:]
			continue
		}
		c, room := &w.chunk, w.chunkSize-w.chunk.n
		if room <= 0 {
			c, room = &w.tail, w.least-w.tail.n
		}
		n := int(min(int64(len(p)), room))
		c.write(p[:n])
		written += n
		p = p[n:]
	}
}

// flush sends the chunk, and makes the tail the next one. If that fails, the content that
// was not sent is lost.
func (w *blobWriter) flush() error {
	if w.chunk.n == 0 {
		return nil
	}
	w.failed = w.send("")
	w.chunk.reset(w.upload.at)
	if w.failed != nil {
		w.tail.reset(0)
		return w.failed
	}
	w.chunk.moveFrom(&w.tail)
	return nil
}

// join appends the tail to the chunk.
func (w *blobWriter) join() {
	if w.tail.n > 0 {
		w.tail.copyTo(&w.chunk)
		w.tail.reset(0)
	}
}

func (w *blobWriter) send(commit ociregistry.Digest) error {
	err := w.upload.send(w.sending, &w.chunk, commit)
	if err == errHasOneByte {
		w.chunk.off = w.upload.at
		err = w.upload.send(w.sending, &w.chunk, commit)
	}
	return err
}

// ReadFrom implements [io.ReaderFrom].
func (w *blobWriter) ReadFrom(r io.Reader) (int64, error) { return copyBuffered(w, r) }

func (w *blobWriter) Size() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.chunk.end() + w.tail.n
}

func (w *blobWriter) ChunkSize() int { return int(w.chunkSize) }

func (w *blobWriter) ID() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.upload.id()
}

// Close sends the buffered content. If that fails, or a Write has failed, Size returns how
// much the session has.
func (w *blobWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended != nil {
		return nil
	}
	if w.failed == nil {
		w.join()
		w.flush()
	}
	w.end(errWriterClosed)
	return w.about.wrap(w.failed)
}

// end ends the writer, and frees its memory.
func (w *blobWriter) end(why error) {
	w.ended = why
	w.chunk.reset(w.upload.at)
	w.tail.reset(0)
	w.interrupt()
}

// Commit implements [ociregistry.BlobWriter.Commit]. If it fails, and the session has not
// ended, it can be called again.
func (w *blobWriter) Commit(digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	about := w.about
	about.op, about.ref = "Commit", string(digest)
	desc, err := w.commit(digest)
	return desc, about.wrap(err)
}

func (w *blobWriter) commit(digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := cmp.Or(w.ended, w.failed, w.sending.Err(), ociregistry.CheckDigest(digest)); err != nil {
		return ociregistry.Descriptor{}, err
	}
	w.join()
	err := w.send(digest)
	size := w.chunk.end()
	if err == nil || errors.Is(err, ociregistry.ErrDigestInvalid) || errors.Is(err, ociregistry.ErrBlobUploadUnknown) {
		w.upload.at = size
		w.end(ociregistry.ErrBlobUploadUnknown)
	}
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	return blob{w.upload.c, w.upload.repo, digest}.descriptor(size), nil
}

func (w *blobWriter) Cancel() error {
	w.interrupt()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended != nil && w.ended != errWriterClosed {
		return nil
	}
	w.end(ociregistry.ErrBlobUploadUnknown)
	if w.ctx.Err() != nil {
		w.upload.cancel(w.ctx)
		return nil
	}
	return w.about.wrap(w.upload.delete(w.ctx))
}
