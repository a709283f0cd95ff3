package ocifs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ocifs/internal/names"
	"github.com/seed-40b21970/oci/ociregistry"
)

// TestVerifiedOnce reads a blob repeatedly. Its file is hashed the first time, and
// after it has changed.
func TestVerifiedOnce(t *testing.T) {
	t.Parallel()
	r := openUnsynced(t, scratch.Kept(t))
	blob := pushData(t, r, "a", 1, 40_000)
	desc := blob.Descriptor
	name := blobs.Path(names.Path(r.dir, "a"), desc.Digest)
	verifies := func(repo string) bool {
		t.Helper()
		br, err := r.Verified().GetBlob(t.Context(), repo, desc.Digest)
		qt.Assert(t, qt.IsNil(err))
		defer br.Close()
		verifying := fmt.Sprintf("%T", br) == "*blobs.verifyingReader"
		got, err := io.ReadAll(br)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(bytes.Equal(got, blob.Bytes())))
		return verifying
	}
	touch := func(ago time.Duration) {
		t.Helper()
		qt.Assert(t, qt.IsNil(os.Chtimes(name, time.Time{}, time.Now().Add(-ago))))
	}
	touch(time.Hour)
	qt.Check(t, qt.IsTrue(verifies("a")))
	qt.Check(t, qt.IsFalse(verifies("a")))
	_, err := r.MountBlob(t.Context(), "a", "b", desc.Digest)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(verifies("b"))) // it is the same file

	touch(2 * time.Hour) // by somebody else
	qt.Check(t, qt.IsTrue(verifies("a")))
	qt.Check(t, qt.IsFalse(verifies("b")))

	// What was written just now might be written to again within the same tick.
	touch(-time.Hour)
	qt.Check(t, qt.IsTrue(verifies("a")))
	qt.Check(t, qt.IsTrue(verifies("a")))
	touch(3 * time.Hour)

	// A reader of a part proves nothing of the rest.
	br, err := r.Verified().GetBlobRange(t.Context(), "a", desc.Digest, 0, desc.Size-1)
	qt.Assert(t, qt.IsNil(err))
	_, err = io.Copy(io.Discard, br)
	qt.Check(t, qt.IsNil(err))
	br.Close()
	br, err = r.Verified().GetBlob(t.Context(), "a", desc.Digest)
	qt.Assert(t, qt.IsNil(err))
	_, err = io.ReadFull(br, make([]byte, desc.Size-1))
	qt.Check(t, qt.IsNil(err))
	br.Close()
	qt.Check(t, qt.IsTrue(verifies("a")))
	qt.Check(t, qt.IsFalse(verifies("a")))
}

// TestVerifiedReadsAllocateNothingMore is not parallel, because it counts the
// allocations of the process.
func TestVerifiedReadsAllocateNothingMore(t *testing.T) {
	disktest.Still(t, func(t *testing.T) {
		r := openUnsynced(t, scratch.Kept(t))
		desc := pushData(t, r, "a", 1, 40_000).Descriptor
		old := time.Now().Add(-time.Hour)
		qt.Assert(t, qt.IsNil(os.Chtimes(blobs.Path(names.Path(r.dir, "a"), desc.Digest), old, old)))
		synctest.Wait() // for what opening does in the background
		ctx := t.Context()
		read := func(r ociregistry.Interface) func() {
			return func() {
				br, err := r.GetBlob(ctx, "a", desc.Digest)
				if err != nil {
					t.Fatal(err)
				}
				br.(io.WriterTo).WriteTo(io.Discard)
				br.Close()
			}
		}
		plain := testing.AllocsPerRun(100, read(r))
		view := r.Verified()
		read(view)()
		qt.Check(t, qt.Equals(testing.AllocsPerRun(100, read(view)), plain))
	})
}
