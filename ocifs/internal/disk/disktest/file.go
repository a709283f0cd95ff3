//go:build unix

package disktest

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"syscall"
	"time"
	"unsafe"
)

// diskFile is an open file of a Disk.
type diskFile struct {
	d      *Disk
	ino    *inode
	name   string
	flag   int
	offset int64
	closed bool
}

// begin begins a call. If it returns no error, f.d.Mu is held.
func (f *diskFile) begin(op string) error {
	err := f.d.begin(op, f.name, "")
	if err == nil && f.closed {
		f.d.Mu.Unlock()
		err = diskError(op, f.name, fs.ErrClosed)
	}
	return err
}

func (f *diskFile) Read(p []byte) (int, error) {
	if err := f.begin("read"); err != nil {
		return 0, err
	}
	defer f.d.Mu.Unlock()
	n, err := f.read(p, f.offset)
	f.offset += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (f *diskFile) ReadAt(p []byte, offset int64) (int, error) {
	if err := f.begin("read"); err != nil {
		return 0, err
	}
	defer f.d.Mu.Unlock()
	return f.read(p, offset)
}

func (f *diskFile) read(p []byte, offset int64) (int, error) {
	switch {
	case f.flag&os.O_WRONLY != 0:
		return 0, diskError("read", f.name, syscall.EBADF)
	case f.ino.mode.IsDir():
		return 0, diskError("read", f.name, syscall.EISDIR)
	case len(p) == 0:
		return 0, nil
	case offset >= int64(len(f.ino.data)):
		return 0, io.EOF
	}
	n := copy(p, f.ino.data[offset:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *diskFile) Write(p []byte) (int, error) {
	if err := f.begin("write"); err != nil {
		return 0, err
	}
	defer f.d.Mu.Unlock()
	if f.flag&os.O_APPEND != 0 && len(p) > 0 {
		f.offset = int64(len(f.ino.data))
	}
	n, err := f.write(p, f.offset)
	f.offset += int64(n)
	return n, err
}

func (f *diskFile) WriteAt(p []byte, offset int64) (int, error) {
	if f.flag&os.O_APPEND != 0 {
		return 0, errors.New("os: invalid use of WriteAt on file opened with O_APPEND")
	}
	if err := f.begin("write"); err != nil {
		return 0, err
	}
	defer f.d.Mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	return f.write(p, offset)
}

func (f *diskFile) write(p []byte, offset int64) (int, error) {
	if f.flag&(os.O_WRONLY|os.O_RDWR) == 0 {
		return 0, diskError("write", f.name, syscall.EBADF)
	}
	if len(p) > 0 {
		f.d.write(f.ino, diskWrite{offset: offset, data: slices.Clone(p)})
	}
	return len(p), nil
}

func (f *diskFile) Truncate(size int64) error {
	if err := f.begin("truncate"); err != nil {
		return err
	}
	defer f.d.Mu.Unlock()
	if f.flag&(os.O_WRONLY|os.O_RDWR) == 0 {
		return diskError("truncate", f.name, syscall.EINVAL)
	}
	f.d.write(f.ino, diskWrite{offset: size, truncate: true})
	return nil
}

func (f *diskFile) Seek(offset int64, whence int) (int64, error) {
	if err := f.begin("seek"); err != nil {
		return 0, err
	}
	defer f.d.Mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		offset += f.offset
	case io.SeekEnd:
		offset += int64(len(f.ino.data))
	}
	if offset < 0 {
		return 0, diskError("seek", f.name, syscall.EINVAL)
	}
	f.offset = offset
	return offset, nil
}

func (f *diskFile) Stat() (fs.FileInfo, error) {
	if err := f.begin("stat"); err != nil {
		return nil, err
	}
	defer f.d.Mu.Unlock()
	return f.ino.info(filepath.Base(f.name)), nil
}

func (f *diskFile) Close() error {
	if err := f.begin("close"); err != nil {
		return err
	}
	defer f.d.Mu.Unlock()
	f.closed = true
	if f.ino.lock == f {
		f.ino.lock = nil
	}
	return nil
}

// info describes ino as it is now. [os.SameFile] accepts only the FileInfo of package
// os, so info returns one of those.
func (ino *inode) info(name string) fs.FileInfo {
	v := reflect.New(osInfo.Type)
	p := v.UnsafePointer()
	*(*string)(unsafe.Add(p, osInfo.name)) = name
	*(*int64)(unsafe.Add(p, osInfo.size)) = int64(len(ino.data))
	*(*fs.FileMode)(unsafe.Add(p, osInfo.mode)) = ino.mode
	*(*time.Time)(unsafe.Add(p, osInfo.mtime)) = ino.mtime
	sys := (*syscall.Stat_t)(unsafe.Add(p, osInfo.sys))
	sys.Ino = ino.number
	setInteger(&sys.Nlink, ino.nlink)
	return v.Interface().(fs.FileInfo)
}

// osInfo has the type of the FileInfo of package os, and the offsets of its fields.
var osInfo = func() (info struct {
	reflect.Type
	name, size, mode, mtime, sys uintptr
}) {
	root, err := os.Lstat("/")
	if err != nil {
		panic(err)
	}
	info.Type = reflect.TypeOf(root).Elem()
	for name, offset := range map[string]*uintptr{"name": &info.name, "size": &info.size, "mode": &info.mode, "modTime": &info.mtime, "sys": &info.sys} {
		field, _ := info.FieldByName(name)
		*offset = field.Offset
	}
	return info
}()

// setInteger sets a field whose type depends on the system.
func setInteger[T ~uint16 | ~uint32 | ~uint64](p *T, n int) { *p = T(n) }
