package scratch

import "syscall"

// enough is how many bytes have to be free.
const enough = 2 << 30

// memory returns the directory of a file system in memory, or "".
func memory() string {
	const dir = "/dev/shm"
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil || int64(st.Bavail)*int64(st.Bsize) < enough {
		return ""
	}
	return dir
}
