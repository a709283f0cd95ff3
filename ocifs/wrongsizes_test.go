package ocifs

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ocifs/internal/names"
	"github.com/seed-40b21970/oci/ociregistry"
)

// TestWrongSizesCostOneRead pushes manifests that state wrong sizes of a blob. The
// blob is read once, while others push, to find that it is intact and the manifests
// are wrong.
func TestWrongSizesCostOneRead(t *testing.T) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		fsys := new(disktest.Hooks)
		r, err := open(fsys, scratch.Kept(t), "", &Options{NoSync: true})
		qt.Assert(t, qt.IsNil(err))
		defer r.Close()
		blob := disktest.RandomBytes(1, 4<<20)
		desc := ociregistry.Descriptor{Digest: digest.FromBytes(blob), Size: int64(len(blob))}
		_, err = r.PushBlob(t.Context(), "a", desc, bytes.NewReader(blob))
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(fsys.Chtimes(blobs.Path(names.Path(r.dir, "a"), desc.Digest), time.Now().Add(-time.Hour))))
		var reads []int
		pushed := false
		pushAnother := func(op, name string) error {
			if op == "file.ReadAt" && !pushed && strings.HasSuffix(name, desc.Digest.Encoded()) {
				pushed = true
				_, err := r.PushManifest(t.Context(), "a", "another", []byte("1"), "text/plain")
				qt.Check(t, qt.IsNil(err))
			}
			return nil
		}
		for size := range 3 {
			fsys.Set(pushAnother)
			contents := fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":"a/b","digest":%q,"size":%d},"layers":[]}`, desc.Digest, size)
			_, err := r.PushManifest(t.Context(), "a", "v1", []byte(contents), ocispec.MediaTypeImageManifest)
			qt.Assert(t, qt.ErrorIs(err, error(ociregistry.ErrManifestInvalid)))
			qt.Check(t, qt.StringContains(err.Error(), fmt.Sprintf("with %d bytes, which has 4194304", size)))
			reads = append(reads, fsys.Count("file.ReadAt"))
		}
		qt.Check(t, qt.IsTrue(pushed))
		qt.Check(t, qt.IsTrue(reads[0] > 10))
		qt.Check(t, qt.IsTrue(reads[1] < 10))
		qt.Check(t, qt.IsTrue(reads[2] < 10))
	})
}
