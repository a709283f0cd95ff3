package repos

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/journal"
	"github.com/seed-40b21970/oci/ocifs/internal/layout"
	"github.com/seed-40b21970/oci/ocifs/internal/queue"
	"github.com/seed-40b21970/oci/ocifs/internal/snapshots"
	"github.com/seed-40b21970/oci/ociregistry"
)

// A Repository is what this process knows about one repository. A Set has one for each
// name that is in use; other processes may have the same repository. All that these share
// is the files and the lock of the journal. It is safe for concurrent use.
type Repository struct {
	Name string
	Dir  string // of its layout

	set      *Set
	index    string // the path of index.json
	journal  string // the path of the journal
	snapshot snapshots.File

	users atomic.Int32 // calls that are under way, scheduled folds, and the set of those to be folded

	commits   queue.Queue[*Change]
	committer committer
	folding   folding
	open      disk.File        // the journal, if it stays open between changes; used by the leader
	record    []byte           // a buffer; used by the leader
	synced    journal.Position // the journal is known to be durable up to here; used by the leader

	anchored atomic.Bool  // the names that lead to its files are durable: see anchor
	adding   atomic.Int64 // the number of files that may have names that are not durable

	changes changes

	saving  atomic.Bool // a snapshot is to be saved
	loading queue.Gate  // held while bringing state up to date with the disk
	writing atomic.Bool // a commit is under way, and state is up to date for it

	mu      sync.RWMutex // protects the following
	state   *repostate.State
	seen    stamps           // the files from which state was read
	at      journal.Position // the journal was read up to here
	written written
}

// stamps tell whether the files of a repository have changed.
type stamps struct{ index, journal fs.FileInfo } // nil for a file that does not exist

func (s stamps) equal(other stamps) bool {
	return disk.Unchanged(s.index, other.index) && disk.Unchanged(s.journal, other.journal)
}

// retain counts one more user, for a caller who is one.
func (repo *Repository) retain() { repo.users.Add(1) }

// Release counts one user less. A repository that has none and does not exist is
// forgotten.
func (repo *Repository) Release() {
	if repo.users.Add(-1) > 0 || repo.isThere() {
		return
	}
	set := repo.set
	set.mu.Lock()
	defer set.mu.Unlock()
	if repo.users.Load() == 0 && !repo.isThere() && set.repos[repo.Name] == repo {
		delete(set.repos, repo.Name)
	}
}

// View calls f with the state of the repository, which f must not change. It is as up to
// date as [Repository.Find] has made it.
func (repo *Repository) View(f func(s *repostate.State)) {
	repo.mu.RLock()
	defer repo.mu.RUnlock()
	f(repo.state)
}

// Update calls f with the state of the repository, to note what was found out of its
// content. Changes go through [Repository.Commit].
func (repo *Repository) Update(f func(s *repostate.State)) {
	repo.mu.Lock()
	defer repo.mu.Unlock()
	f(repo.state)
}

// Warn tells the logger of a problem with the repository.
func (repo *Repository) Warn(msg string, args ...any) {
	repo.set.log.Warn(msg, append([]any{"repository", repo.Name}, args...)...)
}

// isThere reports whether the repository had a directory when its files were last looked
// at.
func (repo *Repository) isThere() bool {
	repo.mu.RLock()
	defer repo.mu.RUnlock()
	return repo.seen != stamps{}
}

// Find brings a repository up to date. Its errors are those of [Set.Open].
func (repo *Repository) Find() error {
	set := repo.set
	if err := set.Usable(); err != nil {
		return err
	}
	if set.single != "" && repo.Name != set.single {
		return ociregistry.ErrNameUnknown
	}
	if err := repo.refresh(); err != nil {
		return err
	}
	if repo.isThere() {
		return nil
	}
	if err := repo.checkNoBlobs(); err != nil {
		return err
	}
	return ociregistry.ErrNameUnknown
}

// ErrNoIndex means that a repository has blobs but no index.json, and that its journal has
// no changes.
var ErrNoIndex = errors.New("there are blobs and no index.json")

// checkNoBlobs returns ErrNoIndex if there are blobs. It is for a repository that had
// no index.json a moment ago. Another process may be creating or removing it. Since
// index.json exists before the first blob and after the last, checkNoBlobs looks
// twice.
func (repo *Repository) checkNoBlobs() error {
	for range 2 {
		if blobs, err := disk.Lstat(repo.set.fs, filepath.Join(repo.Dir, "blobs")); blobs == nil {
			return err
		}
		if has, err := repo.hasBlobs(); err != nil || !has {
			return err
		}
		if index, err := disk.Lstat(repo.set.fs, repo.index); err != nil || index != nil {
			return err
		}
	}
	return fmt.Errorf("repository %s: %w", repo.Name, ErrNoIndex)
}

// Missing returns err, which says that some content is missing, or
// [ociregistry.ErrNameUnknown] if the repository holds nothing at all.
func (repo *Repository) Missing(err error) error {
	exists, existsErr := repo.exists()
	switch {
	case existsErr != nil:
		return existsErr
	case !exists:
		return ociregistry.ErrNameUnknown
	}
	return err
}

// exists reports whether the repository holds anything.
func (repo *Repository) exists() (bool, error) {
	repo.mu.RLock()
	known := !repo.state.IsEmpty()
	there := repo.seen != stamps{}
	repo.mu.RUnlock()
	if known || !there {
		return known, nil
	}
	return repo.hasBlobs()
}

// Exists reports whether a repository, which has or would have that directory, holds anything.
// For most repositories it need not read the state: a file below blobs is enough, unless the
// journal may say that it is not a blob.
func (set *Set) Exists(name, dir string) (bool, error) {
	journalInfo, err := disk.Lstat(set.fs, layout.JournalPath(dir))
	if err != nil {
		return false, err
	}
	empty := journalInfo == nil || journalInfo.Size() <= int64(journal.HeaderSize)
	if empty {
		index, err := disk.Lstat(set.fs, layout.IndexPath(dir))
		if err != nil {
			return false, err
		}
		if index != nil {
			return set.store.HasAny(dir, func(ociregistry.Digest) bool { return true })
		}
	}
	repo := set.Use(name)
	defer repo.Release()
	if empty {
		return false, repo.checkNoBlobs()
	}
	err = repo.Find()
	if errors.Is(err, ociregistry.ErrNameUnknown) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return repo.exists()
}

// hasBlobs reports whether there are files of blobs, or of manifests that were not deleted.
func (repo *Repository) hasBlobs() (bool, error) {
	return repo.set.store.HasAny(repo.Dir, func(digest ociregistry.Digest) bool {
		repo.mu.RLock()
		defer repo.mu.RUnlock()
		return !repo.state.IsDeleted(digest)
	})
}

// refresh brings the state up to date if another process or program has changed
// something.
func (repo *Repository) refresh() error {
	if repo.writing.Load() {
		return repo.showWritten() // the lock of the commit keeps others out
	}
	now, err := repo.stat()
	if err != nil {
		return err
	}
	repo.mu.RLock()
	current := now.equal(repo.seen)
	repo.mu.RUnlock()
	if current {
		return nil
	}
	repo.loading.Lock()
	defer repo.loading.Unlock()
	if repo.writing.Load() {
		return repo.showWritten()
	}
	if now, err = repo.stat(); err != nil {
		return err
	}
	return repo.catchUp(now)
}

func (repo *Repository) stat() (now stamps, err error) {
	if now.index, err = disk.Lstat(repo.set.fs, repo.index); err != nil {
		return stamps{}, err
	}
	now.journal, err = disk.Lstat(repo.set.fs, repo.journal)
	return now, err
}

// catchUp brings the state up to date with the files that now describes. The caller
// holds repo.loading.
func (repo *Repository) catchUp(now stamps) error {
	seen, at := repo.seen, repo.at // nobody else changes them
	if now.equal(seen) {
		return nil
	}
	if disk.Unchanged(now.index, seen.index) && now.journal != nil && seen.journal != nil && os.SameFile(now.journal, seen.journal) {
		if done, err := repo.readOn(now, at); done || err != nil {
			return err
		}
	}
	return repo.load()
}

// readOn applies the records that were appended to the journal after at. It returns
// false if at is not a position in the journal any more, or if it cannot tell.
func (repo *Repository) readOn(now stamps, at journal.Position) (bool, error) {
	f, err := repo.set.fs.OpenFile(repo.journal, os.O_RDONLY, 0)
	if err != nil {
		if disk.IsAbsent(err) {
			return false, nil
		}
		return false, err
	}
	defer f.Close()
	if !at.IsIn(f, now.journal.Size()) {
		return false, nil // if it cannot be read, load returns the error
	}
	text, err := disk.ReadFrom(f, at.Offset())
	if err != nil {
		return false, err
	}
	repo.mu.Lock()
	end := journal.ReadRecords(text, at, repo.state.ApplyRecord)
	// A record at the end that was incomplete before, and was not written to since, stays so.
	torn := end == at && text != "" && !disk.Unchanged(now.journal, repo.seen.journal)
	if !torn {
		repo.at, repo.seen = end, now
	}
	repo.mu.Unlock()
	if end != at {
		repo.Doubt()
		repo.scheduleFold()
	}
	return !torn, nil
}

// load reads the whole state anew.
func (repo *Repository) load() error {
	var s *repostate.State
	var seen stamps
	var at journal.Position
	var err error
	for wait := time.Millisecond; ; wait *= 2 {
		s, seen, at, err = repo.read()
		if !errors.Is(err, errChanging) || wait > writeTime {
			break
		}
		time.Sleep(wait)
	}
	if err != nil {
		return err
	}
	if _, err := repo.set.layouts.CheckDirs(repo.Dir); err != nil {
		return err
	}
	if seen.index == nil && !at.HasRecords() {
		if err := repo.checkNoBlobs(); err != nil {
			return err
		}
	}
	repo.findTypes(s)
	repo.Doubt()
	repo.mu.Lock()
	if old := repo.seen.journal; old != nil && (seen.journal == nil || !os.SameFile(old, seen.journal)) {
		repo.anchored.Store(false) // another process has created it anew
	}
	s.Inherit(repo.state)
	repo.state, repo.seen, repo.at = s, seen, at
	repo.mu.Unlock()
	// If another process has folded the journal, the mark may be gone, or may be left
	// over. A fold that finds nothing to do removes it.
	if repo.set.folded(repo) || at.HasRecords() {
		repo.scheduleFold()
	}
	return nil
}

// errChanging means that files were replaced while they were read: a fold is between
// its last two steps, or another program writes index.json in place.
var errChanging = errors.New("the file is being written")

// writeTime is how long another program may take to write an index.json.
const writeTime = 50 * time.Millisecond

// read reads index.json and the journal. A fold replaces index.json before it
// restarts the journal. If the journal's generation is the same before and after
// reading index.json, the journal has everything that index.json may lack.
func (repo *Repository) read() (s *repostate.State, seen stamps, at journal.Position, err error) {
	if seen, err = repo.stat(); err != nil {
		return nil, seen, at, err
	}
	before, err := disk.ReadFirst(repo.set.fs, repo.journal, journal.HeaderSize)
	if err != nil {
		return nil, seen, at, err
	}
	if s, err = repo.readIndex(seen.index); err != nil {
		return nil, seen, at, err
	}
	text, err := disk.ReadFirst(repo.set.fs, repo.journal, -1)
	if err != nil {
		return nil, seen, at, err
	}
	at, begun := journal.ParseHeader([]byte(text[:min(len(text), journal.HeaderSize)]))
	if was, ok := journal.ParseHeader([]byte(before)); ok != begun || !was.SameGeneration(at) {
		return nil, seen, at, fmt.Errorf("%s: %w", repo.journal, errChanging)
	}
	if begun {
		at = journal.ReadRecords(text[journal.HeaderSize:], at, s.ApplyRecord)
	}
	return s, seen, at, nil
}

// readIndex returns the state that index.json has, which info described a moment ago.
func (repo *Repository) readIndex(info fs.FileInfo) (*repostate.State, error) {
	s, current := repo.readSnapshot(info)
	if !current {
		old := s
		var err error
		if s, err = repo.parseIndex(); err != nil {
			return nil, err
		}
		if old != nil {
			s.InheritTimes(old)
		}
	}
	if s.IsEmpty() {
		return s, nil
	}
	if _, err := repo.set.fs.Lstat(filepath.Join(repo.Dir, layout.FileName)); err != nil {
		repo.Warn("the layout has no readable oci-layout file", "error", err)
	}
	return s, nil
}

// parseIndex returns the state that the text of index.json has.
func (repo *Repository) parseIndex() (*repostate.State, error) {
	s := repostate.New()
	err := disk.WithText(repo.set.fs, repo.index, func(f disk.File, text string) error {
		err := s.ParseIndex(text)
		if err == nil {
			return nil
		}
		err = fmt.Errorf("%s: %w", repo.index, err)
		if info, statErr := f.Stat(); statErr == nil && time.Since(info.ModTime()) < writeTime {
			err = fmt.Errorf("%w: %w", errChanging, err)
		}
		return err
	})
	return s, err
}
