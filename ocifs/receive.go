package ocifs

import (
	"context"
	"errors"
	"io"
	"math"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// receive reads the content of d, which must have size bytes unless size is
// negative, and returns it, checked, to be put.
//
// If the pool has content of that size, the two are compared as the bytes come,
// and nothing is written as long as they are equal.
//
// Errors: [ociregistry.ErrSizeInvalid], [ociregistry.ErrDigestInvalid], and
// those of r and of the limit.
func (s *store) receive(ctx context.Context, r io.Reader, d ociregistry.Digest, size int64) (*staged, error) {
	a, err := s.arrive(d, size)
	if err != nil {
		return nil, err
	}
	a.hash = verified.Hash(r, d)
	if err := a.receive(ctx, r, d, size); err != nil {
		a.discard()
		return nil, err
	}
	return a.staged, nil
}

// arrival is content on its way in. As long as it equals the pool's, staged is
// another name of the pool's file, of which the first staged.size bytes came.
type arrival struct {
	*staged
	known *comparison // with the pool's file; nil if there is none to compare with
}

func (s *store) arrive(d ociregistry.Digest, size int64) (*arrival, error) {
	if st := s.pin(d, size); st != nil {
		return &arrival{st, &comparison{old: st.file}}, nil
	}
	st, err := s.stage(d.Algorithm())
	return &arrival{staged: st}, err
}

// pin gives the pool's file a name in the staging directory, so that it stays.
// It returns nil if there is no such file of that size.
func (s *store) pin(d ociregistry.Digest, size int64) *staged {
	info, err := s.fs.Lstat(s.poolPath(d))
	if err != nil || info.Size() != size {
		return nil
	}
	name, err := s.staging.name()
	if err != nil || s.fs.Link(s.poolPath(d), name) != nil {
		return nil
	}
	f, now, err := s.openBlob(name, d, forSync)
	if err != nil {
		s.fs.Remove(name)
		return nil
	}
	st := &staged{store: s, file: f, name: name, alg: d.Algorithm(), hash: d.Algorithm().Hash(), pinned: d}
	if now != size {
		st.discard()
		return nil
	}
	return st
}

func (a *arrival) receive(ctx context.Context, r io.Reader, d ociregistry.Digest, size int64) error {
	most := size
	if size < 0 {
		most = noLimit
	}
	n, err := readBuffers(ctx, r, most, func(p []byte) error { return a.add(ctx, p) })
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
	ok, err := a.is(ctx, d)
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

// diverge goes on in a new file, with a copy of what was equal so far.
func (a *arrival) diverge(ctx context.Context) error {
	known := a.staged
	st, err := known.store.stage(known.alg)
	if err != nil {
		return err
	}
	defer known.discard()
	a.staged, a.known = st, nil
	n, err := st.readFrom(ctx, io.NewSectionReader(known.file, 0, known.size), known.size)
	if err == nil && n < known.size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// comparison compares content with a file, piece by piece.
type comparison struct {
	old    io.ReaderAt
	offset int64 // up to where they are equal
}

var errDiffers = errors.New("content differs")

// compare returns errDiffers if p is not what the file has next.
func (c *comparison) compare(p []byte) error {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	n, _ := c.old.ReadAt(buf[:len(p)], c.offset)
	if string(buf[:n]) != string(p) {
		return errDiffers
	}
	c.offset += int64(n)
	return nil
}

// noLimit is for reading all that there is.
const noLimit = math.MaxInt64
