package ocifs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"
)

// TestMarkWithoutName opens a root where a process died that had made a mark and
// not written to it.
func TestMarkWithoutName(t *testing.T) {
	t.Parallel()
	dir := KeptDir(t)
	mark := filepath.Join(dir, privateDir, "unfolded", "0123")
	qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(mark), dirPerm)))
	qt.Assert(t, qt.IsNil(os.WriteFile(mark, nil, filePerm)))
	r, err := New(dir, nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(r.Close()))
	_, err = os.Lstat(mark)
	qt.Check(t, qt.ErrorIs(err, os.ErrNotExist))
}
