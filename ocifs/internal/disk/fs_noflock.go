//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows)

package disk

// TryLock always succeeds: on these systems package syscall has no lock that belongs
// to an open file. (A lock of fcntl belongs to a process, and is lost as soon as the
// process closes any file of the same name.) Only one process may therefore have a
// directory open at a time, and only once.
func (OS) TryLock(File) (bool, error) { return true, nil }

func (OS) Unlock(File) error { return nil }
