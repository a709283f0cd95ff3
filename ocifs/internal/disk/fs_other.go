//go:build !unix && !windows

package disk

import (
	"io/fs"
	"os"
)

const noFollow = 0

func openFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag, perm)
}

func openDir(name string) (*os.File, error) { return os.Open(name) }

func (OS) Rename(oldname, newname string) error { return os.Rename(oldname, newname) }

// SyncDir does nothing: these systems guarantee nothing for directories.
func (OS) SyncDir(string) error { return nil }

// Links returns 0: the number of names of a file is unknown.
func Links(fs.FileInfo) int { return 0 }
