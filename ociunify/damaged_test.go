package ociunify_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociunify"
)

// damage has the ways in which content that is kept can be damaged.
var damage = map[string]func([]byte) []byte{
	"cut":          func(b []byte) []byte { return b[:len(b)/2] },
	"without end":  func(b []byte) []byte { return b[:len(b)-1] },
	"empty":        func(b []byte) []byte { return nil },
	"longer":       func(b []byte) []byte { return append(bytes.Clone(b), 'x') },
	"first byte":   func(b []byte) []byte { return append([]byte{b[0] ^ 1}, b[1:]...) },
	"last byte":    func(b []byte) []byte { return append(bytes.Clone(b[:len(b)-1]), b[len(b)-1]^1) },
	"another blob": func(b []byte) []byte { return ocitest.NewBlob(77, int64(len(b))).Bytes() },
}

// rotten is a registry in which content was damaged after it was pushed. Deleting and
// pushing it again repairs it.
type rotten struct {
	ociregistry.Interface
	damage  func([]byte) []byte // nil means no damage
	deleted atomic.Bool         // the damaged content was
	of      ociregistry.Digest
	deletes error
}

func (r *rotten) read(rd ociregistry.BlobReader, err error) (ociregistry.BlobReader, error) {
	if err != nil || r.damage == nil || r.deleted.Load() || rd.Descriptor().Digest != r.of {
		return rd, err
	}
	data, err := readAll(rd, nil)
	desc := rd.Descriptor()
	data = r.damage(data)
	desc.Size = int64(len(data))
	return withDescriptor{withReader{rd, bytes.NewReader(data)}, desc}, err
}

func (r *rotten) GetBlob(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
	return r.read(r.Interface.GetBlob(ctx, repo, d))
}

func (r *rotten) GetBlobRange(ctx context.Context, repo string, d ociregistry.Digest, o0, o1 int64) (ociregistry.BlobReader, error) {
	rd, err := r.GetBlob(ctx, repo, d)
	if err != nil || r.damage == nil || r.deleted.Load() {
		return r.Interface.GetBlobRange(ctx, repo, d, o0, o1)
	}
	data, _ := readAll(rd, nil)
	if o1 < 0 || o1 > int64(len(data)) {
		o1 = int64(len(data))
	}
	if o0 > o1 {
		return nil, ociregistry.ErrRangeInvalid
	}
	return withReader{rd, bytes.NewReader(data[o0:o1])}, nil
}

func (r *rotten) GetManifest(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
	return r.read(r.Interface.GetManifest(ctx, repo, d))
}

func (r *rotten) GetTag(ctx context.Context, repo, tag string) (ociregistry.BlobReader, error) {
	return r.read(r.Interface.GetTag(ctx, repo, tag))
}

func (r *rotten) DeleteBlob(ctx context.Context, repo string, d ociregistry.Digest) error {
	return r.delete(d, func() error { return r.Interface.DeleteBlob(ctx, repo, d) })
}

func (r *rotten) DeleteManifest(ctx context.Context, repo string, d ociregistry.Digest) error {
	return r.delete(d, func() error { return r.Interface.DeleteManifest(ctx, repo, d) })
}

func (r *rotten) delete(d ociregistry.Digest, del func() error) error {
	if r.deletes != nil {
		return r.deletes
	}
	err := del()
	if err == nil && d == r.of {
		r.deleted.Store(r.damage != nil)
	}
	return err
}

// filled returns a registry in which a cache has kept an image.
func filled(t testing.TB, kept, origin ociregistry.Interface, image *ocitest.Artifact) {
	t.Helper()
	c := ociunify.NewCache(kept, origin, nil)
	wantTag(t, c, "foo", "v1", image)
	qt.Assert(t, qt.IsNil(image.Verify(t.Context(), c, "foo")))
	qt.Assert(t, qt.IsNil(c.Close()))
}

// Reading a blob that is damaged in the cache registry ends in an error, once. Then the
// blob is fetched again. No caller gets all of the wrong bytes.
func TestCache_FetchesADamagedBlobAgain(t *testing.T) {
	t.Parallel()
	for name, damage := range damage {
		for _, bound := range []int64{0, 1 << 20} {
			t.Run(fmt.Sprint(name, bound), func(t *testing.T) {
				t.Parallel()
				ctx, mem := t.Context(), ocimem.New()
				origin := count(mem)
				image := pushed(t, mem, "foo", 1, "v1")
				layer := image.Blobs[2]
				kept := &rotten{Interface: ocimem.New(), of: layer.Descriptor.Digest}
				if bound > 0 {
					filling := ociunify.NewCache(kept, mem, &ociunify.CacheOptions{MaxBytes: bound})
					got, err := readBlob(ctx, filling, "foo", layer.Descriptor.Digest)
					wantBytes(t, got, err, layer.Bytes())
					qt.Assert(t, qt.IsNil(filling.Close()))
				} else {
					filled(t, kept, mem, image)
				}
				kept.damage = damage
				var log logLines
				c := newCache(t, kept, origin, &ociunify.CacheOptions{MaxBytes: bound, Logger: log.logger()})
				got, err := readBlob(ctx, c, "foo", layer.Descriptor.Digest)
				if err == nil { // the damage was found before the first byte
					sized := name == "cut" || name == "without end" || name == "longer"
					qt.Check(t, qt.IsTrue(name == "empty" || bound > 0 && sized))
					wantBytes(t, got, err, layer.Bytes())
				} else {
					qt.Check(t, qt.IsFalse(bytes.Equal(got, damage(layer.Bytes()))))
				}
				qt.Check(t, qt.IsTrue(log.has("what is kept is damaged")))
				got, err = readBlob(ctx, c, "foo", layer.Descriptor.Digest)
				wantBytes(t, got, err, layer.Bytes())
				qt.Check(t, qt.Equals(origin.took(), "GetBlob"))
				qt.Check(t, qt.IsNil(c.Close()))
				got, err = readBlob(ctx, kept, "foo", layer.Descriptor.Digest)
				wantBytes(t, got, err, layer.Bytes())
			})
		}
	}
}

// A late reader of a damaged blob does not delete its replacement, whether the same cache
// or another one has replaced it.
func TestCache_LateReaderKeepsTheReplacement(t *testing.T) {
	t.Parallel()
	for name, damage := range damage {
		for _, by := range []string{"the same cache", "another cache"} {
			t.Run(name+", by "+by, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { lateReader(t, damage, by == "another cache") })
			})
		}
	}
}

func lateReader(t *testing.T, damage func([]byte) []byte, elsewhere bool) {
	ctx, mem := t.Context(), ocimem.New()
	image := pushed(t, mem, "foo", 1, "v1")
	layer := image.Blobs[1]
	d, origin := layer.Descriptor.Digest, count(mem)
	kept := &rotten{Interface: ocimem.New(), of: d}
	filled(t, kept, mem, image)
	kept.damage = damage
	c := ociunify.NewCache(kept, origin, nil)
	late, lateErr := c.GetBlob(ctx, "foo", d)
	lateRange, rangeErr := c.GetBlobRange(ctx, "foo", d, 0, layer.Descriptor.Size)

	other := c
	if elsewhere {
		other = ociunify.NewCache(kept, origin, nil)
	}
	readBlob(ctx, other, "foo", d)
	got, err := readBlob(ctx, other, "foo", d)
	wantBytes(t, got, err, layer.Bytes())
	synctest.Wait() // until it is stored

	readAll(late, lateErr)
	readAll(lateRange, rangeErr)
	origin.set("", errBroken)
	got, err = readBlob(ctx, kept, "foo", d)
	wantBytes(t, got, err, layer.Bytes())
	got, err = readBlob(ctx, c, "foo", d)
	wantBytes(t, got, err, layer.Bytes())
	qt.Check(t, qt.IsNil(c.Close()))
	qt.Check(t, qt.IsNil(other.Close()))
}

// A damaged manifest is fetched again in the same call.
func TestCache_FetchesADamagedManifestInTheSameCall(t *testing.T) {
	t.Parallel()
	for name, damage := range damage {
		for _, by := range []string{"digest", "tag"} {
			t.Run(name+", by "+by, func(t *testing.T) {
				t.Parallel()
				ctx, mem := t.Context(), ocimem.New()
				origin := count(mem)
				image := pushed(t, mem, "foo", 1, "v1")
				kept := &rotten{Interface: ocimem.New(), of: image.Descriptor.Digest}
				filled(t, kept, mem, image)
				kept.damage = damage
				c := newCache(t, kept, origin, nil)
				for range 2 {
					if by == "tag" {
						wantTag(t, c, "foo", "v1", image)
						continue
					}
					got, err := readAll(c.GetManifest(ctx, "foo", image.Descriptor.Digest))
					wantBytes(t, got, err, image.Manifest)
				}
				qt.Check(t, qt.Equals(origin.number("GetManifest")+origin.number("GetTag"), 1))
				got, err := readAll(kept.GetManifest(ctx, "foo", image.Descriptor.Digest))
				wantBytes(t, got, err, image.Manifest)
			})
		}
	}
}

// A range of a truncated blob does not end early without an error.
func TestCache_ChecksTheLengthOfRanges(t *testing.T) {
	t.Parallel()
	ctx, mem := t.Context(), ocimem.New()
	origin := count(mem)
	image := pushed(t, mem, "foo", 1, "v1")
	layer := image.Blobs[2]
	kept := ocimem.New()
	filled(t, kept, mem, image)
	c := newCache(t, shortRanges{kept}, origin, nil)
	_, err := readAll(c.GetBlobRange(ctx, "foo", layer.Descriptor.Digest, 10, 20))
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrSizeInvalid))
	got, err := readAll(c.GetBlobRange(ctx, "foo", layer.Descriptor.Digest, 10, 20))
	wantBytes(t, got, err, layer.Bytes()[10:20])
	qt.Check(t, qt.Equals(origin.took(), "GetBlobRange"))
}

// A range beyond the end of a truncated blob comes from the origin, if that answers.
func TestCache_ServesTheRangeOfACutBlobFromTheOrigin(t *testing.T) {
	t.Parallel()
	ctx, mem := t.Context(), ocimem.New()
	origin := count(mem)
	image := pushed(t, mem, "foo", 1, "v1")
	layer := image.Blobs[2]
	d := layer.Descriptor.Digest
	kept := &rotten{Interface: ocimem.New(), of: d}
	filled(t, kept, mem, image)
	kept.damage = damage["cut"]
	c := newCache(t, kept, origin, nil)
	_, err := c.GetBlobRange(ctx, "foo", d, 300_001, -1)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrRangeInvalid))
	_, err = c.GetBlobRange(ctx, "foo", d, 20, 10)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrRangeInvalid))
	origin.set("", errBroken)
	_, err = c.GetBlobRange(ctx, "foo", d, 200_000, -1)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrRangeInvalid))
	origin.set("", nil)
	got, err := readAll(c.GetBlobRange(ctx, "foo", d, 200_000, -1))
	wantBytes(t, got, err, layer.Bytes()[200_000:])
	got, err = readBlob(ctx, c, "foo", d)
	wantBytes(t, got, err, layer.Bytes())
}

// shortRanges is a registry whose ranges end early.
type shortRanges struct{ ociregistry.Interface }

func (r shortRanges) GetBlobRange(ctx context.Context, repo string, d ociregistry.Digest, o0, o1 int64) (ociregistry.BlobReader, error) {
	rd, err := r.Interface.GetBlobRange(ctx, repo, d, o0, o1)
	if err != nil {
		return nil, err
	}
	return withReader{rd, io.LimitReader(rd, 5)}, nil
}

// A damaged blob that cannot be deleted counts as missing.
func TestCache_IgnoresADamagedBlobItCannotDelete(t *testing.T) {
	t.Parallel()
	ctx, mem := t.Context(), ocimem.New()
	image := pushed(t, mem, "foo", 1, "v1")
	layer := image.Blobs[2]
	kept := &rotten{Interface: ocimem.New(), of: layer.Descriptor.Digest}
	filled(t, kept, mem, image)
	kept.damage, kept.deletes = damage["last byte"], ociregistry.ErrUnsupported
	c := newCache(t, kept, mem, nil)
	_, err := readBlob(ctx, c, "foo", layer.Descriptor.Digest)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
	for range 3 {
		got, err := readBlob(ctx, c, "foo", layer.Descriptor.Digest)
		wantBytes(t, got, err, layer.Bytes())
		got, err = readAll(c.GetBlobRange(ctx, "foo", layer.Descriptor.Digest, 299_990, -1))
		wantBytes(t, got, err, layer.Bytes()[299_990:])
	}
}

// The cache ignores a damaged record.
func TestCache_IgnoresDamagedRecords(t *testing.T) {
	t.Parallel()
	ctx, mem := t.Context(), ocimem.New()
	origin := count(mem)
	image := pushed(t, mem, "foo", 1, "v1")
	inner := ocimem.New()
	kept := &rotten{Interface: inner}
	c := newCache(t, kept, origin, nil)
	wantTag(t, c, "foo", "v1", image)
	_, err := ociregistry.All(c.Referrers(ctx, "foo", image.Descriptor.Digest, ""))
	qt.Assert(t, qt.IsNil(err))
	for _, tag := range tagsOf(t, inner, "ociunify.cache") {
		desc, err := inner.ResolveTag(ctx, "ociunify.cache", tag)
		qt.Assert(t, qt.IsNil(err))
		kept.of, kept.damage = desc.Digest, func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("null"), []byte("[]")) }
	}
	origin.set("", errBroken)
	_, err = ociregistry.All(c.Referrers(ctx, "foo", image.Descriptor.Digest, ""))
	qt.Check(t, qt.ErrorIs(err, errBroken))
}

// A file that was truncated in a directory, as by a full disk, does not count as a blob.
func TestCache_FetchesAgainAFileThatWasCut(t *testing.T) {
	t.Parallel()
	ctx, mem, dir := t.Context(), ocimem.New(), t.TempDir()
	image := pushed(t, mem, "foo", 1, "v1")
	layer := image.Blobs[2]
	kept, err := ocifs.New(dir, nil)
	qt.Assert(t, qt.IsNil(err))
	filled(t, kept, mem, image)
	qt.Assert(t, qt.IsNil(kept.Close()))
	file := filepath.Join(dir, "foo", "blobs", "sha256", layer.Descriptor.Digest.Encoded())
	qt.Assert(t, qt.IsNil(os.Chmod(file, 0o666)))
	qt.Assert(t, qt.IsNil(os.Truncate(file, 500)))

	kept, err = ocifs.New(dir, nil)
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { qt.Check(t, qt.IsNil(kept.Close())) })
	c := newCache(t, kept, mem, nil)
	var got []byte
	for range 2 {
		if got, err = readBlob(ctx, c, "foo", layer.Descriptor.Digest); err == nil {
			break
		}
		qt.Check(t, qt.IsTrue(len(got) < 500))
	}
	wantBytes(t, got, err, layer.Bytes())
	qt.Check(t, qt.IsNil(c.Close()))
	got, err = readBlob(ctx, kept, "foo", layer.Descriptor.Digest)
	wantBytes(t, got, err, layer.Bytes())
}

// sizeless is a registry that does not know the size of blobs, like one behind a proxy
// that encodes responses.
type sizeless struct{ ociregistry.Interface }

func (r sizeless) GetBlob(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
	return r.hide(r.Interface.GetBlob(ctx, repo, d))
}

func (r sizeless) GetBlobRange(ctx context.Context, repo string, d ociregistry.Digest, o0, o1 int64) (ociregistry.BlobReader, error) {
	return r.hide(r.Interface.GetBlobRange(ctx, repo, d, o0, o1))
}

func (r sizeless) hide(rd ociregistry.BlobReader, err error) (ociregistry.BlobReader, error) {
	if err != nil {
		return nil, err
	}
	desc := rd.Descriptor()
	desc.Size = -1
	return withDescriptor{rd, desc}, nil
}

// A blob whose size the cache registry does not know is not damaged.
func TestCache_KeepsBlobsInARegistryWithoutSizes(t *testing.T) {
	t.Parallel()
	for _, bound := range []int64{0, 1 << 30} {
		ctx, mem := t.Context(), ocimem.New()
		image := pushed(t, mem, "foo", 1, "v1")
		layer := image.Blobs[2]
		origin := count(mem)
		kept := &rotten{Interface: sizeless{ocimem.New()}, deletes: errBroken}
		c := newCache(t, kept, origin, &ociunify.CacheOptions{MaxBytes: bound})
		wantTag(t, c, "foo", "v1", image)
		qt.Assert(t, qt.IsNil(image.Verify(ctx, c, "foo")))
		qt.Assert(t, qt.IsNil(c.Close()))
		c = newCache(t, kept, origin, &ociunify.CacheOptions{MaxBytes: bound})
		origin.set("", errBroken)
		for range 2 {
			got, err := readBlob(ctx, c, "foo", layer.Descriptor.Digest)
			wantBytes(t, got, err, layer.Bytes())
			got, err = readAll(c.GetBlobRange(ctx, "foo", layer.Descriptor.Digest, 10, 20))
			wantBytes(t, got, err, layer.Bytes()[10:20])
		}
	}
}

// A damaged manifest that cannot be deleted counts as missing, also when it is only
// resolved.
func TestCache_IgnoresADamagedManifestItCannotDelete(t *testing.T) {
	t.Parallel()
	ctx, mem := t.Context(), ocimem.New()
	image := pushed(t, mem, "foo", 1, "v1")
	d := image.Descriptor.Digest
	origin := count(mem)
	kept := &rotten{Interface: ocimem.New(), of: d}
	filled(t, kept, origin, image)
	kept.damage, kept.deletes = damage["last byte"], ociregistry.ErrUnsupported
	c := newCache(t, kept, origin, nil)
	origin.set("", errBroken)
	_, err := readAll(c.GetManifest(ctx, "foo", d))
	qt.Check(t, qt.ErrorIs(err, errBroken))
	_, err = c.ResolveManifest(ctx, "foo", d)
	qt.Check(t, qt.ErrorIs(err, errBroken))
	_, err = c.ResolveTag(ctx, "foo", "v1")
	qt.Check(t, qt.ErrorIs(err, errBroken))
}
