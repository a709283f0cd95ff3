//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package ocifs

import (
	"os"
	"time"
)

// setTime sets the modification time of an open file, unless that was renamed.
func setTime(f *os.File, to time.Time) error { return os.Chtimes(f.Name(), time.Time{}, to) }
