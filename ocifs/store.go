package ocifs

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

	"github.com/seed-40b21970/oci/ociregistry"
)

// store keeps blobs as files: in layout directories, where other programs find
// them, and in the pool, which has one more name of each, so that content that
// several repositories hold is one file. It is safe for concurrent use, and for
// several processes that share the directories.
//
// Nothing depends on the pool: losing an entry costs that the content is stored
// once more the next time it comes.
type store struct {
	fs      filesystem
	pool    string // the directory of the pool, made when it is needed
	private string
	log     *slog.Logger
	staging staging
	syncs   syncs

	// take, if not nil, is asked before bytes are stored, and may refuse; give is
	// told of bytes that are gone. Bytes of a blob count once however many
	// repositories hold it.
	take func(n int64) error
	give func(n int64)

	verdicts verdicts // of files that were read to find out whether they are damaged

	seed  maphash.Seed
	locks [256]sync.Mutex // by digest: who links and who removes exclude each other
}

// What can be missing for a link or a put. Both are also [fs.ErrNotExist].
var (
	errNoSource = fmt.Errorf("no such blob: %w", fs.ErrNotExist)
	errNoLayout = fmt.Errorf("no such layout: %w", fs.ErrNotExist)
)

// errBroken is for content whose sync failed. No second sync can be believed.
var errBroken = errors.New("the content could not be made durable, and has to be written again")

// newStore returns a store whose private directory is private. The directory is
// made when it is needed first; the one that it is in must exist. If durable is
// false, nothing is synced. A nil log is silent.
func newStore(fsys filesystem, private string, durable bool, log *slog.Logger) *store {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &store{
		fs:      fsys,
		pool:    filepath.Join(private, "blobs"),
		private: private,
		log:     log,
		staging: staging{fs: fsys, top: filepath.Join(private, "staging")},
		syncs:   syncs{fs: fsys, on: durable, top: private},
		seed:    maphash.MakeSeed(),
	}
}

// close removes what is staged.
func (s *store) close() error { return s.staging.close() }

// recover removes what processes that died had staged.
func (s *store) recover() error { return s.staging.recover() }

// syncDir makes the entries of a directory durable. Concurrent calls for one
// directory share the work.
func (s *store) syncDir(dir string) error { return s.syncs.dir(dir) }

// writeFile replaces the file name, whose directory must exist, by one that write
// writes. The contents are durable when it returns; that the name is theirs is up
// to syncDir.
func (s *store) writeFile(name string, write func(io.Writer) error) error {
	tmp, _, err := s.writeTemp(write)
	if err != nil {
		return err
	}
	if err := s.fs.Rename(tmp, name); err != nil {
		s.fs.Remove(tmp)
		return err
	}
	return nil
}

// writeTemp writes a file that is to be renamed. It returns its name and what the
// system will say of it under any other.
//
// The file's modification time is exact. What the system gives is the same for
// all that happens within some milliseconds; then a file that was replaced, and
// has got its predecessor's inode, would look as if it was not.
func (s *store) writeTemp(write func(io.Writer) error) (tmp string, info fs.FileInfo, err error) {
	f, tmp, err := s.staging.create()
	if err != nil {
		return "", nil, err
	}
	err = write(f)
	if err == nil {
		err = s.fs.Chtimes(tmp, time.Now())
	}
	if err == nil {
		err = f.Sync() // even if nothing else is: without an index all would be lost
	}
	if err == nil {
		info, err = f.Stat()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		s.fs.Remove(tmp)
	}
	return tmp, info, err
}

// writeText returns a function that writes s.
func writeText(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

// stat returns the size of a blob of a layout directory. The error is an
// fs.ErrNotExist also for what cannot be the blob: no regular file, an empty one
// whose name is not that of nothing, or one that was found to be damaged.
func (s *store) stat(dir string, d ociregistry.Digest) (size int64, err error) {
	return s.statNamed(blobPath(dir, d), d)
}

func (s *store) statNamed(name string, d ociregistry.Digest) (size int64, err error) {
	info, err := s.fs.Lstat(name)
	if err == nil {
		err = s.check(name, info, d)
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// open opens a blob of a layout directory for reading. Its errors are those of
// stat.
func (s *store) open(dir string, d ociregistry.Digest) (file, int64, error) {
	return s.openBlob(blobPath(dir, d), d, os.O_RDONLY)
}

func (s *store) openBlob(name string, d ociregistry.Digest, flag int) (file, int64, error) {
	f, info, err := s.openNamed(name, d, flag)
	if err != nil {
		return nil, 0, err
	}
	return f, info.Size(), nil
}

func (s *store) openNamed(name string, d ociregistry.Digest, flag int) (file, fs.FileInfo, error) {
	info, err := s.fs.Lstat(name) // opening a named pipe would wait for a writer
	if err == nil {
		err = checkBlob(name, info, d)
	}
	if err != nil {
		return nil, nil, err
	}
	f, err := s.fs.OpenFile(name, flag, 0)
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

// check is checkBlob, and knows what was found to be damaged.
func (s *store) check(name string, info fs.FileInfo, d ociregistry.Digest) error {
	err := checkBlob(name, info, d)
	if err == nil && s.verdicts.isDamaged(d, info) {
		err = &fs.PathError{Op: "stat", Path: name, Err: errKnownDamaged}
	}
	return err
}

// errKnownDamaged is for a file that is as good as none.
var errKnownDamaged = fmt.Errorf("%w, and so as good as missing: %w", ErrDamaged, fs.ErrNotExist)

func checkBlob(name string, info fs.FileInfo, d ociregistry.Digest) error {
	if !info.Mode().IsRegular() || info.Size() == 0 && d != d.Algorithm().FromString("") {
		return &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return nil
}

// remove removes a blob from a layout directory, durably. When no other layout
// holds it, it leaves the pool, too.
func (s *store) remove(dir string, d ociregistry.Digest) error {
	name := blobPath(dir, d)
	if err := s.unlink(name, d); err != nil {
		return err
	}
	s.dropUnused(d)
	return s.syncDir(filepath.Dir(name))
}

func (s *store) unlink(name string, d ociregistry.Digest) error {
	mu := s.lock(d)
	mu.Lock()
	defer mu.Unlock()
	info, err := s.fs.Lstat(name)
	if err != nil {
		return err
	}
	if err := s.fs.Remove(name); err != nil {
		return err
	}
	if links(info) == 1 {
		s.release(info.Size())
	}
	return nil
}

// dropUnused removes the pool's entry of d if no layout has it.
func (s *store) dropUnused(d ociregistry.Digest) {
	mu := s.lock(d)
	mu.Lock()
	defer mu.Unlock()
	name := s.poolPath(d)
	info, err := s.fs.Lstat(name)
	if err == nil && links(info) == 1 && s.fs.Remove(name) == nil {
		s.release(info.Size())
	}
}

func (s *store) lock(d ociregistry.Digest) *sync.Mutex {
	return &s.locks[maphash.String(s.seed, string(d))%uint64(len(s.locks))]
}

func (s *store) reserve(n int64) error {
	if s.take == nil || n == 0 {
		return nil
	}
	return s.take(n)
}

func (s *store) release(n int64) {
	if s.give != nil && n != 0 {
		s.give(n)
	}
}

func (s *store) poolPath(d ociregistry.Digest) string {
	return filepath.Join(s.pool, string(d.Algorithm()), d.Encoded())
}

// blobPath returns the name of a blob in a layout directory (OCI image layout
// specification, "Blobs").
func blobPath(dir string, d ociregistry.Digest) string {
	return filepath.Join(dir, "blobs", string(d.Algorithm()), d.Encoded())
}
