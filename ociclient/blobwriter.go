package ociclient

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync"

	"github.com/seed-40b21970/oci/ociregistry"
)

// blobWriter is a writer of an upload session. What is written to it is kept until
// it is a chunk.
type blobWriter struct {
	about     subject
	ctx       context.Context // the caller's
	chunkSize int64

	// interrupt ends what is under way when the writer is cancelled, whoever
	// holds the lock.
	sending   context.Context
	interrupt context.CancelFunc

	mu     sync.Mutex
	upload *upload
	chunk  chunk
	ended  error // what Write and Commit return; nil while the writer is open
	failed error // what a Write failed with: what was to follow it cannot

	// What comes after a full chunk is kept until it is as much as the registry
	// wants chunks to have: if no more comes, it is sent with that one. So a
	// proxy never makes of a chunk that is large enough one that is not.
	tail  chunk
	least int64
}

var errWriterClosed = errors.New("the upload's writer is closed")

func (c *client) newBlobWriter(ctx context.Context, about subject, u *upload, chunkSize int) *blobWriter {
	w := &blobWriter{about: about, ctx: ctx, upload: u, chunkSize: c.chunkSize(chunkSize, u.minChunk)}
	w.sending, w.interrupt = context.WithCancel(ctx)
	w.least = min(max(u.minChunk, 0), w.chunkSize)
	w.chunk.off = u.at
	u.shared = true
	return w
}

// chunkSize returns the size of chunks, when a caller has asked for one and the
// registry for at least another.
func (c *client) chunkSize(asked int, least int64) int64 {
	if asked <= 0 {
		asked = c.opts.ChunkSize
	}
	return min(max(int64(asked), least), int64(c.opts.MaxChunkSize))
}

func (w *blobWriter) Write(p []byte) (written int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
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

// flush sends the chunk, and makes what comes after it the next. If that fails,
// all that was not sent is gone.
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
	w.chunk.take(&w.tail)
	return nil
}

// join puts what comes after the chunk into it.
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

// Close sends what is left. If that fails, or a Write has, Size tells how much the
// session has.
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

// end ends the writer, and frees what it holds.
func (w *blobWriter) end(why error) {
	w.ended = why
	w.chunk.reset(w.upload.at)
	w.tail.reset(0)
	w.interrupt()
}

// Commit implements [ociregistry.BlobWriter.Commit]. If it fails for another reason
// than that the session has ended, it can be called again.
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
