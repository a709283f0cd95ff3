package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"
)

// IsAbsent reports whether err means that a file does not exist. It includes the
// error for a file in place of a directory of the path.
func IsAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// IsExhausted reports whether err means that the process or the system has run out of
// resources, and therefore says nothing about the file.
func IsExhausted(err error) bool {
	return slices.ContainsFunc(exhausted, func(e error) bool { return errors.Is(err, e) })
}

// Unchanged reports whether a and b, the file information of a name at two times, are
// of the same file with no write in between. A nil value stands for no file.
func Unchanged(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Size() == b.Size() && a.Mode() == b.Mode() && a.ModTime().Equal(b.ModTime()) && os.SameFile(a, b)
}

// ReadFrom returns the content of a file from offset on.
func ReadFrom(f File, offset int64) (string, error) {
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	text := make([]byte, max(info.Size()-offset, 0))
	n, err := f.ReadAt(text, offset)
	if err == io.EOF {
		err = nil // the file was truncated meanwhile
	}
	return string(text[:n]), err
}

// Lock waits for the lock of an open file, excluding every other open file of the
// same name. Closing f releases the lock. Between attempts, Lock pauses. The pause
// doubles each time, up to most.
//
// Errors: that of the context, and those of the system.
func Lock(ctx context.Context, fsys FS, f File, pause, most time.Duration) error {
	for ; ; pause = min(2*pause, most) {
		locked, err := fsys.TryLock(f)
		if locked || err != nil {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// LockNamed locks a file that others may lock for short times, and returns its file
// information. It returns nil if the file no longer has the given name, because that was
// removed or replaced meanwhile.
//
// Errors: those of [Lock].
func LockNamed(ctx context.Context, fsys FS, f File, name string) (fs.FileInfo, error) {
	err := Lock(ctx, fsys, f, 50*time.Microsecond, 5*time.Millisecond)
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	if err != nil {
		return nil, err
	}
	mine, err := f.Stat()
	if err != nil {
		return nil, err
	}
	there, err := Lstat(fsys, name)
	if err != nil || there == nil || !os.SameFile(mine, there) {
		return nil, err
	}
	return there, nil
}

// Trim truncates f to size bytes. If f has fewer, the error is [io.ErrUnexpectedEOF].
func Trim(f File, size int64) error {
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case info.Size() < size:
		return io.ErrUnexpectedEOF
	case info.Size() > size:
		return f.Truncate(size)
	}
	return nil
}

// Lstat returns the file information of a name, or nil if there is no such file.
func Lstat(fsys FS, name string) (fs.FileInfo, error) {
	info, err := fsys.Lstat(name)
	if IsAbsent(err) {
		return nil, nil
	}
	return info, err
}

// ReadFirst returns the first n bytes of a file, or all of it if n is negative. A file that
// does not exist is empty.
func ReadFirst(fsys FS, name string, n int) (string, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		if IsAbsent(err) {
			return "", nil
		}
		return "", err
	}
	defer f.Close()
	if n < 0 {
		return ReadFrom(f, 0)
	}
	text := make([]byte, n)
	n, err = f.ReadAt(text, 0)
	if n > 0 || errors.Is(err, io.EOF) {
		err = nil
	}
	return string(text[:n]), err
}

// WithText calls f with a file, which is open, and its text. If there is no such file, it
// does nothing.
func WithText(fsys FS, name string, f func(file File, text string) error) error {
	file, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		if IsAbsent(err) {
			return nil
		}
		return err
	}
	defer file.Close()
	text, err := ReadFrom(file, 0)
	if err != nil {
		return err
	}
	return f(file, text)
}
