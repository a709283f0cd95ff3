package ocifs

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// TestUsage_CountsConcurrentPushesOfABlobOnce pushes each blob by several calls at
// once. Its bytes count once.
func TestUsage_CountsConcurrentPushesOfABlobOnce(t *testing.T) {
	t.Parallel()
	r, _ := openHooked(t, scratch.Kept(t), &Options{MaxBytes: 1 << 20})
	const blobs, size = 30, 100
	for i := range blobs {
		b := ocitest.NewBlob(uint64(i), size)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				_, err := r.PushBlob(t.Context(), "foo", b.Descriptor, b.NewReader())
				qt.Check(t, qt.IsNil(err))
			})
		}
		wg.Wait()
	}
	qt.Check(t, qt.Equals(r.quota.Used(), blobs*size))
}

// TestUsage_CountsUnfinishedFold counts the bytes of manifests that are in a journal
// and in files, and of a deleted manifest whose file still exists.
func TestUsage_CountsUnfinishedFold(t *testing.T) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		dir := scratch.Kept(t)
		opts := &Options{NoSync: true, MaxBytes: 1 << 20}
		r, h := openHooked(t, dir, opts)
		var digests []ociregistry.Digest
		for i := range 3 {
			desc, err := r.PushManifest(t.Context(), "foo", "", ocitest.NewBlob(uint64(i), 100).Bytes(), "text/plain")
			qt.Assert(t, qt.IsNil(err))
			digests = append(digests, desc.Digest)
		}
		foldSome(t, h, used(t, r, "foo"))
		qt.Assert(t, qt.IsNil(r.DeleteManifest(t.Context(), "foo", digests[0])))
		qt.Check(t, qt.Equals(r.quota.Used(), 200))
		next, _ := openHooked(t, dir, opts)
		qt.Check(t, qt.Equals(next.quota.Used(), 200))
	})
}

// A manifest that was deleted before it became a file is not counted by the next registry.
func TestUsed_LeavesOutManifestsDeletedInJournal(t *testing.T) {
	t.Parallel()
	dir := scratch.Kept(t)
	opts := &Options{NoSync: true, MaxBytes: 1 << 20}
	r, _ := openHooked(t, dir, opts)
	var desc ociregistry.Descriptor
	for i := range 2 {
		var err error
		desc, err = r.PushManifest(t.Context(), "foo", "", ocitest.NewBlob(uint64(i), 100).Bytes(), "text/plain")
		qt.Assert(t, qt.IsNil(err))
	}
	qt.Assert(t, qt.IsNil(r.DeleteManifest(t.Context(), "foo", desc.Digest)))
	qt.Check(t, qt.Equals(r.quota.Used(), 100))
	next, _ := openHooked(t, dir, opts)
	qt.Check(t, qt.Equals(next.quota.Used(), 100))
}

// TestUsedByDamagedManifest damages the file of a manifest, or removes it, and has it
// set aside, pushed again and deleted: whatever is done, what a registry has counted is
// what the next one counts.
func TestUsedByDamagedManifest(t *testing.T) {
	t.Parallel()
	image := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{100}})
	steps := map[string]func(t *testing.T, r *Registry, name string){
		"damage": func(t *testing.T, r *Registry, name string) {
			remake(t, name, strings.Repeat("x", len(image.Manifest)))
		},
		"remove": func(t *testing.T, r *Registry, name string) { qt.Assert(t, qt.IsNil(os.Remove(name))) },
		"repair": func(t *testing.T, r *Registry, name string) {
			for _, err := range r.Repair(t.Context()) {
				qt.Assert(t, qt.IsNil(err))
			}
		},
		"push": func(t *testing.T, r *Registry, name string) {
			qt.Assert(t, qt.IsNil(image.Push(t.Context(), r, "foo", "v1")))
		},
		"delete": func(t *testing.T, r *Registry, name string) {
			qt.Assert(t, qt.IsNil(r.DeleteManifest(t.Context(), "foo", image.Descriptor.Digest)))
		},
	}
	for _, before := range []string{"damage", "remove", ""} {
		for _, course := range []string{"repair", "push", "delete", "push push", "repair push", "repair delete", "repair push delete", "repair delete push", "push delete"} {
			t.Run(before+", then "+course, func(t *testing.T) {
				t.Parallel()
				dir := scratch.Dir(t)
				opts := &Options{NoSync: true, MaxBytes: 1 << 20}
				r, err := New(dir, opts)
				qt.Assert(t, qt.IsNil(err))
				_, err = r.PushBlob(t.Context(), "foo", ocitest.NewBlob(9, 50).Descriptor, ocitest.NewBlob(9, 50).NewReader())
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.IsNil(image.Push(t.Context(), r, "foo", "v1")))
				qt.Assert(t, qt.IsNil(r.Close()))
				name := blobs.Path(filepath.Join(dir, "foo"), image.Descriptor.Digest)
				if before != "" {
					steps[before](t, nil, name)
				}
				r, err = New(dir, opts)
				qt.Assert(t, qt.IsNil(err))
				for step := range strings.FieldsSeq(course) {
					steps[step](t, r, name)
				}
				used := r.quota.Used()
				qt.Assert(t, qt.IsNil(r.Close()))
				next, err := New(dir, opts)
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.Equals(used, next.quota.Used()))
				qt.Assert(t, qt.IsNil(next.Close()))
			})
		}
	}
}

// remake makes a file anew, with that text.
func remake(t *testing.T, name, text string) {
	t.Helper()
	qt.Assert(t, qt.IsNil(os.Remove(name)))
	qt.Assert(t, qt.IsNil(os.WriteFile(name, []byte(text), 0o666)))
}
