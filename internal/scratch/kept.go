package scratch

import (
	"os"
	"sync"
	"testing"
)

// keptRoot makes the directory that has the directories of all tests.
var keptRoot = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "oci-test-") })

// Kept returns a new directory on a disk. It stays until all tests and benchmarks of
// the package have run, which is for [Main] to notice: for some minutes after a file
// was removed, ext4 does not give its inode to another, and looks at each such inode
// again whenever a file is made. With ten thousand of them, that takes a millisecond.
func Kept(t testing.TB) string {
	t.Helper()
	root, err := keptRoot()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(root, "")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Main is the TestMain of a package that uses [Kept]. It runs the tests, removes the
// directories, and ends the program.
func Main(m *testing.M) {
	code := m.Run()
	if root, err := keptRoot(); err == nil {
		os.RemoveAll(root)
	}
	os.Exit(code)
}
