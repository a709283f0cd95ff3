package repos

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/counted"
)

// Options are options for NewSet.
type Options struct {
	// ReadOnly: nothing is written.
	ReadOnly bool
	// Max is how many repositories are known at a time that nobody uses.
	Max int
	// Keep is given the text of manifests that the state had, and forgets. It must not wait.
	Keep func(digest ociregistry.Digest, text string)
	// Appended is told after each attempt to append to a log, and Manifests how many bytes the manifests of a repository
	// have after a record, whenever that is found out. They must not wait, and may be nil.
	Appended  func(repo string)
	Manifests func(repo string, number uint64, bytes int64)
	// MinTail is how many bytes of records there are at least before a snapshot is written, and MaxCarried is how
	// many most records carry at most. Zero means DefaultMinTail and DefaultMaxCarried.
	MinTail, MaxCarried int64
	// Log is told of what fails in the background.
	Log *slog.Logger
}

// A Set has the repositories that a process knows. It is safe for concurrent use.
type Set struct {
	bucket *bucket.Bucket
	opts   Options
	ctx    context.Context
	cancel context.CancelFunc
	byName *counted.Set[*Repository]

	work   sync.WaitGroup
	mu     sync.Mutex
	closed bool
}

// Defaults of Options, in bytes.
const (
	DefaultMinTail    = 64 << 10
	DefaultMaxCarried = 128 << 10
)

// NewSet returns an empty Set.
func NewSet(b *bucket.Bucket, opts Options) *Set {
	opts.MinTail = cmp.Or(opts.MinTail, DefaultMinTail)
	opts.MaxCarried = cmp.Or(opts.MaxCarried, DefaultMaxCarried)
	if opts.Appended == nil {
		opts.Appended = func(string) {}
	}
	if opts.Manifests == nil {
		opts.Manifests = func(string, uint64, int64) {}
	}
	s := &Set{bucket: b, opts: opts}
	s.byName = counted.New(opts.Max, func(name string) *Repository {
		return &Repository{set: s, bucket: b, name: name, known: map[ociregistry.Digest]Known{}}
	})
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Close ends what is done in the background, and waits for it. Calls that wait fail.
func (s *Set) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.work.Wait()
}

// Wait waits until nothing is done in the background. It is for tests.
func (s *Set) Wait() { s.work.Wait() }

var errClosed = errors.New("the registry is closed")

// start runs f in the background, unless the Set is closed.
func (s *Set) start(f func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	s.work.Go(f)
	return nil
}

// A Repository is one name, which need not have any content. It is safe for concurrent use.
type Repository struct {
	set    *Set
	bucket *bucket.Bucket
	name   string

	cataloged    atomic.Bool
	snapshotting atomic.Bool
	pace         pace // of the goroutine that runs

	mu      sync.RWMutex
	state   *State // nil if it is not known; changed by the goroutine that runs
	known   map[ociregistry.Digest]Known
	epoch   int // how often all links were forgotten
	queue   []*call
	running bool

	markedNew []string // the keys of the marks that Catalog has written
}

// Open returns the repository of a name, to be released.
func (s *Set) Open(name string) *Repository { return s.byName.Use(name) }

// Release tells that a repository is not used any more.
func (r *Repository) Release() { r.set.byName.Release(r.name) }

// Name returns the repository's name.
func (r *Repository) Name() string { return r.name }

var errNotLoaded = errors.New("the repository's state could not be read")

// View calls f with the state as it is known, locked for reading. There is an error if it is not known.
func (r *Repository) View(f func(*State)) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.state == nil {
		return errNotLoaded
	}
	f(r.state)
	return nil
}

// Load makes the state known, which need not be the end of the log.
func (r *Repository) Load(ctx context.Context) error {
	r.mu.RLock()
	loaded := r.state != nil
	r.mu.RUnlock()
	if loaded {
		return nil
	}
	return r.Refresh(ctx)
}

func (r *Repository) warn(msg string, err error) {
	if r.set.ctx.Err() == nil {
		r.set.opts.Log.Warn(msg, "repository", r.name, "error", err)
	}
}
