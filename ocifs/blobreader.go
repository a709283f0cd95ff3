package ocifs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync/atomic"

	"github.com/seed-40b21970/oci/ociregistry"
)

// blobReader reads the bytes of a file from start to end. It implements
// [io.WriterTo], [io.Seeker] and [io.ReaderAt], whose offsets count from start.
//
// Close and ReadAt may be called while other methods run.
type blobReader struct {
	ctx        context.Context
	file       file
	desc       ociregistry.Descriptor
	start, end int64
	offset     int64 // of the next byte, counted from the file's first
	closed     atomic.Bool
}

// newBlobReader returns a reader of the bytes of f from start up to but not
// including end. It closes f in the end. The context ends reads, but does not
// interrupt one.
func newBlobReader(ctx context.Context, f file, desc ociregistry.Descriptor, start, end int64) ociregistry.BlobReader {
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

// readAt fills p, which ends before r.end.
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

// piece is how many bytes WriteTo hands over at a time. The context is looked at
// in between.
const piece = 4 << 20

// WriteTo gives a w that is an [io.ReaderFrom] the file itself, which the
// system can then send without the bytes passing through here: net/http and net
// know an [io.LimitedReader] of an [os.File].
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
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	return io.CopyBuffer(w, src, buf[:])
}

func (r *blobReader) Seek(offset int64, whence int) (int64, error) {
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
