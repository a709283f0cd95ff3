package ociunify

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// checkedRegistry is a cache registry from which content that does not match its digest
// cannot be read to the end without an error. A [verified.Registry], which sees to
// that itself, needs no such wrapper.
type checkedRegistry struct {
	ociregistry.Interface
	cache *Cache
}

func (r *checkedRegistry) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	rd, err := r.Interface.GetBlob(ctx, repo, digest)
	if err := r.usable(ctx, call.New("GetBlob", repo, string(digest)), rd, err); err != nil {
		return nil, err
	}
	return &checkedBlob{BlobReader: rd, content: newVerifyingReader(rd, digest), damaged: r.damaged(ctx, repo, digest)}, nil
}

func (r *checkedRegistry) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	rd, err := r.Interface.GetBlobRange(ctx, repo, digest, offset0, offset1)
	if err := r.usable(ctx, call.New("GetBlobRange", repo, string(digest)), rd, err); err != nil {
		return nil, err
	}
	size := rd.Descriptor().Size
	if size < 0 { // it is not known how many bytes there are
		return rd, nil
	}
	if offset1 < 0 || offset1 > size {
		offset1 = size
	}
	return &checkedRange{BlobReader: rd, left: offset1 - offset0, damaged: func(err error) {
		r.cache.damagedRange(context.WithoutCancel(ctx), holding{kindBlob, repo, digest}, offset0, offset1, err)
	}}, nil
}

func (r *checkedRegistry) ResolveBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	desc, err := r.Interface.ResolveBlob(ctx, repo, digest)
	if h := (holding{kindBlob, repo, digest}); err == nil && (r.cache.damage.has(h) || plausibleSize(desc.Size, digest) < 0) {
		return desc, call.New("ResolveBlob", repo, string(digest)).Wrap(h.unknown())
	}
	return desc, err
}

// usable returns an error, and closes rd, if a blob cannot be read or is known to be
// wrong. A registry need not know the size.
func (r *checkedRegistry) usable(ctx context.Context, at call.Call, rd ociregistry.BlobReader, err error) error {
	if err != nil {
		return err
	}
	h := holding{kindBlob, at.Repository, ociregistry.Digest(at.Ref)}
	size := rd.Descriptor().Size
	switch {
	case at.CheckDigest() != nil:
		err = at.CheckDigest()
	case r.cache.damage.has(h):
		err = at.Wrap(h.unknown())
	case size >= 0 && plausibleSize(size, h.digest) < 0:
		r.cache.damaged(ctx, h, fmt.Errorf("%w: it has %d bytes", ociregistry.ErrSizeInvalid, size))
		err = at.Wrap(h.unknown())
	default:
		return nil
	}
	rd.Close()
	return err
}

// damaged returns the function to call when a blob turns out to be wrong.
func (r *checkedRegistry) damaged(ctx context.Context, repo string, digest ociregistry.Digest) func(error) {
	return func(err error) {
		r.cache.damaged(context.WithoutCancel(ctx), holding{kindBlob, repo, digest}, err)
	}
}

func (r *checkedRegistry) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	rd, err := r.Interface.GetManifest(ctx, repo, digest)
	return r.manifest(ctx, call.New("GetManifest", repo, string(digest)), rd, err, digest)
}

func (r *checkedRegistry) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	desc, err := r.Interface.ResolveManifest(ctx, repo, digest)
	return r.known(call.New("ResolveManifest", repo, string(digest)), desc, err)
}

func (r *checkedRegistry) ResolveTag(ctx context.Context, repo, tagName string) (ociregistry.Descriptor, error) {
	desc, err := r.Interface.ResolveTag(ctx, repo, tagName)
	return r.known(call.New("ResolveTag", repo, tagName), desc, err)
}

// known returns the descriptor of a manifest, unless that is damaged.
func (r *checkedRegistry) known(at call.Call, desc ociregistry.Descriptor, err error) (ociregistry.Descriptor, error) {
	if h := (holding{kindManifest, at.Repository, desc.Digest}); err == nil && r.cache.damage.has(h) {
		return ociregistry.Descriptor{}, at.Wrap(h.unknown())
	}
	return desc, err
}

func (r *checkedRegistry) GetTag(ctx context.Context, repo, tagName string) (ociregistry.BlobReader, error) {
	rd, err := r.Interface.GetTag(ctx, repo, tagName)
	return r.manifest(ctx, call.New("GetTag", repo, tagName), rd, err, "")
}

// manifest reads a manifest and returns it if it is right.
func (r *checkedRegistry) manifest(ctx context.Context, at call.Call, rd ociregistry.BlobReader, err error, want ociregistry.Digest) (ociregistry.BlobReader, error) {
	if err != nil {
		return nil, err
	}
	desc := rd.Descriptor()
	m, err := readManifest(at, rd, want)
	h := holding{kindManifest, at.Repository, desc.Digest}
	switch {
	case r.cache.damage.has(h):
		return nil, at.Wrap(h.unknown())
	case isDamage(err):
		r.cache.damaged(ctx, h, err)
		return nil, at.Wrap(h.unknown())
	}
	m.desc.MediaType = desc.MediaType
	return m.reader(err)
}

// isDamage reports whether a reader returned err because its content is wrong.
func isDamage(err error) bool {
	return errors.Is(err, ociregistry.ErrDigestInvalid) || errors.Is(err, ociregistry.ErrSizeInvalid)
}

// checkedBlob reads a blob. It returns [io.EOF] only if the blob is right.
type checkedBlob struct {
	ociregistry.BlobReader
	content *verifyingReader
	damaged func(error)
	n       int64
	err     error
}

func (r *checkedBlob) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.content.Read(p)
	r.n += int64(n)
	if size := r.Descriptor().Size; err == io.EOF && size >= 0 && r.n != size {
		err = fmt.Errorf("%w: it has %d bytes, not %d", ociregistry.ErrSizeInvalid, r.n, size)
	}
	if isDamage(err) {
		r.damaged(err)
	}
	r.err = err
	return n, err
}

// WriteTo implements [io.WriterTo].
func (r *checkedBlob) WriteTo(w io.Writer) (int64, error) { return copyBuffered(w, r) }

// Verified implements [verified.Reader].
func (r *checkedBlob) Verified() verified.State {
	return verified.State{Digest: r.content.digest, Read: r.n, Ended: r.err == io.EOF}
}

// checkedRange reads a range of a blob, and checks its length. Its content cannot be
// verified.
type checkedRange struct {
	ociregistry.BlobReader
	left    int64
	damaged func(error)
}

func (r *checkedRange) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.BlobReader.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if err == io.EOF && r.left > 0 {
		err = fmt.Errorf("%w: %d bytes are missing", ociregistry.ErrSizeInvalid, r.left)
	}
	if isDamage(err) {
		r.damaged(err)
	}
	return n, err
}

// WriteTo implements [io.WriterTo].
func (r *checkedRange) WriteTo(w io.Writer) (int64, error) { return copyBuffered(w, r) }

// verifyingReader reads content. It holds back the last byte until the digest is
// verified.
type verifyingReader struct {
	r      io.Reader
	hash   hash.Hash // of the bytes that were read
	digest ociregistry.Digest
	held   [1]byte
	holds  int // the number of bytes in held: 0 or 1
	few    [2]byte
}

func newVerifyingReader(r io.Reader, d ociregistry.Digest) *verifyingReader {
	return &verifyingReader{r: r, hash: verified.Hash(r, d), digest: d}
}

func (r *verifyingReader) Read(p []byte) (int, error) {
	if len(p) == 1 { // no room besides the byte that is held back
		n, err := r.Read(r.few[:])
		return copy(p, r.few[:n]), err
	}
	for len(p) > 0 {
		n := copy(p, r.held[:r.holds])
		m, err := r.r.Read(p[n:])
		r.hash.Write(p[n : n+m])
		n += m
		switch {
		case err == io.EOF && !verified.IsSum(r.digest, r.hash.Sum(nil)):
			return 0, fmt.Errorf("%w: the content does not match", ociregistry.ErrDigestInvalid)
		case err == io.EOF:
			r.holds = 0
			return n, io.EOF
		case n > 0:
			r.holds = copy(r.held[:], p[n-1:n])
			n--
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
	return 0, nil
}
