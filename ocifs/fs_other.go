//go:build !unix && !windows

package ocifs

import (
	"io/fs"
	"os"
)

const noFollow = 0

func openFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag, perm)
}

func openDir(name string) (*os.File, error) { return os.Open(name) }

// SyncDir does nothing: these systems do not promise anything for directories.
func (osFS) SyncDir(string) error { return nil }

// links returns 0: how many names a file has is not known.
func links(fs.FileInfo) int { return 0 }
