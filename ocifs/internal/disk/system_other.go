//go:build unix || js || wasip1

package disk

import (
	"errors"
	"os"
	"syscall"
)

// CannotLink reports whether an error of Link means that the filesystem, or this
// file, cannot have more names.
func CannotLink(err error) bool {
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

// ForSync is the flag with which to open a file that is to be read and synced.
const ForSync = os.O_RDONLY

// IsReadOnly reports whether an error means that the filesystem cannot be written to.
func IsReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }

// exhausted has the errors that mean that the process or the system has run out of
// resources.
var exhausted = []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM}
