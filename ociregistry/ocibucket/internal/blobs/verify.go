package blobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
)

var (
	// ErrDamaged is the error for bytes that are not those of their digest.
	ErrDamaged = errors.New("content is not what its digest says")
	// ErrMissing is the error for what is named and is not there.
	ErrMissing = errors.New("content is missing")
)

// A Verifier checks blobs. What several of them share it reads once. It is safe for concurrent use.
type Verifier struct {
	*Store
	mu   sync.Mutex
	read map[string]error // what is wrong with data, by its name
}

// NewVerifier returns a Verifier that has read nothing yet.
func NewVerifier(s *Store) *Verifier { return &Verifier{Store: s, read: map[string]error{}} }

// Verify reads a blob, if the repository has it, with all that keeps it. The link may change
// meanwhile: then it is read again.
func (v *Verifier) Verify(ctx context.Context, repo string, digest ociregistry.Digest) (l Link, err error) {
	for range attempts {
		if l, err = v.Read(ctx, repo, digest); err != nil || !v.Lives(l) {
			return l, err
		}
		if err = v.verify(ctx, repo, digest, l); err == nil {
			return l, nil
		}
		again, readErr := v.Read(ctx, repo, digest)
		if readErr != nil {
			return l, readErr
		}
		if again.read.ETag == l.read.ETag {
			return l, err
		}
	}
	return l, err
}

func (v *Verifier) verify(ctx context.Context, repo string, digest ociregistry.Digest, l Link) error {
	if l.Data == "" && !verified.IsOf(digest, []byte(l.Inline)) {
		return ErrDamaged
	}
	reference, err := v.bucket.Read(ctx, keys.Reference(digest, repo, l.Reference), 0)
	switch {
	case err != nil:
		return err
	case !reference.Found:
		return fmt.Errorf("%w: the reference by which others find it", ErrMissing)
	case l.Data == "":
		return nil
	}
	if err := v.verifyMarker(ctx, digest, l.Data); err != nil {
		return err
	}
	return v.verifyData(ctx, digest, l)
}

// verifyMarker checks that a collection leaves data alone.
func (v *Verifier) verifyMarker(ctx context.Context, digest ociregistry.Digest, data string) error {
	key := keys.Marker(digest, data)
	o, err := v.bucket.Read(ctx, key, formats.MaxMarker)
	if err != nil {
		return err
	}
	if !o.Found {
		return fmt.Errorf("%w: the marker that keeps the bytes", ErrMissing)
	}
	m, err := formats.DecodeMarker(o.Text)
	switch {
	case err != nil:
		return bucket.Damaged(key, err)
	case m.Status == formats.Gone, v.bucket.IsVoid(m.T0, o.Modified):
		return fmt.Errorf("%w: a collection removes the bytes", ErrMissing)
	}
	return nil
}

func (v *Verifier) verifyData(ctx context.Context, digest ociregistry.Digest, l Link) error {
	v.mu.Lock()
	err, known := v.read[l.Data]
	v.mu.Unlock()
	if known {
		return err
	}
	err = v.readData(ctx, digest, l)
	if err == nil || errors.Is(err, ErrDamaged) || errors.Is(err, ErrMissing) {
		v.mu.Lock()
		v.read[l.Data] = err
		v.mu.Unlock()
	}
	return err
}

func (v *Verifier) readData(ctx context.Context, digest ociregistry.Digest, l Link) error {
	rd, err := v.Open(ctx, l, digest, 0, l.Size)
	if err != nil {
		return err
	}
	defer rd.Close()
	h := digest.Algorithm().Hash()
	n, err := io.Copy(h, rd)
	if err == nil && (n != l.Size || !verified.IsSum(digest, h.Sum(nil))) {
		err = ErrDamaged
	}
	return err
}
