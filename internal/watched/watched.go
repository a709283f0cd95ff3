// Package watched tells what becomes of the readers and writers that a registry returns: how
// many bytes they move, and how they end.
//
// A watched reader or writer can do whatever the one beneath can, and has its guarantees.
package watched

import (
	"io"
	"sync/atomic"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// End is the end of a reader or a writer.
type End struct {
	Method string             // such as "BlobReader.Close"
	Digest ociregistry.Digest // of BlobWriter.Commit
	Bytes  int64              // that were moved
	Err    error              // of the method, or else the first of the reader or writer
}

// transfer counts the bytes of a reader or a writer.
type transfer struct {
	end    func(End)
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

// tell tells an end.
func (t *transfer) tell(e End) {
	e.Bytes = t.bytes.Load()
	if failed := t.failed.Load(); e.Err == nil && failed != nil {
		e.Err = *failed
	}
	t.end(e)
}

// Reader returns a reader that calls end when it is closed for the first time. It implements
// [io.Seeker] and [io.ReaderAt] if rd does. It always implements [io.WriterTo], by [io.Copy]
// if rd does not. It verifies what it reads if rd does.
func Reader(rd ociregistry.BlobReader, end func(End)) ociregistry.BlobReader {
	r := &reader{rd: rd, transfer: transfer{end: end}}
	seeker, canSeek := rd.(io.Seeker)
	at, canReadAt := rd.(io.ReaderAt)
	switch {
	case canSeek && canReadAt:
		return struct {
			*reader
			io.Seeker
			io.ReaderAt
		}{r, seeker, readerAt{at, r}}
	case canSeek:
		return struct {
			*reader
			io.Seeker
		}{r, seeker}
	case canReadAt:
		return struct {
			*reader
			io.ReaderAt
		}{r, readerAt{at, r}}
	}
	return r
}

type reader struct {
	rd ociregistry.BlobReader
	transfer
}

var _ verified.Reader = (*reader)(nil)

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
		r.tell(End{Method: "BlobReader.Close", Err: err})
	}
	return err
}

func (r *reader) Descriptor() ociregistry.Descriptor { return r.rd.Descriptor() }

// Verified implements [verified.Reader].
func (r *reader) Verified() verified.State { return verified.By(r.rd) }

type readerAt struct {
	io.ReaderAt
	r *reader
}

func (at readerAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := at.ReaderAt.ReadAt(p, off)
	at.r.moved(int64(n), err)
	return n, err
}

// Writer returns a writer that calls end for each Commit. It calls end for Close and Cancel,
// too, unless the writer has already ended without an error: these methods do nothing then, so
// that they can be deferred.
func Writer(w ociregistry.BlobWriter, end func(End)) ociregistry.BlobWriter {
	return &writer{w: w, transfer: transfer{end: end}}
}

type writer struct {
	w ociregistry.BlobWriter
	transfer
}

func (w *writer) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.moved(int64(n), err)
	return n, err
}

// ReadFrom implements [io.ReaderFrom], by [io.Copy] if the writer beneath does not.
func (w *writer) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(w.w, r)
	w.moved(n, err)
	return n, err
}

func (w *writer) Size() int64    { return w.w.Size() }
func (w *writer) ChunkSize() int { return w.w.ChunkSize() }
func (w *writer) ID() string     { return w.w.ID() }

func (w *writer) Commit(digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	desc, err := w.w.Commit(digest)
	w.tell(End{Method: "BlobWriter.Commit", Digest: digest, Err: err})
	if err == nil {
		w.ended.Store(true)
	}
	return desc, err
}

func (w *writer) Close() error {
	err := w.w.Close()
	w.endOnce("BlobWriter.Close", err)
	return err
}

func (w *writer) Cancel() error {
	err := w.w.Cancel()
	w.endOnce("BlobWriter.Cancel", err)
	return err
}

func (w *writer) endOnce(method string, err error) {
	if !w.ended.Swap(true) || err != nil {
		w.tell(End{Method: method, Err: err})
	}
}
