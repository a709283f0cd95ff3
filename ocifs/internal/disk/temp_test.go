package disk_test

import (
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
)

func TestWriteFile(t *testing.T) {
	t.Parallel()
	root := scratch.Kept(t)
	fsys := new(disktest.Hooks)
	w := disk.NewWorkspace(fsys, filepath.Join(root, "private"), true)
	name := filepath.Join(root, "index.json")
	for _, want := range []string{"one", "", "three"} {
		qt.Assert(t, qt.IsNil(w.WriteFile(name, text(want))))
		got, err := os.ReadFile(name)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(string(got), want))
	}
	for _, op := range []string{"OpenFile", "file.Write", "file.Sync", "Rename"} {
		fsys.Set(disktest.Failing(op, syscall.ENOSPC))
		qt.Check(t, qt.ErrorIs(w.WriteFile(name, text("four")), syscall.ENOSPC), qt.Commentf("%s", op))
		fsys.Set(nil)
		left, err := filepath.Glob(filepath.Join(w.Dir, "staging", "*", "*"))
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(left, 0), qt.Commentf("%s", op))
		got, err := os.ReadFile(name)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(string(got), "three"))
	}
	qt.Check(t, qt.IsNil(w.Close()))
	fsys.CheckClosed(t)
}

// text returns a function that writes s.
func text(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}
