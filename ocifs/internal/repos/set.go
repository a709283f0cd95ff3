// Package repos keeps repositories: each is an image layout, with a journal of the changes
// since its index.json was written.
//
// A [Set] has the repositories of a registry, and a [Repository] is one of them. Calls look
// at its state ([Repository.View]) and change it ([Repository.Commit]). A fold brings the
// layout up to date, when the repository has been at rest for a moment.
package repos

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-40b21970/oci/internal/repostate"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/layout"
	"github.com/seed-40b21970/oci/ocifs/internal/marks"
	"github.com/seed-40b21970/oci/ocifs/internal/names"
	"github.com/seed-40b21970/oci/ocifs/internal/queue"
	"github.com/seed-40b21970/oci/ocifs/internal/snapshots"
	"github.com/seed-40b21970/oci/ocifs/internal/tally"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Options configures a [Set]. All fields but Single, ReadOnly and Tally are required.
type Options struct {
	Layouts  layout.Tree
	Store    *blobs.Store // of the blobs in the layouts
	Single   string       // the name of the only repository, if the root is its layout
	ReadOnly bool         // nothing is written
	Log      *slog.Logger
	Tally    *tally.Tally // learns what changes do to the bytes of repositories
}

// A Set has the repositories of a registry. It is safe for concurrent use. Several
// processes may have the same repositories.
type Set struct {
	fs       disk.FS
	dir      string // the root
	single   string
	readOnly bool
	layouts  layout.Tree
	work     *disk.Workspace
	store    *blobs.Store
	log      *slog.Logger
	tally    *tally.Tally
	addings  marks.Set[adding]
	texts    blobs.Texts // of manifests that were recently read or written

	mu    sync.RWMutex
	repos map[string]*Repository // those that are used, or exist and were used

	marks       marks.Dir
	unfolded    marks.Set[*Repository]
	journals    atomic.Int64 // the number of journals that stay open between changes
	marking     queue.Gate   // for foundMarked
	foundMarked bool
	closed      atomic.Bool
	ctx         context.Context // ends when the set is closed
	end         context.CancelFunc
	working     sync.WaitGroup
}

// New returns a set of repositories. The caller must close it.
func New(opts Options) *Set {
	set := &Set{
		fs:       opts.Layouts.Work.FS,
		dir:      opts.Layouts.Root,
		single:   opts.Single,
		readOnly: opts.ReadOnly,
		layouts:  opts.Layouts,
		work:     opts.Layouts.Work,
		store:    opts.Store,
		log:      opts.Log,
		tally:    opts.Tally,
		repos:    make(map[string]*Repository),
		marks:    marks.Dir{FS: opts.Layouts.Work.FS, Path: filepath.Join(opts.Layouts.Root, layout.PrivateDir, "unfolded"), ID: rand.Text()},
		marking:  queue.NewGate(),
	}
	if set.tally == nil {
		set.tally = new(tally.Tally)
	}
	set.ctx, set.end = context.WithCancel(context.Background())
	return set
}

// Start begins to fold, in the background, what others have left unfolded.
func (set *Set) Start() { set.background(0, set.foldMarked) }

// Stop ends the work in the background, and all else: calls fail from then on. It reports
// whether that was not so before. It folds nothing.
func (set *Set) Stop() bool {
	set.mu.Lock()
	closed := set.closed.Swap(true)
	set.mu.Unlock()
	set.end()
	set.working.Wait()
	return !closed
}

// Close stops the set, and folds all journals into their layouts. Calling it again does
// nothing. An error means that a layout could not be brought up to date. Nothing is lost:
// the next Set folds the journal.
func (set *Set) Close() error {
	if !set.readOnly {
		set.foldMarked(set.ctx)
	}
	if !set.Stop() {
		return nil
	}
	var errs []error
	for _, repo := range set.unfolded.All() {
		repo.retain()
		err := repo.Fold(context.Background())
		if errors.Is(err, ociregistry.ErrNameUnknown) {
			set.unmark(repo)
		} else if err != nil {
			errs = append(errs, err)
		}
		repo.Release()
	}
	return errors.Join(errs...)
}

// background calls f after a delay, unless the set is closed first. The context of f ends
// when the set is closed.
func (set *Set) background(after time.Duration, f func(context.Context)) {
	set.mu.RLock()
	defer set.mu.RUnlock()
	if set.closed.Load() {
		return
	}
	set.working.Add(1)
	go func() {
		defer set.working.Done()
		timer := time.NewTimer(after)
		defer timer.Stop()
		select {
		case <-timer.C:
			f(set.ctx)
		case <-set.ctx.Done():
		}
	}()
}

// Usable returns an error that wraps [fs.ErrClosed] if the set is closed.
func (set *Set) Usable() error {
	if set.closed.Load() {
		return errClosed
	}
	return nil
}

var errClosed = fmt.Errorf("ocifs: the registry is closed: %w", fs.ErrClosed)

// EachDir calls f for each directory that may be a repository, in byte order of the names
// that follow startAfter, and skip for each directory that cannot be read, below which
// there may be others.
func (set *Set) EachDir(startAfter string, f func(name, dir string) (more bool, err error), skip func(name string, err error)) error {
	if set.single == "" {
		return names.Walk(set.fs, set.dir, startAfter, f, skip)
	}
	if set.single <= startAfter {
		return nil
	}
	_, err := f(set.single, set.dir)
	return err
}

// Use returns the object of a repository, which need not exist, and counts the caller as
// one of its users until it calls [Repository.Release].
func (set *Set) Use(name string) *Repository {
	set.mu.RLock()
	repo := set.repos[name]
	if repo != nil {
		repo.retain()
	}
	set.mu.RUnlock()
	if repo != nil {
		return repo
	}
	made := set.newRepository(name)
	set.mu.Lock()
	defer set.mu.Unlock()
	if repo = set.repos[name]; repo == nil {
		repo = made
		set.repos[repo.Name] = repo
	}
	repo.retain()
	return repo
}

func (set *Set) newRepository(name string) *Repository {
	dir := set.dir
	if set.single == "" {
		dir = names.Path(set.dir, name)
	}
	repo := &Repository{
		Name:     strings.Clone(name),
		Dir:      dir,
		set:      set,
		index:    layout.IndexPath(dir),
		journal:  layout.JournalPath(dir),
		snapshot: snapshots.File{Path: layout.SnapshotPath(dir), Index: layout.IndexPath(dir), Work: set.work},
		folding:  folding{parts: queue.NewGate()},
		loading:  queue.NewGate(),
		state:    repostate.New(),
	}
	repo.committer.repo = repo
	return repo
}

// Open returns a repository, up to date, as Use does. If it has no directory, the error is
// [ociregistry.ErrNameUnknown]. If it has one, the repository may still hold nothing:
// see [Repository.Missing].
func (set *Set) Open(name string) (*Repository, error) {
	repo := set.Use(name)
	if err := repo.Find(); err != nil {
		repo.Release()
		return nil, err
	}
	return repo, nil
}
