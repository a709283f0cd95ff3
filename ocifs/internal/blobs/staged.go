package blobs

import (
	"context"
	"crypto/sha512"
	"hash"
	"io"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Staged is content that is not a blob yet: a file in the directory of the workspace,
// and the hash of its bytes, which are hashed as they are written. A Staged must not
// be used by several goroutines at once.
type Staged struct {
	store *Store
	file  disk.File // nil after close
	name  string
	alg   digest.Algorithm
	hash  hash.Hash // of all bytes, by alg
	size  int64
	begun int64 // the number of bytes that are on their way to the disk

	share Share // of the quota; Discard frees it

	// pinned is the digest of content whose file is the pool's, and empty otherwise.
	pinned ociregistry.Digest

	// durable reports whether the bytes are durable. If a sync has failed, broken is
	// set: the system may have lost bytes that it still shows, so the content must be
	// written anew.
	durable, broken bool
}

// Stage returns new, empty content that is hashed by alg as it arrives.
//
// Errors: [disk.ErrClosed], and those of the system.
func (s *Store) Stage(alg digest.Algorithm) (*Staged, error) {
	f, name, err := s.work.Create()
	if err != nil {
		return nil, err
	}
	return &Staged{store: s, file: f, name: name, alg: alg, hash: alg.Hash(), share: s.quota.NewShare(0)}, nil
}

// Adopt returns content in a file that the store has not staged: the first size bytes
// of f. Their hash by alg is h, and reserved bytes of the quota are reserved for
// them. f may be nil if the content is only to be discarded.
func (s *Store) Adopt(f disk.File, name string, alg digest.Algorithm, h hash.Hash, size, reserved int64) *Staged {
	return &Staged{store: s, file: f, name: name, alg: alg, hash: h, size: size, share: s.quota.NewShare(reserved)}
}

// Size returns the size of the content in bytes.
func (st *Staged) Size() int64 { return st.size }

// Hash returns the hash of all bytes. The caller must not modify it.
func (st *Staged) Hash() hash.Hash { return st.hash }

// IsBroken reports whether the content could not be made durable. It is of no further
// use.
func (st *Staged) IsBroken() bool { return st.broken }

// Reserved returns the number of bytes of the quota that are reserved for the
// content.
func (st *Staged) Reserved() int64 { return st.share.Size() }

// HandOver transfers the reserved bytes to a blob: Discard does not release them.
func (st *Staged) HandOver() { st.share.HandOver() }

// Rename gives the file another name.
func (st *Staged) Rename(name string) error {
	if err := st.store.work.FS.Rename(st.name, name); err != nil {
		return err
	}
	st.name = name
	return nil
}

// Trim truncates the file to the content. If the file is shorter, the error is
// [io.ErrUnexpectedEOF].
func (st *Staged) Trim() error { return disk.Trim(st.file, st.size) }

// Write reserves bytes for p and appends it.
func (st *Staged) Write(p []byte) (int, error) {
	if err := st.Reserve(int64(len(p))); err != nil {
		return 0, err
	}
	if err := st.Append(p); err != nil {
		st.Release(int64(len(p)))
		return 0, err
	}
	return len(p), nil
}

// Append appends all of p, or nothing. It does not reserve bytes.
func (st *Staged) Append(p []byte) error {
	if _, err := st.file.WriteAt(p, st.size); err != nil {
		return err
	}
	st.hash.Write(p)
	st.size += int64(len(p))
	st.durable = false
	st.begun = st.store.work.StartSync(st.file, st.begun, st.size)
	return nil
}

// Reserve reserves n bytes of the quota for the content.
//
// Errors: [ociregistry.ErrDenied].
func (st *Staged) Reserve(n int64) error { return st.share.Reserve(n) }

// Release releases n of the reserved bytes.
func (st *Staged) Release(n int64) { st.share.Release(n) }

// ReadFrom appends up to most bytes from r, or all until r ends, and returns the
// number of bytes appended. It does not read more than most bytes. If r fails, the
// bytes before the error are kept. It stops reading when the context ends.
func (st *Staged) ReadFrom(ctx context.Context, r io.Reader, most int64) (int64, error) {
	return ReadPieces(ctx, r, most, func(p []byte) error {
		_, err := st.Write(p)
		return err
	})
}

// ReadAt reads content that is not closed.
func (st *Staged) ReadAt(p []byte, off int64) (int, error) { return st.file.ReadAt(p, off) }

// Is reports whether a well-formed digest is that of the content. If the content was
// hashed by another algorithm, Is reads it again.
func (st *Staged) Is(ctx context.Context, d ociregistry.Digest) (bool, error) {
	h := st.hash
	if d.Algorithm() != st.alg {
		if err := st.reopen(); err != nil {
			return false, err
		}
		h = d.Algorithm().Hash()
		err := HashFile(ctx, h, st.file, st.size)
		if err != nil {
			return false, err
		}
	}
	return hasSum(h, d), nil
}

// reopen opens the file for reading if a Put that failed has closed it.
func (st *Staged) reopen() (err error) {
	if st.file == nil {
		st.file, err = st.store.work.FS.OpenFile(st.name, os.O_RDONLY, 0)
	}
	return err
}

// hasSum reports whether the sum of h is that of d, which has the same algorithm.
func hasSum(h hash.Hash, d ociregistry.Digest) bool {
	var sum [sha512.Size]byte
	return verified.IsSum(d, h.Sum(sum[:0]))
}

// HashFile adds the first size bytes of f to h. If f is shorter, the error is
// [io.ErrUnexpectedEOF].
func HashFile(ctx context.Context, h hash.Hash, f io.ReaderAt, size int64) error {
	n, err := ReadPieces(ctx, io.NewSectionReader(f, 0, size), size, func(p []byte) error {
		h.Write(p)
		return nil
	})
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// syncAndClose makes the content durable and closes the file.
func (st *Staged) syncAndClose() error {
	if st.broken {
		return ErrBroken
	}
	if !st.durable {
		if err := st.store.work.SyncFile(st.file, st.size); err != nil {
			st.broken = true
			return err
		}
		st.durable = true
	}
	return st.Close()
}

// Close closes the file. Closing it again does nothing.
func (st *Staged) Close() error {
	if st.file == nil {
		return nil
	}
	err := st.file.Close()
	st.file = nil
	return err
}

// Discard removes the file and releases the reserved bytes. If the content has become
// a blob, the blob is not affected. Discarding again does nothing.
func (st *Staged) Discard() {
	st.Close()
	if st.name != "" {
		st.store.work.FS.Remove(st.name)
		st.name = ""
	}
	st.share.Free()
	if st.pinned != "" {
		st.store.DropUnused(st.pinned) // the pin kept others from doing it
	}
}
