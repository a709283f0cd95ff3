package ocifs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

// repository is what this process knows of one repository. There may be several
// for one directory at a time, in this process and in others: what they share is
// on disk, and the lock of the journal.
type repository struct {
	registry *Registry
	name     string
	dir      string
	index    string // the path of index.json
	journal  string // the path of the journal

	commits queue
	folding folding
	record  []byte // a buffer for the one who leads
	synced  place  // up to where the journal is known to be durable, for the one who leads

	anchored atomic.Bool  // the names that lead to its files are durable
	placing  atomic.Int64 // how many files may have names that are not

	loading gate        // for those who bring state up to date with the disk
	writing atomic.Bool // a commit is under way, and state is up to date for it

	mu      sync.RWMutex // for what follows
	state   *state
	seen    stamps // what state was read from
	at      place  // up to where the journal was
	written written
}

// stamps tell whether the files of a repository were changed.
type stamps struct{ index, journal fs.FileInfo } // nil for what is not there

func (s stamps) equal(other stamps) bool {
	return sameFile(s.index, other.index) && sameFile(s.journal, other.journal)
}

func sameFile(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Size() == b.Size() && a.Mode() == b.Mode() && a.ModTime().Equal(b.ModTime()) && os.SameFile(a, b)
}

// repository returns what is known of a repository, which need not exist.
func (r *Registry) repository(name string) *repository {
	r.mu.RLock()
	repo := r.repos[name]
	r.mu.RUnlock()
	if repo != nil {
		return repo
	}
	dir := r.repoDir(name)
	return &repository{
		registry: r,
		name:     strings.Clone(name),
		dir:      dir,
		index:    filepath.Join(dir, "index.json"),
		journal:  filepath.Join(dir, privateDir, "journal"),
		folding:  folding{parts: newGate()},
		loading:  newGate(),
		state:    newState(),
	}
}

// gate is a lock that may be held for long. Unlike those who wait for a mutex,
// those who wait for it count as idle where a test has a clock of its own.
type gate chan struct{}

func newGate() gate { return make(gate, 1) }

func (g gate) lock()   { g <- struct{}{} }
func (g gate) unlock() { <-g }

// keep makes r remember a repository that exists, and returns the one that is
// remembered.
func (r *Registry) keep(repo *repository) *repository {
	r.mu.Lock()
	defer r.mu.Unlock()
	if kept := r.repos[repo.name]; kept != nil {
		return kept
	}
	r.repos[repo.name] = repo
	return repo
}

// forget makes r forget a repository that does not exist any more.
func (r *Registry) forget(repo *repository) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.repos[repo.name] == repo {
		delete(r.repos, repo.name)
	}
}

// writer returns a repository that is about to be changed, and may not exist yet:
// all writers share what is returned. It is to be told when the change failed.
func (r *Registry) writer(name string) *repository { return r.keep(r.repository(name)) }

// failed returns err. If it says that a change failed, and there is no
// repository, that is forgotten.
func (repo *repository) failed(err error) error {
	if err == nil {
		return nil
	}
	repo.mu.RLock()
	there := repo.seen != stamps{}
	repo.mu.RUnlock()
	if !there {
		repo.registry.forget(repo)
	}
	return err
}

// open returns a repository, up to date. If there is no directory of it, the
// error is [ociregistry.ErrNameUnknown]. If there is, it may still hold nothing:
// see missing.
func (r *Registry) open(name string) (*repository, error) {
	if err := r.usable(); err != nil {
		return nil, err
	}
	if r.single != "" && name != r.single {
		return nil, ociregistry.ErrNameUnknown
	}
	for repo := r.repository(name); ; {
		if err := repo.refresh(); err != nil {
			return nil, err
		}
		repo.mu.RLock()
		there := repo.seen != stamps{}
		repo.mu.RUnlock()
		if !there {
			r.forget(repo)
			if err := repo.checkNoBlobs(); err != nil {
				return nil, err
			}
			return nil, ociregistry.ErrNameUnknown
		}
		kept := r.keep(repo)
		if kept == repo {
			return repo, nil
		}
		repo = kept // that of a change which has begun meanwhile, and may know nothing yet
	}
}

// checkNoBlobs returns ErrNoIndex if there are blobs. It is for a repository that had
// no index.json a moment ago. Others may be making it, or removing it: it has an
// index.json before its first blob and after its last, and so is looked at twice.
func (repo *repository) checkNoBlobs() error {
	for range 2 {
		if blobs, err := repo.registry.lstat(filepath.Join(repo.dir, "blobs")); blobs == nil {
			return err
		}
		if has, err := repo.hasBlobs(); err != nil || !has {
			return err
		}
		if index, err := repo.registry.lstat(repo.index); err != nil || index != nil {
			return err
		}
	}
	return fmt.Errorf("repository %s: %w", repo.name, ErrNoIndex)
}

// missing returns err, which says that something is not in the repository, or
// [ociregistry.ErrNameUnknown] if nothing is.
func (repo *repository) missing(err error) error {
	exists, existsErr := repo.exists()
	switch {
	case existsErr != nil:
		return existsErr
	case !exists:
		return ociregistry.ErrNameUnknown
	}
	return err
}

// exists reports whether the repository holds something.
func (repo *repository) exists() (bool, error) {
	repo.mu.RLock()
	known := !repo.state.empty()
	there := repo.seen != stamps{}
	repo.mu.RUnlock()
	if known || !there {
		return known, nil
	}
	return repo.hasBlobs()
}

// hasBlobs reports whether there are files of blobs.
func (repo *repository) hasBlobs() (bool, error) {
	for _, alg := range algorithms {
		// The first few files tell, unless they are none of ours.
		for _, n := range []int{64, 0} {
			entries, err := repo.registry.fs.ReadDir(filepath.Join(repo.dir, "blobs", alg.String()), n)
			if err != nil && !isAbsent(err) {
				return false, err
			}
			if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return repo.isBlobFile(alg, e) }) {
				return true, nil
			}
			if len(entries) < n {
				break
			}
		}
	}
	return false, nil
}

func (repo *repository) isBlobFile(alg digest.Algorithm, e fs.DirEntry) bool {
	digest := ociregistry.Digest(alg.String() + ":" + e.Name())
	repo.mu.RLock()
	defer repo.mu.RUnlock()
	_, deleted := repo.state.deleted[digest]
	return !deleted && e.Type().IsRegular() && ociregistry.CheckDigest(digest) == nil
}

// refresh brings the state up to date if another process, or another program,
// has changed something.
func (repo *repository) refresh() error {
	if repo.writing.Load() {
		return repo.showWritten() // its lock keeps others out
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
	repo.loading.lock()
	defer repo.loading.unlock()
	if repo.writing.Load() {
		return repo.showWritten()
	}
	if now, err = repo.stat(); err != nil {
		return err
	}
	return repo.catchUp(now)
}

func (repo *repository) stat() (now stamps, err error) {
	if now.index, err = repo.registry.lstat(repo.index); err != nil {
		return stamps{}, err
	}
	now.journal, err = repo.registry.lstat(repo.journal)
	return now, err
}

// lstat returns nil for a file that is not there.
func (r *Registry) lstat(name string) (fs.FileInfo, error) {
	info, err := r.fs.Lstat(name)
	if isAbsent(err) {
		return nil, nil
	}
	return info, err
}

// catchUp brings the state up to date with files that look as now says. The
// caller has repo.loading.
func (repo *repository) catchUp(now stamps) error {
	seen, at := repo.seen, repo.at // nobody else changes them
	if now.equal(seen) {
		return nil
	}
	if sameFile(now.index, seen.index) && now.journal != nil && seen.journal != nil && os.SameFile(now.journal, seen.journal) {
		if done, err := repo.readOn(now, at); done || err != nil {
			return err
		}
	}
	return repo.load()
}

// readOn applies what was appended to the journal, if it is still the one that
// was read up to the given place.
func (repo *repository) readOn(now stamps, at place) (bool, error) {
	f, err := repo.registry.fs.OpenFile(repo.journal, os.O_RDONLY, 0)
	if err != nil {
		if isAbsent(err) {
			return false, nil
		}
		return false, err
	}
	defer f.Close()
	header := make([]byte, headerLen)
	if _, err := f.ReadAt(header, 0); err != nil {
		return false, nil // it is being begun anew; loading tells if it cannot be read
	}
	begin, ok := parseHeader(header)
	if !ok || begin.generation != at.generation || now.journal.Size() < at.offset || !at.isIn(f) {
		return false, nil
	}
	text, err := readFrom(f, at.offset)
	if err != nil {
		return false, err
	}
	repo.mu.Lock()
	end := readRecords(text, at, repo.state.apply)
	torn := end == at && text != "" && !repo.atTorn(now)
	if !torn {
		repo.at, repo.seen = end, now
	}
	repo.mu.Unlock()
	if end != at {
		repo.scheduleFold()
	}
	return !torn, nil
}

// atTorn reports whether the end of the journal was found unreadable before, and
// was not written to since.
func (repo *repository) atTorn(now stamps) bool { return sameFile(now.journal, repo.seen.journal) }

// load reads the whole state anew.
func (repo *repository) load() error {
	var s *state
	var seen stamps
	var at place
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
	if err := repo.registry.checkDirs(repo.dir); err != nil {
		return err
	}
	if seen.index == nil && at.offset <= int64(headerLen) {
		if err := repo.checkNoBlobs(); err != nil {
			return err
		}
	}
	repo.findTypes(s)
	repo.mu.Lock()
	if old := repo.seen.journal; old != nil && (seen.journal == nil || !os.SameFile(old, seen.journal)) {
		repo.anchored.Store(false) // another has made it anew
	}
	s.inherit(repo.state)
	repo.state, repo.seen, repo.at = s, seen, at
	repo.mu.Unlock()
	// If another has folded the journal, the mark may be gone, or may be there and
	// be nobody's. A fold that finds nothing to do removes it.
	marked, _ := repo.registry.unfolded.remove(repo)
	if marked || at.offset > int64(headerLen) {
		repo.scheduleFold()
	}
	return nil
}

// errChanging is for files that are replaced while they are read: a fold is
// between its last two steps, or another program writes index.json in place.
var errChanging = errors.New("the file is being written")

// writeTime is how long another program may take to write an index.json.
const writeTime = 50 * time.Millisecond

// read reads index.json and the journal. A fold replaces index.json first and
// begins the journal anew afterwards: if the journal's generation is the same
// before and after, all that index.json may lack is in it.
func (repo *repository) read() (s *state, seen stamps, at place, err error) {
	if seen, err = repo.stat(); err != nil {
		return nil, seen, at, err
	}
	before, err := repo.readJournal(headerLen)
	if err != nil {
		return nil, seen, at, err
	}
	s = newState()
	if err := repo.readIndex(s); err != nil {
		return nil, seen, at, err
	}
	text, err := repo.readJournal(-1)
	if err != nil {
		return nil, seen, at, err
	}
	at, begun := parseHeader([]byte(text[:min(len(text), headerLen)]))
	if was, ok := parseHeader([]byte(before)); ok != begun || was.generation != at.generation {
		return nil, seen, at, fmt.Errorf("%s: %w", repo.journal, errChanging)
	}
	if begun {
		at = readRecords(text[headerLen:], at, s.apply)
	}
	return s, seen, at, nil
}

// readJournal returns the first n bytes of the journal, or all of it. One that is
// not there is empty.
func (repo *repository) readJournal(n int) (string, error) {
	f, err := repo.registry.fs.OpenFile(repo.journal, os.O_RDONLY, 0)
	if err != nil {
		if isAbsent(err) {
			return "", nil
		}
		return "", err
	}
	defer f.Close()
	if n < 0 {
		return readFrom(f, 0)
	}
	text := make([]byte, n)
	n, err = f.ReadAt(text, 0)
	if n > 0 || errors.Is(err, io.EOF) {
		err = nil
	}
	return string(text[:n]), err
}

// readIndex adds to s what index.json says.
func (repo *repository) readIndex(s *state) error {
	f, err := repo.registry.fs.OpenFile(repo.index, os.O_RDONLY, 0)
	if err != nil {
		if isAbsent(err) {
			return nil
		}
		return err
	}
	defer f.Close()
	text, err := readFrom(f, 0)
	if err != nil {
		return err
	}
	if err := s.parseIndex(text); err != nil {
		err = fmt.Errorf("%s: %w", repo.index, err)
		if info, statErr := f.Stat(); statErr == nil && time.Since(info.ModTime()) < writeTime {
			err = fmt.Errorf("%w: %w", errChanging, err)
		}
		return err
	}
	if _, err := repo.registry.fs.Lstat(filepath.Join(repo.dir, "oci-layout")); err != nil && len(s.manifests) > 0 {
		repo.registry.log.Warn("the layout has no readable oci-layout file", "repository", repo.name, "err", err)
	}
	return nil
}

// checkDirs returns an error if a directory that leads to a layout, or one of its
// own, is a symbolic link: it could lead out of the root.
func (r *Registry) checkDirs(layout string) error {
	dirs := []string{filepath.Join(layout, privateDir), filepath.Join(layout, "blobs")}
	for _, alg := range algorithms {
		dirs = append(dirs, filepath.Join(layout, "blobs", alg.String()))
	}
	for dir := layout; len(dir) > len(r.dir); dir = filepath.Dir(dir) {
		dirs = append(dirs, dir)
	}
	for _, dir := range dirs {
		info, err := r.lstat(dir)
		if err != nil {
			return err
		}
		if info != nil && info.Mode()&fs.ModeSymlink != 0 {
			return fmt.Errorf("%s is a symbolic link", dir)
		}
	}
	return nil
}

// isAbsent reports whether err says that there is no such file. A file in place
// of a directory says so too.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
