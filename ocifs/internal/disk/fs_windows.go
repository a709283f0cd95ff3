package disk

import (
	"io/fs"
	"os"
	"syscall"
	"unsafe"
)

// Opening a link itself would also open, instead of their content, files that Windows
// stores elsewhere by the same mechanism (deduplicated, compressed, or in a cloud).
// Creating a link requires a privilege on Windows.
const noFollow = 0

// shareAll allows others to do with an open file what they can do on other systems:
// read, write, remove and rename it.
const shareAll = syscall.FILE_SHARE_READ | syscall.FILE_SHARE_WRITE | syscall.FILE_SHARE_DELETE

func (OS) Rename(oldname, newname string) error { return os.Rename(oldname, newname) }

// openFile is [os.OpenFile] with shareAll. It supports O_RDONLY, O_WRONLY, O_RDWR,
// O_CREATE, O_EXCL and O_APPEND.
func openFile(name string, flag int, _ fs.FileMode) (*os.File, error) {
	const known = os.O_RDONLY | os.O_WRONLY | os.O_RDWR | os.O_CREATE | os.O_EXCL | os.O_APPEND
	if flag&^known != 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EINVAL}
	}
	path, err := syscall.UTF16PtrFromString(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	var access uint32 = syscall.GENERIC_READ
	switch flag & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR) {
	case os.O_WRONLY:
		access = syscall.GENERIC_WRITE
	case os.O_RDWR:
		access = syscall.GENERIC_READ | syscall.GENERIC_WRITE
	}
	if flag&os.O_APPEND != 0 { // grants the right to write only at the end
		access = access&^syscall.GENERIC_WRITE | syscall.FILE_APPEND_DATA | syscall.SYNCHRONIZE
	}
	var disposition uint32 = syscall.OPEN_EXISTING
	var attributes uint32 = syscall.FILE_ATTRIBUTE_NORMAL
	switch flag & (os.O_CREATE | os.O_EXCL) {
	case os.O_CREATE:
		disposition = syscall.OPEN_ALWAYS
	case os.O_CREATE | os.O_EXCL:
		disposition = syscall.CREATE_NEW
		attributes |= syscall.FILE_FLAG_OPEN_REPARSE_POINT // an existing link is an error, wherever it leads
	}
	h, err := syscall.CreateFile(path, access, shareAll, nil, disposition, attributes, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(h), name), nil
}

func openDir(name string) (*os.File, error) { return os.Open(name) }

// SyncDir does what the filesystem supports. NTFS flushes a directory that was opened
// for writing. Others refuse and have no other call. That is not an error, since
// nothing can be done about it.
func (OS) SyncDir(name string) error {
	path, err := syscall.UTF16PtrFromString(name)
	if err != nil {
		return &fs.PathError{Op: "sync", Path: name, Err: err}
	}
	h, err := syscall.CreateFile(path, syscall.GENERIC_WRITE, shareAll, nil, syscall.OPEN_EXISTING, syscall.FILE_FLAG_BACKUP_SEMANTICS, 0)
	if err == nil {
		defer syscall.CloseHandle(h)
		err = syscall.FlushFileBuffers(h)
	}
	const (
		invalidFunction  = syscall.Errno(1)
		notSupported     = syscall.Errno(50)
		invalidParameter = syscall.Errno(87)
	)
	switch err {
	case nil, syscall.ERROR_ACCESS_DENIED, invalidFunction, notSupported, invalidParameter:
		return nil
	}
	return &fs.PathError{Op: "sync", Path: name, Err: err}
}

var (
	kernel32     = syscall.NewLazyDLL("kernel32.dll")
	lockFileEx   = kernel32.NewProc("LockFileEx")
	unlockFileEx = kernel32.NewProc("UnlockFileEx")
)

// lockOffset is the offset of the locked byte, divided by 2^32.
const lockOffset = 1 << 30

// TryLock locks one byte far beyond any content, because others cannot read or write
// locked bytes.
func (OS) TryLock(f File) (bool, error) {
	conn, err := f.(*os.File).SyscallConn()
	if err != nil {
		return false, err
	}
	const (
		failImmediately = 0x1
		exclusive       = 0x2
		lockViolation   = syscall.Errno(33)
	)
	var ok uintptr
	var lockErr error
	err = conn.Control(func(fd uintptr) {
		at := syscall.Overlapped{OffsetHigh: lockOffset}
		ok, _, lockErr = lockFileEx.Call(fd, exclusive|failImmediately, 0, 1, 0, uintptr(unsafe.Pointer(&at)))
	})
	switch {
	case err != nil:
		return false, err
	case ok != 0:
		return true, nil
	case lockErr == lockViolation:
		return false, nil
	}
	return false, os.NewSyscallError("LockFileEx", lockErr)
}

func (OS) Unlock(f File) error {
	conn, err := f.(*os.File).SyscallConn()
	if err != nil {
		return err
	}
	var ok uintptr
	var unlockErr error
	err = conn.Control(func(fd uintptr) {
		at := syscall.Overlapped{OffsetHigh: lockOffset}
		ok, _, unlockErr = unlockFileEx.Call(fd, 0, 1, 0, uintptr(unsafe.Pointer(&at)))
	})
	if err == nil && ok == 0 {
		err = os.NewSyscallError("UnlockFileEx", unlockErr)
	}
	return err
}

// Links returns 0: [os.FileInfo] does not have the number of names of a file.
func Links(fs.FileInfo) int { return 0 }
