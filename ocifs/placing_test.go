package ocifs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// TestManifestOfBlobBeingPlaced pushes a manifest between the moment at which a
// blob gets its name and that at which the name is durable: that is then made
// durable first.
func TestManifestOfBlobBeingPlaced(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := KeptDir(t)
	r, h := openHooked(t, dir, nil)
	for _, text := range []string{"1", "2"} { // and it is anchored
		_, err := r.PushManifest(ctx, "foo", "", []byte(text), "text/plain")
		qt.Assert(t, qt.IsNil(err))
	}
	b := ocitest.NewBlob(1, 100_000)
	contents := fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":"x/y","digest":%q,"size":%d},"layers":[]}`, b.Descriptor.Digest, b.Descriptor.Size)

	blobs := filepath.Join(dir, "foo", "blobs", "sha256")
	var syncs, before int
	var pushErr error
	h.set(func(op, name string) error {
		switch {
		case op == "SyncDir" && name == blobs:
			syncs++
		case op == "Link" && strings.HasPrefix(name, r.store.pool): // in foo it has been linked
			_, pushErr = r.PushManifest(ctx, "foo", "v1", []byte(contents), "application/vnd.oci.image.manifest.v1+json")
			before = syncs
		}
		return nil
	})
	_, err := r.PushBlob(ctx, "foo", b.Descriptor, b.NewReader())
	h.set(nil)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(pushErr))
	qt.Check(t, qt.Not(qt.Equals(before, 0)))
}

// TestPlacedByAnother stops a push of a blob before its name is durable, while a
// manifest that names it is pushed by another Registry of the same directory, as
// another process has it. The manifest may not be durable before the blob is. When
// nobody else is there, that costs nothing.
func TestPlacedByAnother(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	data := bytes.Repeat([]byte("x"), smallBlob+1)
	blob := ociregistry.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromBytes(data), Size: int64(len(data))}
	image := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{"mediaType":"` +
		blob.MediaType + `","digest":"` + string(blob.Digest) + `","size":` + "16385" + `},"layers":[]}`)

	tests := []struct {
		name    string
		another bool // the manifest is pushed by another Registry
		placing bool // while the blob is placed
		want    bool // that the directory of blobs is synced before the journal
	}{
		{"nobody", false, false, false},
		{"another that places it", true, true, true},
		{"another that has placed it", true, false, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := KeptDir(t)
			first, firstFS := openHooked(t, dir, nil)
			reg, fsys := first, firstFS
			if test.another {
				reg, fsys = openHooked(t, dir, nil)
			}
			for _, r := range []*Registry{first, reg} { // the first push of each makes more durable
				_, err := r.PushManifest(ctx, "foo", "before", []byte(`{"schemaVersion":2,"manifests":[]}`), ocispec.MediaTypeImageIndex)
				qt.Assert(t, qt.IsNil(err))
			}

			blobs := filepath.Join(dir, "foo", "blobs", "sha256")
			placed, goOn := make(chan struct{}), make(chan struct{})
			reached := sync.OnceFunc(func() { close(placed) })
			firstFS.set(func(op, name string) error {
				if op == "SyncDir" && name == blobs {
					reached()
					<-goOn
				}
				return nil
			})
			if !test.placing {
				close(goOn)
			}
			var push sync.WaitGroup
			push.Go(func() {
				_, err := first.PushBlob(ctx, "foo", blob, bytes.NewReader(data))
				qt.Check(t, qt.IsNil(err))
			})
			<-placed
			if !test.placing {
				push.Wait()
			}

			var mu sync.Mutex
			var synced []string
			fsys.set(func(op, name string) error {
				mu.Lock()
				defer mu.Unlock()
				switch {
				case op == "SyncDir" && name == blobs:
					synced = append(synced, "blobs")
				case op == "file.Sync" && strings.Contains(name, "journal"):
					synced = append(synced, "journal")
				}
				return nil
			})
			_, err := reg.PushManifest(ctx, "foo", "tag", image, ocispec.MediaTypeImageManifest)
			qt.Assert(t, qt.IsNil(err))
			mu.Lock()
			got := slices.Clone(synced)
			mu.Unlock()
			if test.placing {
				close(goOn)
			}
			push.Wait()
			want := []string{"journal"}
			if test.want {
				want = []string{"blobs", "journal"}
			}
			qt.Check(t, qt.DeepEquals(got, want))
		})
	}
}

// TestMountOfDamagedBlob mounts a blob that is cut short over a sound one.
func TestMountOfDamagedBlob(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := KeptDir(t)
	r, _ := openHooked(t, dir, &Options{NoSync: true})
	b := ocitest.NewBlob(1, 40_000)
	for _, name := range []string{"a", "b"} {
		_, err := r.PushBlob(ctx, name, b.Descriptor, b.NewReader())
		qt.Assert(t, qt.IsNil(err))
	}
	file := blobPath(filepath.Join(dir, "a"), b.Descriptor.Digest)
	qt.Assert(t, qt.IsNil(os.Remove(file)))
	qt.Assert(t, qt.IsNil(os.WriteFile(file, []byte("cut short"), filePerm)))
	_, err := r.MountBlob(ctx, "a", "b", b.Descriptor.Digest)
	qt.Check(t, qt.IsNotNil(err))
	got, err := r.ResolveBlob(ctx, "b", b.Descriptor.Digest)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(got.Size, b.Descriptor.Size))

	// The other way round, the sound one replaces the damaged one.
	_, err = r.MountBlob(ctx, "b", "a", b.Descriptor.Digest)
	qt.Assert(t, qt.IsNil(err))
	got, err = r.ResolveBlob(ctx, "a", b.Descriptor.Digest)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(got.Size, b.Descriptor.Size))
}
