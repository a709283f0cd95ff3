package ocifs

import (
	"errors"
	"os"
	"syscall"
)

// cannotLink reports whether an error of Link says that the filesystem, or this
// file, has no further names to give.
func cannotLink(err error) bool {
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

// forSync is how a file is opened that is to be read and synced.
const forSync = os.O_RDWR
