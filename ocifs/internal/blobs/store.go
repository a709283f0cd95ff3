package blobs

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Store keeps blobs as files: in layout directories, where other programs find them,
// and in the pool, which has a second name for each file. Content that several
// layouts hold is thus one file. A Store is safe for concurrent use, and several
// processes may share the directories.
//
// Nothing depends on the pool. If it loses an entry, the content is stored again the
// next time it arrives.
type Store struct {
	Clock Clock // may be replaced before the store is used

	work  *disk.Workspace
	pool  string // the directory of the pool, created when needed
	log   *slog.Logger
	quota *Quota

	verdicts verdicts // on files that were read to find out whether they are damaged

	seed  maphash.Seed
	locks [256]sync.Mutex // by digest: linking and removing exclude each other
}

// Link and Put return these errors. Both are also [fs.ErrNotExist].
var (
	ErrNoSource = fmt.Errorf("no such blob: %w", fs.ErrNotExist)   // the blob to link does not exist
	ErrNoLayout = fmt.Errorf("no such layout: %w", fs.ErrNotExist) // the directory is not a layout
)

// ErrBroken means that the sync of content failed. A second sync could not be
// trusted.
var ErrBroken = errors.New("the content could not be made durable, and has to be written again")

// New returns a store whose pool is in the directory of work. The store reserves
// bytes of the quota before it stores them. If quota is nil, New uses a new one. If
// log is nil, nothing is logged.
func New(work *disk.Workspace, quota *Quota, log *slog.Logger) *Store {
	if quota == nil {
		quota = new(Quota)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Store{
		Clock: Clock{Now: time.Now},
		work:  work,
		pool:  filepath.Join(work.Dir, "blobs"),
		log:   log,
		quota: quota,
		seed:  maphash.MakeSeed(),
	}
}

// IsVacant reports whether there is nothing in the place of a file in a layout directory.
func (s *Store) IsVacant(dir string, d ociregistry.Digest) bool {
	info, err := disk.Lstat(s.work.FS, Path(dir, d))
	return info == nil && err == nil
}

// Stat returns the size of a blob in a layout directory. The error is an
// [fs.ErrNotExist] also for a file that cannot be the blob: one that is not regular,
// an empty file with another digest than that of empty content, or a file that was
// found damaged. In the last case the error is also an [ErrDamaged].
func (s *Store) Stat(dir string, d ociregistry.Digest) (size int64, err error) {
	return s.statNamed(Path(dir, d), d)
}

func (s *Store) statNamed(name string, d ociregistry.Digest) (size int64, err error) {
	info, err := s.work.FS.Lstat(name)
	if err == nil {
		err = s.check(name, info, d)
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// StatPool returns the size of a blob in the pool. Its errors are those of Stat.
func (s *Store) StatPool(d ociregistry.Digest) (int64, error) {
	return s.statNamed(s.poolPath(d), d)
}

// HasPool reports whether there is a pool. There is none where a file can have only
// one name.
func (s *Store) HasPool(d ociregistry.Digest) bool {
	info, err := s.work.FS.Lstat(filepath.Dir(s.poolPath(d)))
	return err == nil && info.IsDir()
}

// StatAny is like Stat, but also accepts a blob that was found damaged.
func (s *Store) StatAny(dir string, d ociregistry.Digest) (size int64, err error) {
	name := Path(dir, d)
	info, err := s.work.FS.Lstat(name)
	if err == nil {
		err = checkBlob(name, info, d)
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Open opens a blob in a layout directory for reading, and returns its file
// information. Its errors are those of Stat.
func (s *Store) Open(dir string, d ociregistry.Digest) (disk.File, fs.FileInfo, error) {
	return s.openNamed(Path(dir, d), d, os.O_RDONLY)
}

// ReadText returns the verified bytes of a blob in a layout directory. If the file
// does not have size bytes, if size exceeds most, or if the bytes do not match d, the
// error is an [fs.ErrNotExist].
func (s *Store) ReadText(dir string, d ociregistry.Digest, size, most int64) (string, error) {
	f, info, err := s.Open(dir, d)
	if err != nil {
		return "", err
	}
	defer f.Close()
	at := time.Now()
	n := info.Size()
	if n != size || size > most {
		return "", fmt.Errorf("%s: %d bytes instead of %d: %w", d, n, size, fs.ErrNotExist)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, n), text); err != nil {
		return "", err
	}
	if d.Algorithm().FromBytes(text) != d {
		s.verdicts.note(d, info, at, false)
		return "", fmt.Errorf("%s: other content: %w", d, fs.ErrNotExist)
	}
	return string(text), nil
}

func (s *Store) openBlob(name string, d ociregistry.Digest, flag int) (disk.File, int64, error) {
	f, info, err := s.openNamed(name, d, flag)
	if err != nil {
		return nil, 0, err
	}
	return f, info.Size(), nil
}

func (s *Store) openNamed(name string, d ociregistry.Digest, flag int) (disk.File, fs.FileInfo, error) {
	info, err := s.work.FS.Lstat(name) // opening a named pipe would wait for a writer
	if err == nil {
		err = checkBlob(name, info, d)
	}
	if err != nil {
		return nil, nil, err
	}
	f, err := s.work.FS.OpenFile(name, flag, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err = f.Stat()
	if err == nil {
		err = s.check(name, info, d)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// check is like checkBlob, but also rejects a file that was found damaged.
func (s *Store) check(name string, info fs.FileInfo, d ociregistry.Digest) error {
	err := checkBlob(name, info, d)
	if err == nil && s.verdicts.isDamaged(d, info) {
		err = &fs.PathError{Op: "stat", Path: name, Err: errKnownDamaged}
	}
	return err
}

// errKnownDamaged means that a file was found damaged, and counts as missing.
var errKnownDamaged = fmt.Errorf("%w, and so as good as missing: %w", ErrDamaged, fs.ErrNotExist)

func checkBlob(name string, info fs.FileInfo, d ociregistry.Digest) error {
	if !info.Mode().IsRegular() || info.Size() == 0 && d != d.Algorithm().FromString("") {
		return &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return nil
}

// Remove removes a blob from a layout directory, durably. If no other layout holds
// the blob, Remove also removes it from the pool.
func (s *Store) Remove(dir string, d ociregistry.Digest) error {
	if err := s.unlink(Path(dir, d), d); err != nil {
		return err
	}
	s.DropUnused(d)
	return s.work.SyncDir(filepath.Dir(Path(dir, d)))
}

// RemoveUnsynced is Remove, but not durable, and the pool keeps the blob until
// [Store.DropUnused].
func (s *Store) RemoveUnsynced(dir string, d ociregistry.Digest) error {
	return s.unlink(Path(dir, d), d)
}

func (s *Store) unlink(name string, d ociregistry.Digest) error {
	mu := s.lock(d)
	mu.Lock()
	defer mu.Unlock()
	info, err := s.work.FS.Lstat(name)
	if err != nil {
		return err
	}
	if err := s.work.FS.Remove(name); err != nil {
		return err
	}
	if disk.Links(info) == 1 {
		s.quota.Release(info.Size())
	}
	return nil
}

// DropUnused removes d from the pool if no layout has it.
func (s *Store) DropUnused(d ociregistry.Digest) {
	s.DropOld(d, func(time.Time) bool { return true })
}

// DropOld is DropUnused if isOld reports true for the modification time of the file.
func (s *Store) DropOld(d ociregistry.Digest, isOld func(modified time.Time) bool) {
	mu := s.lock(d)
	mu.Lock()
	defer mu.Unlock()
	name := s.poolPath(d)
	info, err := s.work.FS.Lstat(name)
	if err == nil && disk.Links(info) == 1 && isOld(info.ModTime()) && s.work.FS.Remove(name) == nil {
		s.quota.Release(info.Size())
	}
}

func (s *Store) lock(d ociregistry.Digest) *sync.Mutex {
	return &s.locks[maphash.String(s.seed, string(d))%uint64(len(s.locks))]
}
