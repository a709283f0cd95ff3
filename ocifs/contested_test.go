package ocifs_test

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

const contestedRepo = "contested"

// contested returns images that have layers in common, and indexes of them.
func contested(n int) *ocitest.Artifact {
	image := func(n int) *ocitest.Artifact {
		return ocitest.NewImage(ocitest.Spec{Seed: uint64(n % 4), Layers: []int64{int64(1000 * (1 + n%3)), 20_000}, Annotations: map[string]string{"n": strconv.Itoa(n)}})
	}
	if n%5 == 4 {
		return ocitest.NewIndex(ocitest.Spec{}, image(n-1), image(n-2))
	}
	return image(n)
}

const contestedImages = 10

// TestDeletingAndPushingProcesses lets one process delete what others push. With
// OCIFS_FULL it runs longer.
func TestDeletingAndPushingProcesses(t *testing.T) {
	t.Parallel()
	s := sharedRoot{Root: scratch.Kept(t), Tags: 80}
	if os.Getenv("OCIFS_FULL") != "" {
		s.Tags = 300
	}
	var children []*child
	for _, s.Name = range []string{"push", "delete", "both"} {
		children = append(children, startChild(t, "delete", s, os.Stderr))
	}
	for _, c := range children {
		<-c.ended
		qt.Check(t, qt.IsNil(c.err))
	}

	ctx := context.Background()
	reg, err := ocifs.New(s.Root, nil)
	qt.Assert(t, qt.IsNil(err))
	tags, err := ociregistry.All(reg.Tags(ctx, contestedRepo, ""))
	qt.Assert(t, qt.IsNil(err))
	for _, tag := range tags {
		qt.Check(t, qt.IsNil(readWhole(reg, contestedRepo, tag)), qt.Commentf("%s", tag))
	}
	there := make(map[string]bool)
	for n := range contestedImages {
		d := contested(n).Descriptor.Digest
		r, err := reg.GetManifest(ctx, contestedRepo, d)
		if err == nil {
			there[string(d)] = true
			qt.Check(t, qt.IsNil(readManifest(reg, contestedRepo, r)), qt.Commentf("manifest %d", n))
		}
	}
	qt.Assert(t, qt.IsNil(reg.Close()))
	index, err := readDiskIndex(filepath.Join(s.Root, contestedRepo))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(index.tags, len(tags)))
	for d := range there {
		qt.Check(t, qt.IsTrue(index.digests[d]), qt.Commentf("%s", d))
	}
}

// deleteChild pushes or deletes, as its name says, until so many calls succeeded.
func deleteChild(config []byte, _ <-chan struct{}) error {
	var s sharedRoot
	if err := json.Unmarshal(config, &s); err != nil {
		return err
	}
	reg, err := ocifs.New(s.Root, nil)
	if err != nil {
		return err
	}
	const goroutines = 4
	var wg sync.WaitGroup
	errs := make([]error, goroutines)
	for g := range goroutines {
		wg.Go(func() {
			for n := 0; n < s.Tags && errs[g] == nil; n++ {
				if s.Name == "push" || s.Name == "both" && n%2 == 0 {
					errs[g] = pushContested(reg)
				} else {
					errs[g] = deleteContested(reg)
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, reg.Close())...)
}

func pushContested(reg ociregistry.Interface) error {
	tag := strconv.Itoa(rand.IntN(10))
	err := contested(rand.IntN(contestedImages)).Push(context.Background(), reg, contestedRepo, tag, tag+"-too")
	if errors.Is(err, ociregistry.ErrManifestBlobUnknown) {
		return nil // it was just deleted
	}
	return err
}

func deleteContested(reg ociregistry.Interface) error {
	ctx := context.Background()
	a := contested(rand.IntN(contestedImages))
	var err error
	switch k := rand.IntN(4); {
	case k == 0:
		err = reg.DeleteTag(ctx, contestedRepo, strconv.Itoa(rand.IntN(10)))
	case k == 1 || a.Blobs == nil:
		err = reg.DeleteManifest(ctx, contestedRepo, a.Descriptor.Digest)
	default:
		err = reg.DeleteBlob(ctx, contestedRepo, a.Blobs[rand.IntN(len(a.Blobs))].Descriptor.Digest)
	}
	for _, expected := range []error{ociregistry.ErrInUse, ociregistry.ErrNameUnknown, ociregistry.ErrBlobUnknown, ociregistry.ErrManifestUnknown} {
		if errors.Is(err, expected) {
			return nil
		}
	}
	return err
}
