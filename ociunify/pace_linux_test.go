package ociunify_test

import (
	"syscall"
	"time"
)

// pause sleeps. The runtime's timers round up to a millisecond when nothing else is
// to be done, which is as long as a small blob takes.
func pause(d time.Duration) {
	if d > 0 {
		t := syscall.NsecToTimespec(int64(d))
		syscall.Nanosleep(&t, nil)
	}
}
