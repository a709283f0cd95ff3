//go:build unix

package ocifs

import (
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
)

// TestFoldFailsForGood counts how often a fold that fails is tried in an hour, and
// lets one succeed then.
func TestFoldFailsForGood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fsys := &faultFS{filesystem: newDisk(nil)}
		r, err := open(fsys, root, "", nil)
		qt.Assert(t, qt.IsNil(err))
		defer r.Close()
		_, err = r.PushManifest(t.Context(), "foo", "v1", []byte(`{}`), "text/plain")
		qt.Assert(t, qt.IsNil(err))
		fsys.arm(fault{call: 1, op: "rename", errno: syscall.EACCES, stays: true})
		time.Sleep(time.Hour)
		_, hits := fsys.record()
		qt.Check(t, qt.IsTrue(10 < len(hits) && len(hits) < 200), qt.Commentf("%d calls", len(hits)))
		fsys.arm(fault{})
		time.Sleep(2 * time.Minute)
		qt.Check(t, qt.HasLen(r.unfolded.all(), 0))
	})
}
