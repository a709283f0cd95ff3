package ocifs

import (
	"os"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"
)

// keptRoot makes the directory that has the directories of all tests.
var keptRoot = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "ocifs-test-") })

// KeptDir returns a new directory. It stays until all tests and benchmarks have
// run: for some minutes after a file was removed, ext4 does not give its inode to
// another, and looks at each such inode again whenever a file is made. With ten
// thousand of them, that takes a millisecond.
func KeptDir(t testing.TB) string {
	root, err := keptRoot()
	qt.Assert(t, qt.IsNil(err))
	dir, err := os.MkdirTemp(root, "")
	qt.Assert(t, qt.IsNil(err))
	return dir
}

// RemoveKeptDirs removes what KeptDir has made.
func RemoveKeptDirs() {
	if root, err := keptRoot(); err == nil {
		os.RemoveAll(root)
	}
}
