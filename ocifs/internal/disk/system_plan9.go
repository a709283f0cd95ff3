package disk

import (
	"os"
	"syscall"
)

// CannotLink returns true for any error: a file has only one name on Plan 9.
func CannotLink(err error) bool { return err != nil }

// ForSync is the flag with which to open a file that is to be read and synced.
const ForSync = os.O_RDONLY

// IsReadOnly returns false: no error says that a filesystem cannot be written to.
func IsReadOnly(error) bool { return false }

// exhausted has the errors that mean that the process or the system has run out of
// resources.
var exhausted = []error{syscall.EMFILE}
