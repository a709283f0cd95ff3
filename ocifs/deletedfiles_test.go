package ocifs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// TestReadWhileDeletedFilesGo reads manifests that only an index names while a fold
// removes the files of deleted ones. It is for the race detector.
func TestReadWhileDeletedFilesGo(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := scratch.Kept(t)
	child := ocitest.NewImage(ocitest.Spec{Seed: 1})
	index := ocitest.NewIndex(ocitest.Spec{}, child)
	fsys := new(disktest.Hooks)
	r, err := open(fsys, dir, "", &Options{NoSync: true})
	qt.Assert(t, qt.IsNil(err))
	defer r.Close()
	must := ocitest.NewRegistry(t, r)
	must.MustPush("a", index, "v1")
	var images []*ocitest.Artifact
	for i := range 100 {
		images = append(images, ocitest.NewIndex(ocitest.Spec{Annotations: map[string]string{"n": fmt.Sprint(i)}}))
		must.MustPush("a", images[i])
	}
	qt.Assert(t, qt.IsNil(r.Close()))

	// Another program takes the child out of index.json.
	name := filepath.Join(dir, "a", "index.json")
	text, err := os.ReadFile(name)
	qt.Assert(t, qt.IsNil(err))
	var lines []string
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, string(child.Descriptor.Digest)) {
			lines = append(lines, line)
		}
	}
	rewrite := func() { qt.Assert(t, qt.IsNil(os.WriteFile(name, []byte(strings.Join(lines, "")), 0o666))) }
	rewrite()

	r, err = open(fsys, dir, "", &Options{NoSync: true})
	qt.Assert(t, qt.IsNil(err))
	for _, a := range images {
		qt.Assert(t, qt.IsNil(r.DeleteManifest(ctx, "a", a.Descriptor.Digest)))
	}
	rewrite() // so that indexes are read again
	_, err = r.ResolveTag(ctx, "a", "v1")
	qt.Assert(t, qt.IsNil(err))
	var once sync.Once
	var reading sync.WaitGroup
	fsys.Set(func(op, name string) error {
		if op == "Remove" && strings.HasSuffix(filepath.Dir(name), filepath.Join("a", "blobs", "sha256")) {
			once.Do(func() { reading.Go(func() { r.ResolveBlob(ctx, "a", child.Blobs[0].Descriptor.Digest) }) })
		}
		return nil
	})
	repo := used(t, r, "a")
	qt.Check(t, qt.IsNil(repo.Fold(ctx)))
	reading.Wait()
	qt.Check(t, qt.IsNil(r.Close()))
}
