package ocifilter

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
)

// reservingWriter reserves room for all bytes of its session, from the first Write or Commit
// until it is closed. What does not fit ends the session.
type reservingWriter struct {
	ociregistry.BlobWriter
	ctx  context.Context
	q    *quota
	repo string
	v    *reservation

	mu     sync.Mutex // for Close and Cancel from another goroutine
	began  bool       // there is room for what the session had
	closed bool
	denied error
}

// begin reserves room for what the session has, and n bytes more.
func (w *reservingWriter) begin(n int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.denied != nil:
		return w.denied
	case w.closed:
		return nil // the session says what is wrong
	case !w.began:
		n += w.Size()
	}
	if err := w.v.grow(w.ctx, n); err != nil {
		return err
	}
	w.began = true
	return nil
}

// fail returns the error of a call for which there is no room. It ends the session, unless
// that is because of the context.
func (w *reservingWriter) fail(op, ref string, err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.denied == nil {
		err = call.New(op, w.repo, ref).Wrap(err)
		if !errors.Is(err, ociregistry.ErrDenied) {
			return err
		}
		w.denied = err
		w.BlobWriter.Cancel()
		w.v.release()
	}
	return w.denied
}

// end gives back the room. If the session goes on, it is reserved again.
func (w *reservingWriter) end(closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began, w.closed = false, w.closed || closed
	w.v.release()
}

func (w *reservingWriter) Write(p []byte) (int, error) {
	if err := w.begin(int64(len(p))); err != nil {
		return 0, w.fail("Write", w.ID(), err)
	}
	n, err := w.BlobWriter.Write(p)
	if err != nil {
		w.end(false)
	}
	return n, err
}

// ReadFrom implements [io.ReaderFrom], by that of the session's writer if it has one.
func (w *reservingWriter) ReadFrom(r io.Reader) (int64, error) {
	from, ok := w.BlobWriter.(io.ReaderFrom)
	if !ok {
		return io.Copy(struct{ io.Writer }{w}, r)
	}
	if err := w.begin(0); err != nil {
		return 0, w.fail("Write", w.ID(), err)
	}
	reserving := &reservingReader{ctx: w.ctx, r: r, v: w.v}
	n, err := from.ReadFrom(reserving)
	switch {
	case reserving.failed != nil:
		return n, w.fail("Write", w.ID(), reserving.failed)
	case err != nil:
		w.end(false)
	}
	return n, err
}

func (w *reservingWriter) Commit(digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	if err := w.begin(0); err != nil && !w.q.hasBlob(w.ctx, w.repo, digest) {
		return ociregistry.Descriptor{}, w.fail("Commit", string(digest), err)
	}
	w.v.finish()
	defer w.end(false)
	return w.BlobWriter.Commit(digest)
}

func (w *reservingWriter) Close() error {
	defer w.end(true)
	return w.BlobWriter.Close()
}

func (w *reservingWriter) Cancel() error {
	defer w.end(true)
	return w.BlobWriter.Cancel()
}
