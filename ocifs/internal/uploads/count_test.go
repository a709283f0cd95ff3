package uploads

import (
	"syscall"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// The number of sessions with bytes is limited. A refused one leaves nothing behind,
// and can continue later.
func TestMaxUploads_RefusesOneMore(t *testing.T) {
	t.Parallel()
	for _, size := range []int{10, MaxSmall + 1} {
		tt := newUploadTest(t)
		tt.u.count.max = 3
		data := disktest.RandomBytes(1, size)
		var open []*writer
		for range tt.u.count.max {
			w := tt.start()
			tt.write(w, data)
			open = append(open, w)
		}
		late := tt.start() // without bytes there may be any number
		_, err := late.Write(data)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrTooManyRequests))
		_, err = late.Write(nil)
		qt.Check(t, qt.IsNotNil(err)) // this writer has failed
		qt.Check(t, qt.IsNil(late.Close()))
		tt.write(open[0], data) // those that are there go on
		qt.Check(t, qt.IsNil(open[1].Close()))
		late = tt.resume(tt.u, late.ID(), 0)
		_, err = late.Write(data)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrTooManyRequests))
		qt.Check(t, qt.IsNil(late.Close()))
		files, err := tt.u.countFiles()
		qt.Check(t, qt.IsNil(err))

		// Each end makes room for one.
		_, err = open[0].Commit(digest.FromBytes(append(data, data...)))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(files <= 3))
		late = tt.resume(tt.u, late.ID(), 0)
		tt.write(late, data)
		refused := tt.start()
		_, err = refused.Write(data)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrTooManyRequests))
		qt.Check(t, qt.IsNil(refused.Close()))
		qt.Check(t, qt.IsNil(open[1].Cancel()))
		refused = tt.resume(tt.u, refused.ID(), 0)
		tt.write(refused, data)
		for _, w := range []*writer{open[2], late, refused} {
			qt.Check(t, qt.IsNil(w.Cancel()))
		}
		tt.checkNoFiles()
		qt.Check(t, qt.Equals(tt.u.count.n, 0))
		qt.Check(t, qt.Equals(tt.u.count.memory, 0))
	}
}

// A session whose first bytes cannot be stored does not count once its writer is
// closed.
func TestMaxUploads_DoesNotCountFailedSessions(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	tt.u.count.max = 1
	for _, size := range []int{10, MaxSmall + 1} {
		w := tt.start()
		tt.FS.Set(disktest.Failing("file.WriteAt", syscall.ENOSPC))
		_, err := w.Write(disktest.RandomBytes(1, size))
		if err == nil {
			err = w.Close()
		}
		qt.Check(t, qt.ErrorIs(err, error(syscall.ENOSPC)))
		tt.FS.Set(nil)
		qt.Check(t, qt.IsNil(w.Close()))
		tt.checkNoFiles()
		tt.checkEmpty(tt.u, w.ID())
		qt.Check(t, qt.Equals(tt.u.count.n, 0))
		qt.Check(t, qt.Equals(tt.u.count.memory, 0))
	}
}

// Sessions of other processes count, until they are ended there.
func TestMaxUploads_CountsOtherProcesses(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	other := tt.process()
	w := tt.start()
	tt.write(w, []byte("x"))
	qt.Assert(t, qt.IsNil(w.Close()))

	other.count.max = 1
	now := time.Now()
	other.now = func() time.Time { return now }
	id := tt.issue()
	refused := tt.resume(other, id, 0)
	_, err := refused.Write([]byte("x"))
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrTooManyRequests))
	qt.Check(t, qt.IsNil(tt.resume(tt.u, w.ID(), 1).Cancel()))
	now = now.Add(countFull)
	tt.write(tt.resume(other, id, 0), []byte("x"))
}

// A writer that is never closed does not hold its bytes for ever.
func TestSweep_EndsSessionsInMemory(t *testing.T) {
	t.Parallel()
	tt := newUploadTest(t)
	w, idle := tt.start(), tt.start()
	tt.write(w, []byte("abc"))
	n, err := tt.u.sweep()
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(n, 1))
	tt.u.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	n, err = tt.u.sweep()
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(n, 0))
	qt.Check(t, qt.Equals(tt.quota.Used(), 0))
	tt.checkUnknown(w.ID())
	qt.Check(t, qt.IsNil(w.Close()))
	qt.Check(t, qt.IsNil(idle.Close()))
	tt.checkNoFiles()
}
