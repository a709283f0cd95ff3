package ocifs

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Verified returns a view of the registry in which no content ends well that is
// not that of its digest. It is for registries whose files may be damaged without
// anybody noticing, by a disk or by other programs.
//
// Each read of a blob compares the size of its file with what is known of the
// digest. The first time that all of a file is read it is hashed meanwhile, and its
// last byte is held back until the digest is right; else the reader's error is an
// [ociregistry.ErrDigestInvalid]. From then on the file is read as in the registry
// itself, until it changes: it is known by its inode, size and modification time.
// Ranges are compared by size alone until then. A reader from GetBlob that is made
// to skip bytes hashes them before it hands out the last.
//
// What was found to be damaged answers [ociregistry.ErrBlobUnknown] or
// [ociregistry.ErrManifestUnknown], also in the registry itself. A push replaces it.
// What was found out is kept in memory, for some 16,000 digests.
func (r *Registry) Verified() ociregistry.Interface { return verifiedView{r} }

var _ verified.Registry = (*Registry)(nil)

// verifiedView differs from the registry in how it reads blobs. Manifests are
// compared with their digests whenever they come from a file.
type verifiedView struct{ *Registry }

func (v verifiedView) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	b, err := v.openBlob(ctx, repo, digest)
	if err != nil {
		return nil, opError(err, "GetBlob", repo, string(digest))
	}
	return v.readVerified(ctx, &b, 0, b.size), nil
}

func (v verifiedView) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	b, offset1, err := v.openRange(ctx, repo, digest, offset0, offset1)
	if err != nil {
		return nil, opError(err, "GetBlobRange", repo, string(digest))
	}
	return v.readVerified(ctx, &b, offset0, offset1), nil
}

// readVerified returns a reader of a blob's bytes from start to end, which verifies
// them if these are all, and were not verified yet.
func (r *Registry) readVerified(ctx context.Context, b *blob, start, end int64) ociregistry.BlobReader {
	if b.file == nil || b.size == 0 || end-start < b.size || r.store.verdicts.isSound(b.digest, b.info) {
		return b.reader(ctx, start, end)
	}
	return newVerifyingReader(ctx, r.store, b, blobDescriptor(b.digest, b.size))
}

// verifyingReader reads a whole blob whose file was not verified yet. It hashes
// the bytes as they go through, and withholds the last of them until all are known
// to be right; then it is as any other blobReader.
//
// Whoever does not read from the beginning to the end waits before the last byte,
// until the rest was hashed, too.
type verifyingReader struct {
	blobReader
	store  *store
	info   fs.FileInfo
	opened time.Time // when the file was as info says

	sound atomic.Bool // all bytes are right

	mu     sync.Mutex // for ReadAt beside other methods
	hash   hash.Hash
	hashed int64 // how many bytes of the file, from its first on
	err    error // what was found out, if they are not right
}

func newVerifyingReader(ctx context.Context, s *store, b *blob, desc ociregistry.Descriptor) *verifyingReader {
	return &verifyingReader{
		blobReader: blobReader{ctx: ctx, file: b.file, desc: desc, end: b.size},
		store:      s,
		info:       b.info,
		opened:     time.Now(),
		hash:       b.digest.Algorithm().Hash(),
	}
}

func (r *verifyingReader) Read(p []byte) (int, error) {
	if r.sound.Load() {
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
	if r.sound.Load() {
		return r.blobReader.WriteTo(w)
	}
	left := r.end - r.offset
	_, err = readBuffers(r.ctx, io.NewSectionReader(r.file, r.offset, left), left, func(p []byte) error {
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

// pass is called with bytes of the file, from off on, before they are handed out.
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

// finish hashes what was not hashed yet, and returns an error unless all bytes are
// right.
func (r *verifyingReader) finish() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sound.Load() || r.err != nil {
		return r.err
	}
	if err := r.check(); err != nil {
		return err
	}
	left := r.end - r.hashed
	n, err := readBuffers(r.ctx, io.NewSectionReader(r.file, r.hashed, left), left, func(p []byte) error {
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
	r.sound.Store(right)
	if !right {
		r.store.log.Warn("a blob is damaged", "digest", r.desc.Digest)
		r.err = fmt.Errorf("%w: the file of blob %s is damaged", ociregistry.ErrDigestInvalid, r.desc.Digest)
	}
	return r.err
}

// verify reads the file of a blob. If it has other bytes than its name stands for,
// the error is ErrDamaged.
func (s *store) verify(ctx context.Context, dir string, d ociregistry.Digest) error {
	f, info, err := s.openNamed(blobPath(dir, d), d, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.verifyFile(ctx, f, info, d)
}

func (s *store) verifyFile(ctx context.Context, f file, info fs.FileInfo, d ociregistry.Digest) error {
	at := time.Now()
	h := d.Algorithm().Hash()
	if err := hashFile(ctx, h, f, info.Size()); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return ErrDamaged
		}
		return err
	}
	right := hasSum(h, d)
	s.verdicts.note(d, info, at, right)
	if !right {
		return ErrDamaged
	}
	return nil
}

// soundSize returns the size of a blob whose file has the bytes that its name says.
// For any other, the error is [fs.ErrNotExist]. It reads the file unless that is
// known.
func (s *store) soundSize(ctx context.Context, dir string, d ociregistry.Digest) (int64, error) {
	f, info, err := s.openNamed(blobPath(dir, d), d, os.O_RDONLY)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if !s.verdicts.isSound(d, info) {
		err = s.verifyFile(ctx, f, info, d)
	}
	if errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	}
	return info.Size(), err
}
