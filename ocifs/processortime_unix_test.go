//go:build unix

package ocifs_test

import (
	"syscall"
	"time"
)

// processorTime returns how much of the processors this process has used, in the
// system as well, or false where that is not known.
func processorTime() (time.Duration, bool) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, false
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), true
}
