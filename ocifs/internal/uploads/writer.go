package uploads

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"

	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// writer is a writer at a position of an upload session.
type writer struct {
	ctx       context.Context
	uploads   *Sessions
	repo      string
	id        string
	chunkSize int

	mu      sync.Mutex // Close and Cancel may be called from another goroutine
	session *session   // nil when the writer is closed or done
	at      position
	failed  error // the error of a failed Write, which no other can follow
	done    bool  // committed or cancelled
}

func (u *Sessions) newWriter(ctx context.Context, repo string, s *session, at position, chunkSize int) *writer {
	if chunkSize <= 0 {
		chunkSize = defaultChunkSize
	}
	return &writer{ctx: ctx, uploads: u, repo: repo, id: s.id, chunkSize: chunkSize, session: s, at: at}
}

func (w *writer) ID() string     { return w.id }
func (w *writer) ChunkSize() int { return w.chunkSize }

func (w *writer) Size() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at.offset
}

func (w *writer) Write(p []byte) (int, error) {
	err := w.ctx.Err()
	if err == nil {
		err = w.append(p)
	}
	if err != nil {
		return 0, w.wrap(err, "Write", w.id)
	}
	return len(p), nil
}

// ReadFrom implements [io.ReaderFrom]. When the context ends, it stops reading, but
// keeps the bytes that it has read.
func (w *writer) ReadFrom(r io.Reader) (int64, error) {
	n, err := blobs.ReadPieces(w.ctx, r, blobs.NoLimit, w.append)
	if err != nil {
		err = w.wrap(err, "Write", w.id)
	}
	return n, err
}

func (w *writer) append(p []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.usable(); err != nil {
		return err
	}
	if err := w.session.append(w.ctx, w.repo, &w.at, p); err != nil {
		if w.ctx.Err() == nil {
			w.failed = err
		}
		return err
	}
	return nil
}

// usable checks that the writer can write or commit.
func (w *writer) usable() error {
	switch {
	case w.done:
		return ociregistry.ErrBlobUploadUnknown
	case w.session == nil:
		return fs.ErrClosed
	}
	return w.failed
}

// Commit implements [ociregistry.BlobWriter.Commit]. If the content matches the
// digest but cannot be stored, for example because the disk is full, the session
// stays. Commit can then be called again, by another writer too, but nothing more can
// be written. There is one exception: if the system failed to make the content
// durable, the session ends, since no later success could be trusted.
func (w *writer) Commit(d ociregistry.Digest) (ociregistry.Descriptor, error) {
	size, err := w.commit(d)
	if err != nil {
		return ociregistry.Descriptor{}, w.wrap(err, "Commit", string(d))
	}
	return ociregistry.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: size}, nil
}

func (w *writer) commit(d ociregistry.Digest) (size int64, err error) {
	if !ociref.IsValidDigest(string(d)) {
		return 0, ociregistry.NewError("badly formed digest", ociregistry.ErrDigestInvalid.Code(), nil)
	}
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.usable(); err != nil {
		return 0, err
	}
	ended, err := w.session.commit(w.ctx, w.repo, w.at, d)
	if ended {
		w.finish()
	}
	return w.at.offset, err
}

func (w *writer) Cancel() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return nil
	}
	if w.session == nil { // closed
		w.session = w.uploads.acquire(w.id)
	}
	err := w.session.cancel(w.ctx, w.repo)
	if err != nil && !errors.Is(err, ociregistry.ErrBlobUploadUnknown) {
		return w.wrap(err, "Cancel", w.id)
	}
	w.finish()
	return nil
}

// Close implements [ociregistry.BlobWriter.Close]. After an error, bytes that were
// written since the session got files, or since it began, may be missing.
func (w *writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session == nil {
		return nil
	}
	if err := w.session.persist(context.WithoutCancel(w.ctx), w.at); err != nil {
		w.detach()
		return w.wrap(err, "Close", w.id)
	}
	w.uploads.pause(w.session)
	w.session = nil
	return nil
}

func (w *writer) finish() {
	w.done = true
	w.detach()
}

func (w *writer) detach() {
	if w.session != nil {
		w.uploads.release(w.session)
		w.session = nil
	}
}

func (w *writer) wrap(err error, op, ref string) error {
	return &ociregistry.OpError{Op: op, Repository: w.repo, Ref: ref, Err: err}
}
