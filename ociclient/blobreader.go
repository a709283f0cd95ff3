package ociclient

import (
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// blobReader is the reader of a blob. It verifies a blob that is read from its beginning
// to its end.
type blobReader struct {
	about target
	desc  ociregistry.Descriptor
	life  life
	hash  hash.Hash // nil if the content cannot be verified
	sum   [sha512.Size]byte
	n     int64 // how many bytes were hashed
	valid bool  // all of it was hashed, and matches the digest
	err   error

	mu     sync.Mutex // another goroutine may call Close
	src    io.ReadCloser
	closed bool
}

var errClosed = errors.New("the reader is closed")

func (r *blobReader) Descriptor() ociregistry.Descriptor { return r.desc }

func (r *blobReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.readSource(p)
	if r.hash != nil {
		r.hash.Write(p[:n])
		r.n += int64(n)
	}
	if err == io.EOF {
		err = r.verify()
	}
	if r.err = err; err != io.EOF {
		r.err = r.about.wrap(err)
	}
	return n, r.err
}

func (r *blobReader) readSource(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0, errClosed
	}
	n, err := r.src.Read(p)
	if err != nil && err != io.EOF {
		err = r.life.closedOr(err)
	}
	return n, err
}

// verify returns [io.EOF] if the content matches the descriptor, or cannot be verified.
func (r *blobReader) verify() error {
	switch {
	case r.hash == nil:
		return io.EOF
	case r.desc.Size >= 0 && r.n != r.desc.Size:
		return sizeError("the content has %d bytes, not %d", r.n, r.desc.Size)
	case !verified.IsSum(r.desc.Digest, r.hash.Sum(r.sum[:0])):
		return mismatch()
	}
	r.valid = true
	return io.EOF
}

// Verified implements [verified.Reader].
func (r *blobReader) Verified() verified.State {
	if r.hash == nil {
		return verified.State{}
	}
	return verified.State{Digest: r.desc.Digest, Read: r.n, Ended: r.valid}
}

func mismatch() error {
	return ociregistry.NewError("the content does not match the digest", ociregistry.ErrDigestInvalid.Code(), nil)
}

// WriteTo implements [io.WriterTo].
func (r *blobReader) WriteTo(w io.Writer) (int64, error) { return copyBuffered(w, r) }

// Close implements [io.Closer]. It also ends a Read in another goroutine.
func (r *blobReader) Close() error {
	r.life.end()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	r.src.Close() // Read returned any error that matters
	return nil
}

// seekReader is the reader of a whole blob of a registry that supports ranges.
type seekReader struct {
	blobReader
	pos   int64  // of the next Read
	first stream // the first src, in one allocation with the reader
}

// Read implements [io.Reader]. If it needs another request after a Seek, and that fails,
// the state of the reader does not change.
func (r *seekReader) Read(p []byte) (int, error) {
	if r.pos >= r.desc.Size && r.pos != r.stream().offset {
		return 0, io.EOF
	}
	if err := r.move(); err != nil {
		return 0, r.about.wrap(err)
	}
	n, err := r.blobReader.Read(p)
	r.pos += int64(n)
	return n, err
}

// WriteTo implements [io.WriterTo].
func (r *seekReader) WriteTo(w io.Writer) (int64, error) { return copyBuffered(w, r) }

// Verified implements [verified.Reader].
func (r *seekReader) Verified() verified.State {
	if r.pos != r.n {
		return verified.State{}
	}
	return r.blobReader.Verified()
}

func (r *seekReader) stream() *stream { return r.src.(*stream) }

// move makes the source continue at pos.
func (r *seekReader) move() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.pos == r.stream().offset {
		return nil
	}
	s := r.stream()
	s.suspend() // its slot is needed for the next request
	s, err := s.blob.open(s.life, r.pos, r.desc.Size)
	if err != nil {
		return r.life.closedOr(err)
	}
	r.src, r.err, r.n, r.valid, r.hash = s, nil, 0, false, nil
	if r.pos == 0 {
		r.hash = r.desc.Digest.Algorithm().Hash()
	}
	return nil
}

// Seek implements [io.Seeker]. It makes no request.
func (r *seekReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.desc.Size
	case io.SeekStart:
	default:
		return 0, r.about.wrap(fmt.Errorf("invalid whence %d", whence))
	}
	if offset < 0 {
		return 0, r.about.wrap(errors.New("seek before the beginning"))
	}
	r.pos = offset
	return offset, nil
}

var buffers = sync.Pool{New: func() any { return new([128 << 10]byte) }}

// copyBuffered copies from r to w with a pooled buffer. It uses neither WriteTo nor
// ReadFrom.
func copyBuffered(w io.Writer, r io.Reader) (int64, error) {
	buf := buffers.Get().(*[128 << 10]byte)
	defer buffers.Put(buf)
	var written int64
	for {
		n, err := r.Read(buf[:])
		if n > 0 {
			m, err := w.Write(buf[:n])
			written += int64(m)
			if err != nil {
				return written, err
			}
			if m < n {
				return written, io.ErrShortWrite
			}
		}
		if err == io.EOF {
			return written, nil
		}
		if err != nil {
			return written, err
		}
	}
}
