package blobs

import (
	"context"
	"errors"
	"io"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Receive reads the content of d and returns it, checked and ready for Put. It must
// have size bytes, unless size is negative.
//
// If the pool has content of that size, Receive compares the two as the bytes arrive,
// and writes nothing as long as they are equal.
//
// Errors: [ociregistry.ErrSizeInvalid], [ociregistry.ErrDigestInvalid], and those of
// r, of the quota and of the system.
func (s *Store) Receive(ctx context.Context, r io.Reader, d ociregistry.Digest, size int64) (*Staged, error) {
	a, err := s.arrive(d, size)
	if err != nil {
		return nil, err
	}
	a.hash = verified.Hash(r, d)
	if err := a.receive(ctx, r, d, size); err != nil {
		a.Discard()
		return nil, err
	}
	return a.Staged, nil
}

// arrival is content that is being received. As long as it equals the pool's content,
// Staged is another name of the pool's file, of which the first Staged.size bytes
// have arrived.
type arrival struct {
	*Staged
	known *comparison // with the pool's file; nil if it is not compared
}

func (s *Store) arrive(d ociregistry.Digest, size int64) (*arrival, error) {
	if st := s.pin(d, size); st != nil {
		return &arrival{st, &comparison{old: st.file}}, nil
	}
	st, err := s.Stage(d.Algorithm())
	return &arrival{Staged: st}, err
}

// pin gives the pool's file a name in the staging directory, so that it stays. It
// returns nil if there is no such file of that size.
func (s *Store) pin(d ociregistry.Digest, size int64) *Staged {
	info, err := s.work.FS.Lstat(s.poolPath(d))
	if err != nil || info.Size() != size {
		return nil
	}
	name, err := s.work.NewName()
	if err != nil || s.work.FS.Link(s.poolPath(d), name) != nil {
		return nil
	}
	f, now, err := s.openBlob(name, d, disk.ForSync)
	if err != nil {
		s.work.FS.Remove(name)
		return nil
	}
	st := &Staged{store: s, file: f, name: name, alg: d.Algorithm(), hash: d.Algorithm().Hash(), pinned: d}
	if now != size {
		st.Discard()
		return nil
	}
	return st
}

func (a *arrival) receive(ctx context.Context, r io.Reader, d ociregistry.Digest, size int64) error {
	most := size
	if size < 0 {
		most = NoLimit
	}
	n, err := ReadPieces(ctx, r, most, func(p []byte) error { return a.add(ctx, p) })
	if err != nil {
		return err
	}
	if n == size {
		var next [1]byte
		m, err := io.ReadFull(r, next[:])
		if err != nil && err != io.EOF {
			return err
		}
		n += int64(m)
	}
	if size >= 0 && n != size {
		return ociregistry.ErrSizeInvalid
	}
	ok, err := a.Is(ctx, d)
	if err == nil && !ok {
		err = ociregistry.ErrDigestInvalid
	}
	return err
}

func (a *arrival) add(ctx context.Context, p []byte) error {
	if a.known != nil {
		if a.known.compare(p) == nil {
			a.hash.Write(p)
			a.size += int64(len(p))
			return nil
		}
		if err := a.diverge(ctx); err != nil {
			return err
		}
	}
	_, err := a.Write(p)
	return err
}

// diverge continues in a new file, which begins with a copy of the bytes that were
// equal.
func (a *arrival) diverge(ctx context.Context) error {
	known := a.Staged
	st, err := known.store.Stage(known.alg)
	if err != nil {
		return err
	}
	defer known.Discard()
	a.Staged, a.known = st, nil
	n, err := st.ReadFrom(ctx, io.NewSectionReader(known.file, 0, known.size), known.size)
	if err == nil && n < known.size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// comparison compares content with a file, piece by piece.
type comparison struct {
	old    io.ReaderAt
	offset int64 // the bytes before it are equal
}

var errDiffers = errors.New("content differs")

// compare returns errDiffers if p is not what follows in the file.
func (c *comparison) compare(p []byte) error {
	buf := GetBuffer()
	defer PutBuffer(buf)
	n, _ := c.old.ReadAt(buf[:len(p)], c.offset)
	if string(buf[:n]) != string(p) {
		return errDiffers
	}
	c.offset += int64(n)
	return nil
}
