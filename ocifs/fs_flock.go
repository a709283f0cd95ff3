//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package ocifs

import (
	"os"
	"syscall"
)

func (osFS) TryLock(f file) (bool, error) {
	conn, err := f.(*os.File).SyscallConn()
	if err != nil {
		return false, err
	}
	var lockErr error
	err = conn.Control(func(fd uintptr) {
		for {
			lockErr = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB)
			if lockErr != syscall.EINTR {
				return
			}
		}
	})
	switch {
	case err != nil:
		return false, err
	case lockErr == syscall.EWOULDBLOCK:
		return false, nil
	case lockErr != nil:
		return false, os.NewSyscallError("flock", lockErr)
	}
	return true, nil
}
