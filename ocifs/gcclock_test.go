package ocifs

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

// clockFS is a filesystem on which content, and the states of uploads, get their times from a
// clock.
type clockFS struct {
	disk.OS
	now func() time.Time
}

func isBlobPath(name string) bool {
	return strings.Contains(name, string(filepath.Separator)+"blobs"+string(filepath.Separator))
}

func (f clockFS) Rename(oldname, newname string) error {
	if isBlobPath(newname) && !isBlobPath(oldname) {
		os.Chtimes(oldname, time.Time{}, f.now())
	}
	return f.OS.Rename(oldname, newname)
}

func (f clockFS) Link(oldname, newname string) error {
	if isBlobPath(newname) && !isBlobPath(oldname) {
		os.Chtimes(oldname, time.Time{}, f.now())
	}
	return f.OS.Link(oldname, newname)
}

func (f clockFS) OpenFile(name string, flag int, perm os.FileMode) (disk.File, error) {
	file, err := f.OS.OpenFile(name, flag, perm)
	if err != nil || !strings.Contains(name, string(filepath.Separator)+".ocifs"+string(filepath.Separator)) || strings.HasSuffix(name, "journal") {
		return file, err
	}
	return &clockFile{file, f.now}, nil
}

func (f clockFS) StartSync(file disk.File, off, n int64) { f.OS.StartSync(unwrapped(file), off, n) }
func (f clockFS) TryLock(file disk.File) (bool, error)   { return f.OS.TryLock(unwrapped(file)) }
func (f clockFS) Unlock(file disk.File) error            { return f.OS.Unlock(unwrapped(file)) }

func unwrapped(f disk.File) disk.File {
	if c, ok := f.(*clockFile); ok {
		return c.File
	}
	return f
}

type clockFile struct {
	disk.File
	now func() time.Time
}

// WriteAt gives the file its time by a name that it has whatever became of its own.
func (f *clockFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	setTime(f.File.(*os.File), f.now())
	return n, err
}

// folded is a registry whose journals are folded after each change, so that content is in
// files that have the time of the change.
type folded struct {
	*Registry
	clock func() time.Time
}

// openFolded opens a registry that takes its times from a clock.
func openFolded(t testing.TB, dir string, now func() time.Time) *folded {
	t.Helper()
	f := &folded{clock: now}
	f.open(t, dir)
	t.Cleanup(func() { qt.Check(t, qt.IsNil(f.Close())) })
	return f
}

func (f *folded) open(t testing.TB, dir string) {
	var err error
	f.Registry, err = openWith(clockFS{now: f.clock}, dir, "", &Options{NoSync: true}, blobs.Clock{Now: f.clock})
	qt.Assert(t, qt.IsNil(err))
}

// reopen opens the registry again, which then knows nothing of what manifests name.
func (f *folded) reopen(t testing.TB) {
	qt.Assert(t, qt.IsNil(f.Close()))
	snapshots, err := filepath.Glob(filepath.Join(f.dir, "*", ".ocifs", "snapshot"))
	qt.Assert(t, qt.IsNil(err))
	for _, name := range snapshots {
		qt.Assert(t, qt.IsNil(os.Remove(name)))
	}
	f.open(t, f.dir)
}

func (f *folded) fold(err error) error {
	for _, repo := range f.repos.Unfolded() {
		if foldErr := repo.Fold(context.Background()); !errors.Is(foldErr, ociregistry.ErrNameUnknown) {
			err = errors.Join(err, foldErr)
		}
	}
	return err
}

func (f *folded) PushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, r io.Reader) (ociregistry.Descriptor, error) {
	desc, err := f.Registry.PushBlob(ctx, repo, desc, r)
	return desc, f.fold(err)
}

func (f *folded) MountBlob(ctx context.Context, from, to string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	desc, err := f.Registry.MountBlob(ctx, from, to, digest)
	return desc, f.fold(err)
}

func (f *folded) PushManifest(ctx context.Context, repo, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	desc, err := f.Registry.PushManifest(ctx, repo, ref, contents, mediaType, tags...)
	return desc, f.fold(err)
}

func (f *folded) DeleteManifest(ctx context.Context, repo string, digest ociregistry.Digest) error {
	return f.fold(f.Registry.DeleteManifest(ctx, repo, digest))
}

func (f *folded) DeleteTag(ctx context.Context, repo, tag string) error {
	return f.fold(f.Registry.DeleteTag(ctx, repo, tag))
}

func (f *folded) GC(ctx context.Context, opts *ocigc.Options) (*ocigc.Report, error) {
	report, err := f.Registry.GC(ctx, opts)
	return report, f.fold(err)
}
