package scratch_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
)

func TestDirIsRemoved(t *testing.T) {
	t.Parallel()
	var dir string
	t.Run("use", func(t *testing.T) {
		dir = scratch.Dir(t)
		qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, "file"), nil, 0o666)))
		qt.Check(t, qt.Not(qt.Equals(scratch.Dir(t), dir)))
	})
	_, err := os.Stat(dir)
	qt.Check(t, qt.ErrorIs(err, os.ErrNotExist))
}
