package blobs

import (
	"context"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// verifyingReader reads a whole blob whose file was not verified yet. It hashes the
// bytes as they pass, and withholds the last of them until all are known to match the
// digest. After that it behaves like any other blobReader.
//
// If the file is not read in order, the read of the last byte waits until the rest is
// hashed, too.
type verifyingReader struct {
	blobReader
	store  *Store
	info   fs.FileInfo
	opened time.Time // when info was obtained

	intact atomic.Bool // all bytes are verified

	mu     sync.Mutex // ReadAt may be called while other methods run
	hash   hash.Hash
	hashed int64 // the number of bytes that are hashed, from the first on
	err    error // the result, if the bytes do not match
}

// NewVerifyingReader returns a reader of a whole blob that verifies the bytes, unless
// the file is known to be intact. Closing the reader closes f. When the context ends,
// further reads fail; a read in progress is not interrupted.
//
// For a damaged file, the reader's error is an [ociregistry.ErrDigestInvalid].
func (s *Store) NewVerifyingReader(ctx context.Context, f disk.File, info fs.FileInfo, desc ociregistry.Descriptor) ociregistry.BlobReader {
	if s.verdicts.isIntact(desc.Digest, info) {
		return NewReader(ctx, f, desc, 0, desc.Size)
	}
	return &verifyingReader{
		blobReader: blobReader{ctx: ctx, file: f, desc: desc, end: desc.Size},
		store:      s,
		info:       info,
		opened:     time.Now(),
		hash:       desc.Digest.Algorithm().Hash(),
	}
}

func (r *verifyingReader) Read(p []byte) (int, error) {
	if r.intact.Load() {
		return r.blobReader.Read(p)
	}
	from := r.offset
	n, err := r.blobReader.Read(p)
	if passErr := r.pass(p[:n], from); passErr != nil {
		r.offset = from
		return 0, passErr
	}
	return n, err
}

func (r *verifyingReader) ReadAt(p []byte, off int64) (int, error) {
	if off >= 0 && off < r.end && int64(len(p)) >= r.end-off {
		if err := r.finish(); err != nil {
			return 0, err
		}
	}
	return r.blobReader.ReadAt(p, off)
}

func (r *verifyingReader) WriteTo(w io.Writer) (written int64, err error) {
	r.mu.Lock()
	gap := r.offset > r.hashed
	r.mu.Unlock()
	if gap {
		if err := r.finish(); err != nil {
			return 0, err
		}
	}
	if r.intact.Load() {
		return r.blobReader.WriteTo(w)
	}
	left := r.end - r.offset
	_, err = ReadPieces(r.ctx, io.NewSectionReader(r.file, r.offset, left), left, func(p []byte) error {
		if err := r.check(); err != nil {
			return err
		}
		if err := r.pass(p, r.offset); err != nil {
			return err
		}
		n, err := w.Write(p)
		written += int64(n)
		r.offset += int64(n)
		if err == nil && n < len(p) {
			err = io.ErrShortWrite
		}
		return err
	})
	if err == nil && written < left {
		err = io.ErrUnexpectedEOF
	}
	return written, err
}

// pass receives bytes of the file, from off on, before they are returned to the
// caller.
func (r *verifyingReader) pass(p []byte, off int64) error {
	r.mu.Lock()
	if end := off + int64(len(p)); off <= r.hashed && r.hashed < end {
		r.hash.Write(p[r.hashed-off:])
		r.hashed = end
	}
	r.mu.Unlock()
	if len(p) == 0 || off+int64(len(p)) < r.end {
		return nil
	}
	return r.finish()
}

// finish hashes the remaining bytes, and returns an error unless all bytes match the
// digest.
func (r *verifyingReader) finish() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.intact.Load() || r.err != nil {
		return r.err
	}
	if err := r.check(); err != nil {
		return err
	}
	left := r.end - r.hashed
	n, err := ReadPieces(r.ctx, io.NewSectionReader(r.file, r.hashed, left), left, func(p []byte) error {
		r.hash.Write(p)
		return nil
	})
	r.hashed += n
	switch {
	case err != nil:
		return err
	case n < left:
		return io.ErrUnexpectedEOF
	}
	right := hasSum(r.hash, r.desc.Digest)
	r.store.verdicts.note(r.desc.Digest, r.info, r.opened, right)
	r.intact.Store(right)
	if !right {
		r.store.log.Warn("a blob is damaged", "digest", r.desc.Digest)
		r.err = fmt.Errorf("%w: the file of blob %s is damaged", ociregistry.ErrDigestInvalid, r.desc.Digest)
	}
	return r.err
}
