package ociunify_test

import (
	"io"
	"os"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociunify"
)

// A reader of a blob that is fetched says that it is verified: whoever pushes from it
// to another registry of this module need not hash it again.
func TestFetchesVerify(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	gone := t.TempDir()
	qt.Assert(t, qt.IsNil(os.Remove(gone)))
	for name, tempDir := range map[string]string{"spooled": "", "read on at the origin": gone} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mem := ocimem.New()
			layer := pushed(t, mem, "foo", 1).Blobs[2]
			d, size := layer.Descriptor.Digest, layer.Descriptor.Size
			c := newCache(t, ocimem.New(), mem, &ociunify.CacheOptions{TempDir: tempDir})

			rd, err := c.GetBlob(ctx, "foo", d)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(verified.By(rd), verified.State{Digest: d}))
			dst := ocimem.New()
			_, err = dst.PushBlob(ctx, "foo", layer.Descriptor, rd)
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(verified.By(rd), verified.State{Digest: d, Read: size, Ended: true}))
			rd.Close()
			got, err := readBlob(ctx, dst, "foo", d)
			wantBytes(t, got, err, layer.Bytes())
		})
		t.Run(name+", a part", func(t *testing.T) {
			t.Parallel()
			mem := ocimem.New()
			layer := pushed(t, mem, "foo", 1).Blobs[2]
			c := newCache(t, ocimem.New(), mem, &ociunify.CacheOptions{TempDir: tempDir})
			rd, err := c.GetBlobRange(ctx, "foo", layer.Descriptor.Digest, 1, -1)
			qt.Assert(t, qt.IsNil(err))
			defer rd.Close()
			_, err = io.Copy(io.Discard, rd)
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(verified.By(rd), verified.State{}))
		})
	}
}
