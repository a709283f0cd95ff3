//go:build linux && !arm

package disk

import (
	"os"
	"syscall"
)

// StartSync calls sync_file_range(2) with SYNC_FILE_RANGE_WRITE.
func (OS) StartSync(f File, off, n int64) {
	const write = 2
	if f, ok := f.(*os.File); ok {
		syscall.SyncFileRange(int(f.Fd()), off, n, write)
	}
}
