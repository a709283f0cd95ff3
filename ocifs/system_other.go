//go:build unix || js || wasip1

package ocifs

import (
	"errors"
	"os"
	"syscall"
)

// cannotLink reports whether an error of Link says that the filesystem, or this
// file, has no further names to give.
func cannotLink(err error) bool {
	for _, errno := range []syscall.Errno{
		syscall.EXDEV,
		syscall.EMLINK, // ext4 has 65,000 for a file
		syscall.EPERM,  // FAT; and Linux, for files of others (proc(5), protected_hardlinks)
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return errors.Is(err, errors.ErrUnsupported)
}

// forSync is how a file is opened that is to be read and synced.
const forSync = os.O_RDONLY
