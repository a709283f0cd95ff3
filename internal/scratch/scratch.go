// Package scratch has directories for tests of what does not depend on a disk.
package scratch

import (
	"os"
	"testing"
)

// Dir returns a new directory that is removed when the test ends. It is in
// memory if the system has a file system there with room enough: a contract of
// thousands of small files takes ten times as long on a disk. If OCI_TEST_ON_DISK is
// set, it is where other temporary files are.
func Dir(t testing.TB) string {
	root := memory()
	if root == "" || os.Getenv("OCI_TEST_ON_DISK") != "" {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(root, "oci-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
