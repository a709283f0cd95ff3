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

	"github.com/seed-40b21970/oci/ociregistry"
)

// Calls that succeed are to be believed, whatever happens to what others write at
// the same time.

// pushText pushes a manifest that names nothing.
func pushText(ctx context.Context, r *Registry, repo, ref, contents string) error {
	_, err := r.PushManifest(ctx, repo, ref, []byte(contents), "text/plain")
	return err
}

// TestSamePushesFailTogether checks that when the batch of several pushes of the same
// cannot be written, none of them succeeds.
func TestSamePushesFailTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		d := newDisk(nil)
		fsys := &faultFS{filesystem: d}
		r, err := open(fsys, root, "", nil)
		qt.Assert(t, qt.IsNil(err))
		defer r.Close()
		qt.Assert(t, qt.IsNil(pushText(ctx, r, "a", "old", "old")))
		lock, err := d.OpenFile(filepath.Join(root, "a", privateDir, "journal"), os.O_RDWR, 0)
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
		fsys.arm(fault{op: "writeat", call: 1, errno: syscall.ENOSPC})
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
func newTimedDisk(seed uint64) (d *disk, offAfter func(func(diskCall) bool)) {
	d = newDisk(rand.New(rand.NewPCG(seed, 0)))
	var is func(diskCall) bool
	d.yield = func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if n := len(d.calls); is != nil && n > 0 && is(d.calls[n-1]) {
			d.off = true
		}
	}
	return d, func(f func(diskCall) bool) {
		d.mu.Lock()
		defer d.mu.Unlock()
		is = f
	}
}

func writesJournal(c diskCall) bool { return c.op == "write" && filepath.Base(c.name) == "journal" }

// TestSamePushAfterKill kills a process between the write of a push and its sync, and
// makes the same push of the next process: that is durable, although it finds that
// all is there.
func TestSamePushAfterKill(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"manifest", "blob"} {
		for seed := range uint64(20) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				blob := randomBytes(1, 100)
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
				killed := d.kill()
				r.Close()
				r, err = open(killed, root, "", nil)
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.IsNil(push(r)))
				after := killed.cut()
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

// TestReadOfWhatWasTakenBack lets a process read what another has written, cannot
// make durable and takes back, and writes something as long in its place.
func TestReadOfWhatWasTakenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		d := newDisk(nil)
		var r2 *Registry
		var reading atomic.Bool
		d.yield = func() {
			d.mu.Lock()
			wrote := len(d.calls) > 0 && writesJournal(d.calls[len(d.calls)-1])
			d.mu.Unlock()
			if wrote && reading.CompareAndSwap(true, false) {
				_, err := r2.ResolveTag(ctx, "a", "v1")
				qt.Check(t, qt.IsNil(err))
			}
		}
		fsys := &faultFS{filesystem: d}
		r1, err := open(fsys, root, "", nil)
		qt.Assert(t, qt.IsNil(err))
		defer r1.Close()
		r2, err = open(d, root, "", nil)
		qt.Assert(t, qt.IsNil(err))
		defer r2.Close()
		qt.Assert(t, qt.IsNil(pushText(ctx, r1, "a", "old", "old")))
		_, err = r2.ResolveTag(ctx, "a", "old")
		qt.Assert(t, qt.IsNil(err))

		fsys.arm(fault{op: "sync", call: 1, errno: syscall.EIO})
		reading.Store(true)
		qt.Assert(t, qt.IsNotNil(pushText(ctx, r1, "a", "v1", "new")))
		qt.Assert(t, qt.IsFalse(reading.Load()))
		fsys.arm(fault{})
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

// TestDeletedStaysDeleted cuts the power while the last of a repository is deleted:
// what was deleted before does not come back.
func TestDeletedStaysDeleted(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			rnd := rand.New(rand.NewPCG(seed, 0))
			d := newDisk(rnd)
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
			d.mu.Lock()
			d.cutAt = len(d.calls) + 10 + rnd.IntN(40)
			d.mu.Unlock()
			err = r.DeleteManifest(ctx, "a", digest.FromString("two"))
			after := d.cut()
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

// TestLayoutThatAnotherMade kills a process that has just made a layout, whose name
// is not durable yet. What the next one pushes there is.
func TestLayoutThatAnotherMade(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 20_000} {
		for seed := range uint64(20) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				blob := randomBytes(1, size)
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
				offAfter(func(c diskCall) bool { return c.op == "rename" && c.to == filepath.Join(root, "a", "b") })
				qt.Assert(t, qt.IsNotNil(pushText(ctx, r, "a/b", "v0", "old")))
				offAfter(nil)
				killed := d.kill()
				r.Close()
				r, err = open(killed, root, "", nil)
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.IsNil(push(r)))
				after := killed.cut()
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
