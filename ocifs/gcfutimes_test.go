//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package ocifs

import (
	"os"
	"syscall"
	"time"
)

// setTime sets the modification time of an open file.
func setTime(f *os.File, to time.Time) error {
	t := syscall.NsecToTimeval(to.UnixNano())
	return syscall.Futimes(int(f.Fd()), []syscall.Timeval{t, t})
}
