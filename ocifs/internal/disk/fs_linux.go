package disk

import (
	"errors"
	"os"
	"runtime"
	"syscall"
)

// sysSyncfs is the number of syncfs(2), which package syscall lacks on some
// architectures.
var sysSyncfs = map[string]uintptr{
	"386": 344, "amd64": 306, "arm": 373, "arm64": 267, "loong64": 267, "riscv64": 267,
	"ppc64": 348, "ppc64le": 348, "s390x": 338,
	"mips": 4342, "mipsle": 4342, "mips64": 5301, "mips64le": 5301,
}[runtime.GOARCH]

func (OS) SyncAll(name string) error {
	if sysSyncfs == 0 {
		return errors.ErrUnsupported
	}
	f, err := openDir(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, _, errno := syscall.Syscall(sysSyncfs, f.Fd(), 0, 0); errno != 0 {
		return os.NewSyscallError("syncfs", errno)
	}
	return nil
}
