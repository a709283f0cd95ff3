package disk

import (
	"fmt"
	"io/fs"
	"path/filepath"
)

// ErrClosed means that a workspace is closed. It is also an [fs.ErrClosed].
var ErrClosed = fmt.Errorf("the directory is closed: %w", fs.ErrClosed)

// A Workspace is a private directory that this process may share with others. It
// writes files there before they are named, and moves files there that are in the
// way. It makes files durable anywhere on the same filesystem. It is safe for
// concurrent use.
//
// The directory has:
//
//	staging/RANDOM/     files that one process is writing, or keeps for later
//	staging/RANDOM.lock locked as long as that process lives
//	damaged/            files that were set aside
type Workspace struct {
	FS  FS     // the filesystem that has the directory
	Dir string // the path of the directory

	staging staging
	syncs   syncs
}

// NewWorkspace returns a workspace in the directory dir. The directory is created
// when it is first needed; its parent must exist. If durable is false, nothing is
// synced.
func NewWorkspace(fsys FS, dir string, durable bool) *Workspace {
	return &Workspace{
		FS:      fsys,
		Dir:     dir,
		staging: staging{fs: fsys, top: filepath.Join(dir, "staging")},
		syncs:   syncs{fs: fsys, on: durable, top: dir},
	}
}

// Close removes the staged files. Files that are still being written can no longer be
// named.
func (w *Workspace) Close() error { return w.staging.close() }

// RemoveDead removes the staged files of processes that died.
func (w *Workspace) RemoveDead() error { return w.staging.removeDead() }

// HasOthers reports whether another process, or another workspace of this one, has
// staged something, or has left it when it died.
func (w *Workspace) HasOthers() bool { return w.staging.hasOthers() }

// NewName returns an unused name for a staged file. From then on, HasOthers returns
// true for other workspaces of the directory.
//
// Errors: [ErrClosed], and those of the system.
func (w *Workspace) NewName() (string, error) { return w.staging.name() }

// Create creates an empty staged file.
//
// Errors: [ErrClosed], and those of the system.
func (w *Workspace) Create() (f File, name string, err error) { return w.staging.create(FilePerm) }

// CreateDir creates an empty staged directory.
//
// Errors: [ErrClosed], and those of the system.
func (w *Workspace) CreateDir() (string, error) { return w.staging.createDir() }

// IsDurable reports whether the workspace syncs anything.
func (w *Workspace) IsDurable() bool { return w.syncs.on }

// SyncFile makes the content of f, which has size bytes, durable. Many small files
// are synced together.
func (w *Workspace) SyncFile(f File, size int64) error { return w.syncs.file(f, size) }

// StartSync hints that the system should begin to write the bytes appended to f,
// which has size bytes, if there are many. The bytes before begun are being written
// already. StartSync returns the new value of begun. It does not wait, and guarantees
// nothing.
func (w *Workspace) StartSync(f File, begun, size int64) int64 { return w.syncs.start(f, begun, size) }

// SyncTogether makes everything that was written durable with one system call, if
// that is cheaper than syncing each of n files. It reports whether it did. The
// workspace must be durable.
func (w *Workspace) SyncTogether(n int) (done bool, err error) { return w.syncs.together(n) }

// SyncDir makes the entries of a directory durable. Concurrent calls for one
// directory share the work.
func (w *Workspace) SyncDir(name string) error { return w.syncs.dir(name) }

// KeepSpare keeps a file, which has no other name and contains only zeros, to be
// filled again, unless there are enough such files. f is that file, open; KeepSpare
// takes it over and releases its lock. If KeepSpare returns false, the file keeps its
// name and belongs to the caller.
func (w *Workspace) KeepSpare(name string, f File) bool { return w.staging.keepSpare(name, f) }

// FillSpare returns an open staged file that begins with text. If it is a spare file,
// zeros follow.
//
// Errors: [ErrClosed], and those of the system.
func (w *Workspace) FillSpare(text []byte) (f File, name string, err error) {
	return w.staging.fillSpare(text)
}
