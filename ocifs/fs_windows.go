package ocifs

import (
	"io/fs"
	"os"
	"syscall"
	"unsafe"
)

// Opening a link itself would also open, in place of their content, the files
// that Windows keeps elsewhere by the same mechanism (deduplicated, compressed or
// in a cloud). To make a link takes a privilege here.
const noFollow = 0

// shareAll lets others do with an open file what they can do on other systems:
// read and write it, and also remove and rename it.
const shareAll = syscall.FILE_SHARE_READ | syscall.FILE_SHARE_WRITE | syscall.FILE_SHARE_DELETE

// openFile is [os.OpenFile] with shareAll. It knows O_RDONLY, O_WRONLY, O_RDWR,
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
	if flag&os.O_APPEND != 0 { // which has no right to write but at the end
		access = access&^syscall.GENERIC_WRITE | syscall.FILE_APPEND_DATA | syscall.SYNCHRONIZE
	}
	var disposition uint32 = syscall.OPEN_EXISTING
	var attributes uint32 = syscall.FILE_ATTRIBUTE_NORMAL
	switch flag & (os.O_CREATE | os.O_EXCL) {
	case os.O_CREATE:
		disposition = syscall.OPEN_ALWAYS
	case os.O_CREATE | os.O_EXCL:
		disposition = syscall.CREATE_NEW
		attributes |= syscall.FILE_FLAG_OPEN_REPARSE_POINT // a link is in the way, wherever it leads
	}
	h, err := syscall.CreateFile(path, access, shareAll, nil, disposition, attributes, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(h), name), nil
}

func openDir(name string) (*os.File, error) { return os.Open(name) }

// SyncDir asks for as much as the filesystem gives. NTFS flushes a directory
// that was opened for writing. Others refuse, and have no other call; that is
// no error, since nothing can be done about it.
func (osFS) SyncDir(name string) error {
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

var lockFileEx = syscall.NewLazyDLL("kernel32.dll").NewProc("LockFileEx")

// TryLock locks one byte far beyond any content, because others cannot read or
// write the bytes that are locked.
func (osFS) TryLock(f file) (bool, error) {
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
		at := syscall.Overlapped{OffsetHigh: 1 << 30}
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

// links returns 0: [os.FileInfo] does not know how many names a file has.
func links(fs.FileInfo) int { return 0 }
