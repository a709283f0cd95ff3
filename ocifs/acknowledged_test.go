//go:build unix

package ocifs

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ocifs/internal/layout"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Calls that succeed are to be believed, whatever happens to what others write at
// the same time.

// pushText pushes a manifest that names nothing.
func pushText(ctx context.Context, r *Registry, repo, ref, contents string) error {
	_, err := r.PushManifest(ctx, repo, ref, []byte(contents), "text/plain")
	return err
}

// TestPush_SamePushesOfAFailedBatchAllFail lets the write of a batch fail that has
// several pushes of the same manifest.
func TestPush_SamePushesOfAFailedBatchAllFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		d := disktest.NewDisk(nil)
		fsys := &disktest.Faults{FS: d}
		r, err := open(fsys, root, "", nil)
		qt.Assert(t, qt.IsNil(err))
		defer r.Close()
		qt.Assert(t, qt.IsNil(pushText(ctx, r, "a", "old", "old")))
		lock, err := d.OpenFile(filepath.Join(root, "a", layout.PrivateDir, "journal"), os.O_RDWR, 0)
		qt.Assert(t, qt.IsNil(err))
		ok, err := d.TryLock(lock)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsTrue(ok))
		errs := make(chan error, 4)
		for range 3 {
			go func() { errs <- pushText(ctx, r, "a", "v1", "new") }()
		}
		go func() { errs <- r.DeleteTag(ctx, "a", "old") }()
		synctest.Wait()
		fsys.Arm(disktest.Fault{Op: "writeat", Call: 1, Errno: syscall.ENOSPC})
		lock.Close()
		for range 4 {
			qt.Check(t, qt.ErrorIs(<-errs, error(syscall.ENOSPC)))
		}
		_, err = r.ResolveTag(ctx, "a", "v1")
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrManifestUnknown)))
	})
}

// newTimedDisk returns a disk, and a function that sets after which calls the
// power goes off, or the process ends.
func newTimedDisk(seed uint64) (d *disktest.Disk, offAfter func(func(disktest.Call) bool)) {
	d = disktest.NewDisk(rand.New(rand.NewPCG(seed, 0)))
	var is func(disktest.Call) bool
	d.Yield = func() {
		d.Mu.Lock()
		defer d.Mu.Unlock()
		if n := len(d.Calls); is != nil && n > 0 && is(d.Calls[n-1]) {
			d.Off = true
		}
	}
	return d, func(f func(disktest.Call) bool) {
		d.Mu.Lock()
		defer d.Mu.Unlock()
		is = f
	}
}

func writesJournal(c disktest.Call) bool {
	return c.Op == "write" && filepath.Base(c.Name) == "journal"
}

// TestPush_RepeatedAfterKillIsDurable kills a process between the write of a push and
// its sync, and repeats the push in the next process. It finds everything in place,
// but must make it durable.
func TestPush_RepeatedAfterKillIsDurable(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"manifest", "blob"} {
		for seed := range uint64(20) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				blob := disktest.RandomBytes(1, 100)
				push := func(r *Registry) error {
					if what == "manifest" {
						return pushText(ctx, r, "a", "v1", "new")
					}
					desc := ociregistry.Descriptor{Digest: digest.FromBytes(blob), Size: int64(len(blob))}
					_, err := r.PushBlob(ctx, "a", desc, bytes.NewReader(blob))
					return err
				}
				d, offAfter := newTimedDisk(seed)
				r, err := open(d, root, "", nil)
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.IsNil(pushText(ctx, r, "a", "old", "old")))
				qt.Assert(t, qt.IsNil(r.Close()))
				r, err = open(d, root, "", nil)
				qt.Assert(t, qt.IsNil(err))
				offAfter(writesJournal)
				qt.Assert(t, qt.IsNotNil(push(r)))
				offAfter(nil)
				killed := d.Kill()
				r.Close()
				r, err = open(killed, root, "", nil)
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.IsNil(push(r)))
				after := killed.Cut()
				r.Close()
				r, err = open(after, root, "", nil)
				qt.Assert(t, qt.IsNil(err))
				defer r.Close()
				if what == "manifest" {
					_, err = r.ResolveTag(ctx, "a", "v1")
				} else {
					_, err = r.ResolveBlob(ctx, "a", digest.FromBytes(blob))
				}
				qt.Check(t, qt.IsNil(err), qt.Commentf("seed %d", seed))
			})
		}
	}
}

// TestRead_SeesWhatReplacedAnUndoneRecord lets a process read a record that another
// has written, cannot make durable, undoes, and replaces by a record of the same
// length.
func TestRead_SeesWhatReplacedAnUndoneRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		d := disktest.NewDisk(nil)
		var r2 *Registry
		var reading atomic.Bool
		d.Yield = func() {
			d.Mu.Lock()
			wrote := len(d.Calls) > 0 && writesJournal(d.Calls[len(d.Calls)-1])
			d.Mu.Unlock()
			if wrote && reading.CompareAndSwap(true, false) {
				_, err := r2.ResolveTag(ctx, "a", "v1")
				qt.Check(t, qt.IsNil(err))
			}
		}
		fsys := &disktest.Faults{FS: d}
		r1, err := open(fsys, root, "", nil)
		qt.Assert(t, qt.IsNil(err))
		defer r1.Close()
		r2, err = open(d, root, "", nil)
		qt.Assert(t, qt.IsNil(err))
		defer r2.Close()
		qt.Assert(t, qt.IsNil(pushText(ctx, r1, "a", "old", "old")))
		_, err = r2.ResolveTag(ctx, "a", "old")
		qt.Assert(t, qt.IsNil(err))

		fsys.Arm(disktest.Fault{Op: "sync", Call: 1, Errno: syscall.EIO})
		reading.Store(true)
		qt.Assert(t, qt.IsNotNil(pushText(ctx, r1, "a", "v1", "new")))
		qt.Assert(t, qt.IsFalse(reading.Load()))
		fsys.Arm(disktest.Fault{})
		qt.Assert(t, qt.IsNil(pushText(ctx, r1, "a", "v2", "new")))
		_, err = r2.ResolveTag(ctx, "a", "v2")
		qt.Check(t, qt.IsNil(err))
		_, err = r2.ResolveTag(ctx, "a", "v1")
		qt.Check(t, qt.IsNotNil(err))
		qt.Assert(t, qt.IsNil(pushText(ctx, r2, "a", "v3", "new")))
		_, err = r1.ResolveTag(ctx, "a", "v3")
		qt.Check(t, qt.IsNil(err))
	})
}

// TestDelete_StaysDeletedAfterPowerCut cuts the power while the last content of a
// repository is deleted. What was deleted before must not come back.
func TestDelete_StaysDeletedAfterPowerCut(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			rnd := rand.New(rand.NewPCG(seed, 0))
			d := disktest.NewDisk(rnd)
			r, err := open(d, root, "", nil)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.IsNil(pushText(ctx, r, "a", "v1", "one")))
			qt.Assert(t, qt.IsNil(pushText(ctx, r, "a", "v2", "two")))
			if seed%2 == 0 {
				qt.Assert(t, qt.IsNil(pushText(ctx, r, "a/b", "v", "three")))
			}
			qt.Assert(t, qt.IsNil(r.Close()))
			r, err = open(d, root, "", nil)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.IsNil(r.DeleteManifest(ctx, "a", digest.FromString("one"))))
			d.Mu.Lock()
			d.CutAt = len(d.Calls) + 10 + rnd.IntN(40)
			d.Mu.Unlock()
			err = r.DeleteManifest(ctx, "a", digest.FromString("two"))
			after := d.Cut()
			r.Close()
			r, err2 := open(after, root, "", nil)
			qt.Assert(t, qt.IsNil(err2))
			defer r.Close()
			_, err2 = r.ResolveManifest(ctx, "a", digest.FromString("one"))
			qt.Check(t, qt.IsNotNil(err2), qt.Commentf("seed %d", seed))
			if err == nil {
				_, err2 = r.ResolveManifest(ctx, "a", digest.FromString("two"))
				qt.Check(t, qt.IsNotNil(err2), qt.Commentf("seed %d", seed))
			}
		})
	}
}

// TestPush_IntoLayoutOfDeadProcessIsDurable kills a process that has just made a
// layout, whose name is not durable yet. What the next process pushes there must be.
func TestPush_IntoLayoutOfDeadProcessIsDurable(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 20_000} {
		for seed := range uint64(20) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				blob := disktest.RandomBytes(1, size)
				push := func(r *Registry) error {
					if size == 0 {
						return pushText(ctx, r, "a/b", "v1", "new")
					}
					desc := ociregistry.Descriptor{Digest: digest.FromBytes(blob), Size: int64(len(blob))}
					_, err := r.PushBlob(ctx, "a/b", desc, bytes.NewReader(blob))
					return err
				}
				d, offAfter := newTimedDisk(seed)
				r, err := open(d, root, "", nil)
				qt.Assert(t, qt.IsNil(err))
				offAfter(func(c disktest.Call) bool { return c.Op == "rename" && c.To == filepath.Join(root, "a", "b") })
				qt.Assert(t, qt.IsNotNil(pushText(ctx, r, "a/b", "v0", "old")))
				offAfter(nil)
				killed := d.Kill()
				r.Close()
				r, err = open(killed, root, "", nil)
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.IsNil(push(r)))
				after := killed.Cut()
				r.Close()
				r, err = open(after, root, "", nil)
				qt.Assert(t, qt.IsNil(err))
				defer r.Close()
				if size == 0 {
					_, err = r.ResolveTag(ctx, "a/b", "v1")
				} else {
					_, err = r.ResolveBlob(ctx, "a/b", digest.FromBytes(blob))
				}
				qt.Check(t, qt.IsNil(err), qt.Commentf("seed %d, size %d", seed, size))
			})
		}
	}
}
