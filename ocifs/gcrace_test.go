package ocifs

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// raceCalls are calls that say that content is there, which is garbage, and how to see
// whether it is.
var raceCalls = []struct {
	name string
	say  func(ctx context.Context, r *Registry, g *raceGarbage) error
	read func(ctx context.Context, r *Registry, g *raceGarbage) (ociregistry.BlobReader, error)
}{
	{"ResolveBlob", func(ctx context.Context, r *Registry, g *raceGarbage) error {
		_, err := r.ResolveBlob(ctx, "app", g.blob.Descriptor.Digest)
		return err
	}, readRaceBlob},
	{"MountBlob", func(ctx context.Context, r *Registry, g *raceGarbage) error {
		_, err := r.MountBlob(ctx, "", "app", g.blob.Descriptor.Digest)
		return err
	}, readRaceBlob},
	{"PushBlob large", func(ctx context.Context, r *Registry, g *raceGarbage) error {
		_, err := r.PushBlob(ctx, "app", g.blob.Descriptor, g.blob.NewReader())
		return err
	}, readRaceBlob},
	{"PushBlob small", func(ctx context.Context, r *Registry, g *raceGarbage) error {
		_, err := r.PushBlob(ctx, "app", g.small.Descriptor, g.small.NewReader())
		return err
	}, readRaceSmall},
	{"ResolveManifest", func(ctx context.Context, r *Registry, g *raceGarbage) error {
		_, err := r.ResolveManifest(ctx, "app", g.image.Descriptor.Digest)
		return err
	}, readRaceManifest},
	{"PushManifest", func(ctx context.Context, r *Registry, g *raceGarbage) error {
		return g.image.Push(ctx, r, "app")
	}, readRaceManifest},
	{"PushManifest after a delete", func(ctx context.Context, r *Registry, g *raceGarbage) error {
		if err := r.DeleteManifest(ctx, "app", g.image.Descriptor.Digest); err != nil {
			return err
		}
		return g.image.Push(ctx, r, "app")
	}, readRaceManifest},
	{"PushBlob small after a delete", func(ctx context.Context, r *Registry, g *raceGarbage) error {
		if err := r.DeleteBlob(ctx, "app", g.small.Descriptor.Digest); err != nil {
			return err
		}
		_, err := r.PushBlob(ctx, "app", g.small.Descriptor, g.small.NewReader())
		return err
	}, readRaceSmall},
	{"PushManifest that names it", func(ctx context.Context, r *Registry, g *raceGarbage) error {
		_, err := r.PushManifest(ctx, "app", "v1", g.index.Manifest, g.index.Descriptor.MediaType)
		return err
	}, readRaceManifest},
}

// raceGarbage is garbage in the repository app.
type raceGarbage struct {
	blob, small ocitest.Blob
	image       *ocitest.Artifact
	index       *ocitest.Artifact // which is not there, and names it
}

func readRaceBlob(ctx context.Context, r *Registry, g *raceGarbage) (ociregistry.BlobReader, error) {
	return r.GetBlob(ctx, "app", g.blob.Descriptor.Digest)
}

func readRaceSmall(ctx context.Context, r *Registry, g *raceGarbage) (ociregistry.BlobReader, error) {
	return r.GetBlob(ctx, "app", g.small.Descriptor.Digest)
}

func readRaceManifest(ctx context.Context, r *Registry, g *raceGarbage) (ociregistry.BlobReader, error) {
	return r.GetManifest(ctx, "app", g.image.Descriptor.Digest)
}

// newRaceGarbage makes a directory with garbage that is old.
func newRaceGarbage(t *testing.T) (dir string, g *raceGarbage) {
	dir = scratch.Kept(t)
	g = &raceGarbage{blob: ocitest.NewBlob(1, 20_000), small: ocitest.NewBlob(2, 100), image: ocitest.NewImage(ocitest.Spec{Seed: 3, Layers: []int64{100}})}
	g.index = ocitest.NewIndex(ocitest.Spec{}, g.image)
	r, err := New(dir, &Options{NoSync: true})
	qt.Assert(t, qt.IsNil(err))
	for _, b := range []ocitest.Blob{g.blob, g.small} {
		_, err := r.PushBlob(t.Context(), "app", b.Descriptor, b.NewReader())
		qt.Assert(t, qt.IsNil(err))
	}
	qt.Assert(t, qt.IsNil(g.image.Push(t.Context(), r, "app")))
	qt.Assert(t, qt.IsNil(ocitest.NewImage(ocitest.Spec{Seed: 4}).Push(t.Context(), r, "app", "kept")))
	qt.Assert(t, qt.IsNil(r.Close()))
	old := time.Now().Add(-2 * time.Hour)
	qt.Assert(t, qt.IsNil(filepath.WalkDir(filepath.Join(dir, "app", "blobs"), func(name string, d fs.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(name, old, old))
	})))
	return dir, g
}

var raceLong = flag.Bool("gc.races", false, "make a call at each point of a collection")

// TestGC_WhatIsSaidToBeThereStays makes a call in another process before each call of the
// system of a collection. If the call succeeds, what it has said is true after the collection.
func TestGC_WhatIsSaidToBeThereStays(t *testing.T) {
	t.Parallel()
	step := 7
	if *raceLong {
		step = 1
	}
	for i, call := range raceCalls {
		for _, warm := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,warm=%t", call.name, warm), func(t *testing.T) {
				t.Parallel()
				kept, gone := 0, 0
				for at := 1 + i%step; ; at += step {
					more := false
					synctest.Test(t, func(t *testing.T) {
						ctx := t.Context()
						dir, g := newRaceGarbage(t)
						collecting, hooks := openHooked(t, dir, &Options{NoSync: true})
						other, _ := openHooked(t, dir, &Options{NoSync: true})
						synctest.Wait()
						if warm {
							ociregistry.All(other.Tags(ctx, "app", ""))
							ociregistry.All(collecting.Tags(ctx, "app", ""))
						}
						said := make(chan error, 1)
						var n atomic.Int64
						hooks.Set(func(string, string) error {
							if n.Add(1) == int64(at) {
								more = true
								go func() { said <- call.say(ctx, other, g) }()
								synctest.Wait() // it is done, or waits for the collection
							}
							return nil
						})
						report, err := collecting.GC(ctx, &ocigc.Options{Untagged: true, Dangling: true})
						hooks.Set(nil)
						qt.Assert(t, qt.IsNil(err))
						qt.Assert(t, qt.HasLen(report.Problems, 0))
						if !more {
							return
						}
						if err := <-said; err != nil {
							gone++
							return
						}
						kept++
						for _, r := range []*Registry{collecting, other} {
							rd, err := call.read(ctx, r, g)
							qt.Assert(t, qt.IsNil(err), qt.Commentf("call %d", at))
							rd.Close()
						}
					})
					if !more || t.Failed() {
						break
					}
				}
				t.Logf("%d times it is there, %d times it is gone", kept, gone)
				qt.Check(t, qt.IsTrue(kept > 3), qt.Commentf("%d and %d", kept, gone))
			})
		}
	}
}

// A collection that ends when it has announced what it may delete has deleted nothing.
func TestGC_WhatADeadProcessHasAnnouncedStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir, g := newRaceGarbage(t)
		dead, hooks := openHooked(t, dir, &Options{NoSync: true})
		synctest.Wait() // for what opening does in the background
		var announced atomic.Bool
		hooks.Set(func(op, name string) error {
			if announced.Load() {
				return fs.ErrInvalid
			}
			announced.Store(op == "file.WriteAt" && filepath.Base(name) == "journal")
			return nil
		})
		report, err := dead.GC(t.Context(), &ocigc.Options{Untagged: true})
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsTrue(len(report.Problems) > 0))
		qt.Assert(t, qt.HasLen(report.Findings, 0))
		dead.Close()
		other, _ := openHooked(t, dir, &Options{NoSync: true})
		for _, call := range raceCalls {
			qt.Check(t, qt.IsNil(call.say(t.Context(), other, g)), qt.Commentf("%s", call.name))
		}
		report, err = other.GC(t.Context(), &ocigc.Options{Untagged: true})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(report.Findings, 0))
		qt.Check(t, qt.HasLen(report.Problems, 0))
	})
}
