package ociunify

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// checked is a cache registry of which nothing ends well that is not the content of
// its digest. One that can see to that itself is not wrapped (see
// [verified.Registry]).
type checked struct {
	ociregistry.Interface
	cache *Cache
}

func (r *checked) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	rd, err := r.Interface.GetBlob(ctx, repo, digest)
	if err := r.usable(ctx, target{"GetBlob", repo, string(digest)}, rd, err); err != nil {
		return nil, err
	}
	return &checkedBlob{BlobReader: rd, content: newLastChecked(rd, digest), damaged: r.damaged(ctx, repo, digest)}, nil
}

func (r *checked) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	rd, err := r.Interface.GetBlobRange(ctx, repo, digest, offset0, offset1)
	if err := r.usable(ctx, target{"GetBlobRange", repo, string(digest)}, rd, err); err != nil {
		return nil, err
	}
	size := rd.Descriptor().Size
	if size < 0 { // nothing tells how much is to come
		return rd, nil
	}
	if offset1 < 0 || offset1 > size {
		offset1 = size
	}
	return &checkedRange{BlobReader: rd, left: offset1 - offset0, damaged: func(err error) {
		r.cache.damagedRange(context.WithoutCancel(ctx), holding{kindBlob, repo, digest}, offset0, offset1, err)
	}}, nil
}

func (r *checked) ResolveBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	desc, err := r.Interface.ResolveBlob(ctx, repo, digest)
	if h := (holding{kindBlob, repo, digest}); err == nil && (r.cache.spoilt.has(h) || plausibleSize(desc.Size, digest) < 0) {
		return desc, target{"ResolveBlob", repo, string(digest)}.fail(h.unknown())
	}
	return desc, err
}

// usable returns an error if a blob cannot be read, or not be right. It closes rd then.
// A registry need not tell the size.
func (r *checked) usable(ctx context.Context, at target, rd ociregistry.BlobReader, err error) error {
	if err != nil {
		return err
	}
	h := holding{kindBlob, at.repo, ociregistry.Digest(at.ref)}
	size := rd.Descriptor().Size
	switch {
	case at.checkDigest() != nil:
		err = at.checkDigest()
	case r.cache.spoilt.has(h):
		err = at.fail(h.unknown())
	case size >= 0 && plausibleSize(size, h.digest) < 0:
		r.cache.damaged(ctx, h, fmt.Errorf("%w: it has %d bytes", ociregistry.ErrSizeInvalid, size))
		err = at.fail(h.unknown())
	default:
		return nil
	}
	rd.Close()
	return err
}

// damaged returns what is called when a blob turns out to be wrong.
func (r *checked) damaged(ctx context.Context, repo string, digest ociregistry.Digest) func(error) {
	return func(err error) {
		r.cache.damaged(context.WithoutCancel(ctx), holding{kindBlob, repo, digest}, err)
	}
}

func (r *checked) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	rd, err := r.Interface.GetManifest(ctx, repo, digest)
	return r.manifest(ctx, target{"GetManifest", repo, string(digest)}, rd, err, digest)
}

func (r *checked) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	desc, err := r.Interface.ResolveManifest(ctx, repo, digest)
	return r.known(target{"ResolveManifest", repo, string(digest)}, desc, err)
}

func (r *checked) ResolveTag(ctx context.Context, repo, tagName string) (ociregistry.Descriptor, error) {
	desc, err := r.Interface.ResolveTag(ctx, repo, tagName)
	return r.known(target{"ResolveTag", repo, tagName}, desc, err)
}

// known returns the descriptor of a manifest, unless that is damaged.
func (r *checked) known(at target, desc ociregistry.Descriptor, err error) (ociregistry.Descriptor, error) {
	if h := (holding{kindManifest, at.repo, desc.Digest}); err == nil && r.cache.spoilt.has(h) {
		return ociregistry.Descriptor{}, at.fail(h.unknown())
	}
	return desc, err
}

func (r *checked) GetTag(ctx context.Context, repo, tagName string) (ociregistry.BlobReader, error) {
	rd, err := r.Interface.GetTag(ctx, repo, tagName)
	return r.manifest(ctx, target{"GetTag", repo, tagName}, rd, err, "")
}

// manifest returns a manifest that was read and is right.
func (r *checked) manifest(ctx context.Context, at target, rd ociregistry.BlobReader, err error, want ociregistry.Digest) (ociregistry.BlobReader, error) {
	if err != nil {
		return nil, err
	}
	desc := rd.Descriptor()
	m, err := readManifest(at, rd, want)
	h := holding{kindManifest, at.repo, desc.Digest}
	switch {
	case r.cache.spoilt.has(h):
		return nil, at.fail(h.unknown())
	case isDamage(err):
		r.cache.damaged(ctx, h, err)
		return nil, at.fail(h.unknown())
	}
	m.desc.MediaType = desc.MediaType
	return m.reader(err)
}

// isDamage reports whether an error of a reader is due to what it reads.
func isDamage(err error) bool {
	return errors.Is(err, ociregistry.ErrDigestInvalid) || errors.Is(err, ociregistry.ErrSizeInvalid)
}

// checkedBlob reads a blob to the end, which it has only if the blob is right.
type checkedBlob struct {
	ociregistry.BlobReader
	content *lastChecked
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

// checkedRange reads as many bytes of a blob as it was asked for. Which they are,
// nobody can tell.
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

// lastChecked reads content of which it gives the last byte only when the digest is
// right.
type lastChecked struct {
	r      io.Reader
	hash   hash.Hash // of what was read
	digest ociregistry.Digest
	held   [1]byte
	holds  int // how many bytes were read and not given: 1 at most
	few    [2]byte
}

func newLastChecked(r io.Reader, d ociregistry.Digest) *lastChecked {
	return &lastChecked{r: r, hash: verified.Hash(r, d), digest: d}
}

func (l *lastChecked) Read(p []byte) (int, error) {
	if len(p) == 1 { // there is no room beside what is held
		n, err := l.Read(l.few[:])
		return copy(p, l.few[:n]), err
	}
	for len(p) > 0 {
		n := copy(p, l.held[:l.holds])
		m, err := l.r.Read(p[n:])
		l.hash.Write(p[n : n+m])
		n += m
		switch {
		case err == io.EOF && !verified.IsSum(l.digest, l.hash.Sum(nil)):
			return 0, fmt.Errorf("%w: the content is another", ociregistry.ErrDigestInvalid)
		case err == io.EOF:
			l.holds = 0
			return n, io.EOF
		case n > 0:
			l.holds = copy(l.held[:], p[n-1:n])
			n--
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
	return 0, nil
}
