package disk

import (
	"io"
	"io/fs"
	"time"
)

// WriteFile replaces the file name, whose directory must exist, with a new file whose
// content is written by write. The content is durable when WriteFile returns, even if
// the workspace is not durable: without an index everything would be lost. To make
// the name durable, call SyncDir.
func (w *Workspace) WriteFile(name string, write func(io.Writer) error) error {
	tmp, _, err := w.WriteTemp(write)
	if err != nil {
		return err
	}
	if err := w.FS.Rename(tmp, name); err != nil {
		w.FS.Remove(tmp)
		return err
	}
	return nil
}

// WriteTemp writes a file that is to be renamed. It returns the file's name, and its
// file information, which remains valid after the rename. The content is durable even
// if the workspace is not.
//
// The file gets an exact modification time. The times that the system assigns are the
// same for everything within some milliseconds, so a file that replaces another and
// reuses its inode could look unchanged.
func (w *Workspace) WriteTemp(write func(io.Writer) error) (tmp string, info fs.FileInfo, err error) {
	f, tmp, err := w.staging.create(FilePerm)
	if err != nil {
		return "", nil, err
	}
	err = write(f)
	if err == nil {
		err = w.FS.Chtimes(tmp, time.Now())
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		info, err = f.Stat()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		w.FS.Remove(tmp)
	}
	return tmp, info, err
}

// CreateText creates a staged file that has the given text, and perm as its mode
// before the umask.
func (w *Workspace) CreateText(text []byte, perm fs.FileMode) (name string, err error) {
	f, name, err := w.staging.create(perm)
	if err != nil {
		return "", err
	}
	_, err = f.WriteAt(text, 0)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		w.FS.Remove(name)
		return "", err
	}
	return name, nil
}
