package disk

import (
	"errors"
	"os"
	"syscall"
)

// CannotLink reports whether an error of Link means that the filesystem, or this
// file, cannot have more names.
func CannotLink(err error) bool {
	const (
		invalidFunction syscall.Errno = 1
		notSameDevice   syscall.Errno = 17
		notSupported    syscall.Errno = 50
		tooManyLinks    syscall.Errno = 1142 // NTFS has 1,024 for a file
	)
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return errors.Is(err, errors.ErrUnsupported)
	}
	switch errno {
	case invalidFunction, notSameDevice, notSupported, tooManyLinks:
		return true
	}
	return false
}

// ForSync is the flag with which to open a file that is to be read and synced.
const ForSync = os.O_RDWR

// IsReadOnly reports whether an error means that the filesystem cannot be written to.
func IsReadOnly(err error) bool {
	const writeProtected syscall.Errno = 19
	return errors.Is(err, writeProtected)
}

// exhausted has the errors that mean that the process or the system has run out of
// resources.
var exhausted = []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM}
