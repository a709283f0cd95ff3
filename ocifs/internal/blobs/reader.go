package blobs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync/atomic"

	"github.com/seed-40b21970/oci/internal/window"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// blobReader reads the bytes of a file from start to end. It implements
// [io.WriterTo], [io.Seeker] and [io.ReaderAt]; offsets count from start.
//
// Close and ReadAt may be called while other methods run.
type blobReader struct {
	ctx        context.Context
	file       disk.File
	desc       ociregistry.Descriptor
	start, end int64
	offset     int64 // of the next byte in the file
	closed     atomic.Bool
}

// NewReader returns a reader of the bytes of f from start up to but not including
// end. Closing the reader closes f. When the context ends, further reads fail; a read
// in progress is not interrupted.
func NewReader(ctx context.Context, f disk.File, desc ociregistry.Descriptor, start, end int64) ociregistry.BlobReader {
	return &blobReader{ctx: ctx, file: f, desc: desc, start: start, end: end, offset: start}
}

func (r *blobReader) Descriptor() ociregistry.Descriptor { return r.desc }

func (r *blobReader) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	return r.file.Close()
}

func (r *blobReader) check() error {
	if r.closed.Load() {
		return fs.ErrClosed
	}
	return r.ctx.Err()
}

func (r *blobReader) Read(p []byte) (int, error) {
	if err := r.check(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if r.offset >= r.end {
		return 0, io.EOF
	}
	n, err := r.readAt(p[:min(int64(len(p)), r.end-r.offset)], r.offset)
	r.offset += int64(n)
	return n, err
}

func (r *blobReader) ReadAt(p []byte, off int64) (int, error) {
	if err := r.check(); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, errors.New("ReadAt: negative offset")
	}
	left := max(r.end-r.start-off, 0)
	if int64(len(p)) <= left {
		return r.readAt(p, r.start+off)
	}
	n, err := r.readAt(p[:left], r.start+off)
	if err == nil {
		err = io.EOF
	}
	return n, err
}

// readAt fills p from the file. The bytes end before r.end.
func (r *blobReader) readAt(p []byte, offset int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := r.file.ReadAt(p, offset)
	if n == len(p) {
		err = nil
	} else if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// piece is the number of bytes that WriteTo passes on at a time. It checks the
// context in between.
const piece = 4 << 20

// WriteTo passes the file itself to a w that is an [io.ReaderFrom]. The system can
// then send the file without copying the bytes through this process: net/http and net
// recognize an [io.LimitedReader] of an [os.File].
func (r *blobReader) WriteTo(w io.Writer) (written int64, err error) {
	if err := r.check(); err != nil {
		return 0, err
	}
	copyPiece := copyBuffered
	if rf, ok := w.(io.ReaderFrom); ok {
		copyPiece = func(_ io.Writer, src *io.LimitedReader) (int64, error) { return rf.ReadFrom(src) }
	}
	if r.offset >= r.end {
		return 0, nil
	}
	if _, err := r.file.Seek(r.offset, io.SeekStart); err != nil {
		return 0, err
	}
	for r.offset < r.end {
		if err := r.check(); err != nil {
			return written, err
		}
		size := min(piece, r.end-r.offset)
		n, err := copyPiece(w, &io.LimitedReader{R: r.file, N: size})
		written += n
		r.offset += n
		if err == nil && n < size {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

func copyBuffered(w io.Writer, src *io.LimitedReader) (int64, error) {
	buf := GetBuffer()
	defer PutBuffer(buf)
	return io.CopyBuffer(w, src, buf[:])
}

func (r *blobReader) Seek(offset int64, whence int) (int64, error) {
	if err := r.check(); err != nil {
		return 0, err
	}
	at, err := window.Seek(r.offset-r.start, r.end-r.start, offset, whence)
	if err == nil {
		r.offset = r.start + at
	}
	return at, err
}
