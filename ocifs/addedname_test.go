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

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// TestPushManifest_SyncsNameOfBlobBeingAdded pushes a manifest after a blob has got
// its name, and before the name is durable. The push must make the name durable
// first.
func TestPushManifest_SyncsNameOfBlobBeingAdded(t *testing.T) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		ctx := t.Context()
		dir := scratch.Kept(t)
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
		h.Set(func(op, name string) error {
			switch {
			case op == "SyncDir" && name == blobs:
				syncs++
			case op == "Link" && strings.HasPrefix(name, filepath.Join(dir, ".ocifs", "blobs")): // in foo it has been linked
				_, pushErr = r.PushManifest(ctx, "foo", "v1", []byte(contents), "application/vnd.oci.image.manifest.v1+json")
				before = syncs
			}
			return nil
		})
		_, err := r.PushBlob(ctx, "foo", b.Descriptor, b.NewReader())
		h.Set(nil)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.IsNil(pushErr))
		qt.Check(t, qt.Not(qt.Equals(before, 0)))
	})
}

// TestPushManifest_SyncsNameAddedByOtherRegistry stops a push of a blob before its
// name is durable, while another Registry of the same directory, as in another
// process, pushes a manifest that names it. The manifest must not be durable before
// the blob. If there is no other Registry, that costs nothing.
func TestPushManifest_SyncsNameAddedByOtherRegistry(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	data := bytes.Repeat([]byte("x"), smallBlob+1)
	blob := ociregistry.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromBytes(data), Size: int64(len(data))}
	image := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{"mediaType":"` +
		blob.MediaType + `","digest":"` + string(blob.Digest) + `","size":` + "16385" + `},"layers":[]}`)

	tests := []struct {
		name    string
		another bool // the manifest is pushed by another Registry
		adding  bool // while the blob is added
		want    bool // that the directory of blobs is synced before the journal
	}{
		{"nobody", false, false, false},
		{"another that is adding it", true, true, true},
		{"another that has added it", true, false, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			disktest.Still(t, func(t *testing.T) {
				dir := scratch.Kept(t)
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
				added, goOn := make(chan struct{}), make(chan struct{})
				reached := sync.OnceFunc(func() { close(added) })
				firstFS.Set(func(op, name string) error {
					if op != "SyncDir" || name != blobs {
						return nil
					}
					if _, err := os.Lstat(filepath.Join(blobs, blob.Digest.Encoded())); err == nil { // else it is a fold
						reached()
						<-goOn
					}
					return nil
				})
				if !test.adding {
					close(goOn)
				}
				var push sync.WaitGroup
				push.Go(func() {
					_, err := first.PushBlob(ctx, "foo", blob, bytes.NewReader(data))
					qt.Check(t, qt.IsNil(err))
				})
				<-added
				if !test.adding {
					push.Wait()
				}

				var mu sync.Mutex
				var synced []string
				fsys.Set(func(op, name string) error {
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
				if test.adding {
					close(goOn)
				}
				push.Wait()
				want := []string{"journal"}
				if test.want {
					want = []string{"blobs", "journal"}
				}
				qt.Check(t, qt.DeepEquals(got, want))
			})
		})
	}
}

// TestMountBlob_NeverReplacesIntactByDamaged mounts a truncated blob over an intact
// one, and the other way round.
func TestMountBlob_NeverReplacesIntactByDamaged(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := scratch.Kept(t)
	r, _ := openHooked(t, dir, &Options{NoSync: true})
	b := ocitest.NewBlob(1, 40_000)
	for _, name := range []string{"a", "b"} {
		_, err := r.PushBlob(ctx, name, b.Descriptor, b.NewReader())
		qt.Assert(t, qt.IsNil(err))
	}
	file := blobs.Path(filepath.Join(dir, "a"), b.Descriptor.Digest)
	qt.Assert(t, qt.IsNil(os.Remove(file)))
	qt.Assert(t, qt.IsNil(os.WriteFile(file, []byte("cut short"), disk.FilePerm)))
	_, err := r.MountBlob(ctx, "a", "b", b.Descriptor.Digest)
	qt.Check(t, qt.IsNotNil(err))
	got, err := r.ResolveBlob(ctx, "b", b.Descriptor.Digest)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(got.Size, b.Descriptor.Size))

	// The other way round, the intact one replaces the damaged one.
	_, err = r.MountBlob(ctx, "b", "a", b.Descriptor.Digest)
	qt.Assert(t, qt.IsNil(err))
	got, err = r.ResolveBlob(ctx, "a", b.Descriptor.Digest)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(got.Size, b.Descriptor.Size))
}
