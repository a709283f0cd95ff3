//go:build linux && !arm

package ocifs

import (
	"os"
	"syscall"
)

// StartSync is sync_file_range(2) with SYNC_FILE_RANGE_WRITE.
func (osFS) StartSync(f file, off, n int64) {
	const write = 2
	if f, ok := f.(*os.File); ok {
		syscall.SyncFileRange(int(f.Fd()), off, n, write)
	}
}
