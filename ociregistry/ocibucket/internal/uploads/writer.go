package uploads

import (
	"context"
	"errors"
	"io/fs"
	"sync"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
)

// A Writer is a position in a session. It implements ociregistry.BlobWriter.
type Writer struct {
	ctx       context.Context // of the call that returned it, which bounds its life
	session   *session
	repo      string
	chunkSize int

	mu     sync.Mutex // for Close and Cancel by another goroutine
	at     position
	asItIs bool  // it is at the end of the session, and nobody has asked where that is
	failed error // of a Write; nothing can follow it
	closed bool
	done   bool // committed or cancelled
}

var _ ociregistry.BlobWriter = (*Writer)(nil)

func newWriter(ctx context.Context, s *session, repo string, chunkSize int, offset int64) *Writer {
	if chunkSize <= 0 {
		chunkSize = defaultChunkSize
	}
	return &Writer{ctx: ctx, session: s, repo: repo, chunkSize: chunkSize, at: position{offset: offset}}
}

// defaultChunkSize is the recommended number of bytes to send at a time.
const defaultChunkSize = 1 << 20

// ID returns the ID of the session.
func (w *Writer) ID() string { return w.session.id }

// ChunkSize returns the recommended number of bytes to send at a time.
func (w *Writer) ChunkSize() int { return w.chunkSize }

// Size returns the writer's position.
func (w *Writer) Size() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.locate() // after an error, the session tells what is wrong
	return w.at.offset
}

// locate finds out where the writer is.
func (w *Writer) locate() error {
	if !w.asItIs || w.usable() != nil {
		return nil
	}
	size, err := w.session.resume(w.ctx, w.repo, -1)
	if err == nil {
		w.at.offset, w.asItIs = size, false
	}
	return err
}

func (w *Writer) wrap(err error, op, ref string) error { return call.New(op, w.repo, ref).Wrap(err) }

// usable checks that the writer can write or commit.
func (w *Writer) usable() error {
	switch {
	case w.done:
		return ociregistry.ErrBlobUploadUnknown
	case w.closed:
		return fs.ErrClosed
	}
	return w.failed
}

// Write appends to the session. The bytes are kept when the writer is closed, at the latest.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.ctx.Err()
	if err == nil {
		err = w.usable()
	}
	if err == nil {
		err = w.locate()
	}
	if err != nil {
		return 0, w.wrap(err, "Write", w.session.id)
	}
	n, err := w.session.append(w.ctx, &w.at, p)
	w.failed = err
	return n, w.wrap(err, "Write", w.session.id)
}

// withTurn calls f, which goes on after the end of the writer's context, when it is the writer's turn.
func (w *Writer) withTurn(ctx context.Context, f func(context.Context) error) error {
	if err := w.session.acquire(ctx); err != nil {
		return err
	}
	return w.session.detached(ctx, f)
}

// Commit makes the content of the session a blob.
func (w *Writer) Commit(digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	size, err := w.commit(digest)
	if err != nil {
		return ociregistry.Descriptor{}, w.wrap(err, "Commit", string(digest))
	}
	return ociregistry.Descriptor{MediaType: "application/octet-stream", Digest: digest, Size: size}, nil
}

func (w *Writer) commit(digest ociregistry.Digest) (size int64, err error) {
	if err := ociregistry.CheckDigest(digest); err != nil {
		return 0, err
	}
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	if err := w.usable(); err != nil {
		return 0, err
	}
	at, asItIs := w.at, w.asItIs
	var committed int64
	err = w.withTurn(w.ctx, func(ctx context.Context) (err error) {
		if asItIs {
			committed, err = w.session.commitAsItIs(ctx, digest)
			return err
		}
		if err := w.session.at(ctx, at); err != nil {
			return err
		}
		committed = at.offset
		return w.session.commit(ctx, digest)
	})
	if err == nil || errors.Is(err, ociregistry.ErrDigestInvalid) || errors.Is(err, ociregistry.ErrBlobUploadUnknown) {
		w.end()
	}
	if err != nil {
		return 0, err
	}
	return committed, nil
}

// end notes that the session has ended for the writer.
func (w *Writer) end() {
	w.session.sessions.open.end(w.session.id)
	if !w.done && !w.closed {
		w.session.release()
	}
	w.done = true
}

// Cancel ends the session.
func (w *Writer) Cancel() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return nil
	}
	ctx := context.WithoutCancel(w.ctx)
	err := w.withTurn(ctx, w.session.end)
	w.end()
	return w.wrap(err, "Cancel", w.session.id)
}

// Close keeps what was written. It does so also when the writer's context has ended.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.done {
		return nil
	}
	w.closed = true
	defer w.session.release()
	if !w.at.wrote {
		return nil
	}
	at := w.at
	err := w.withTurn(context.WithoutCancel(w.ctx), func(ctx context.Context) error { return w.session.save(ctx, at) })
	return w.wrap(err, "Close", w.session.id)
}
