//go:build unix

package ocifs

import (
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
)

// TestFold_IsRetriedLessAndLessOften counts the attempts of a failing fold within an
// hour, and then lets one succeed.
func TestFold_IsRetriedLessAndLessOften(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fsys := &disktest.Faults{FS: disktest.NewDisk(nil)}
		r, err := open(fsys, root, "", nil)
		qt.Assert(t, qt.IsNil(err))
		defer r.Close()
		_, err = r.PushManifest(t.Context(), "foo", "v1", []byte(`{}`), "text/plain")
		qt.Assert(t, qt.IsNil(err))
		fsys.Arm(disktest.Fault{Call: 1, Op: "rename", Errno: syscall.EACCES, Stays: true})
		time.Sleep(time.Hour)
		_, hits := fsys.Record()
		qt.Check(t, qt.IsTrue(10 < len(hits) && len(hits) < 200), qt.Commentf("%d calls", len(hits)))
		fsys.Arm(disktest.Fault{})
		time.Sleep(2 * time.Minute)
		qt.Check(t, qt.HasLen(r.repos.Unfolded(), 0))
	})
}
