package ocifs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// DefaultUploadExpiry is how long an upload session may be idle when the
// options do not say.
const DefaultUploadExpiry = 24 * time.Hour

// DefaultMaxUploads is how many upload sessions with bytes there may be when the
// options do not say.
const DefaultMaxUploads = 100_000

// Options has the settings of a Registry. Its zero value is a good one.
type Options struct {
	// NoSync gives up durability for speed: calls return without waiting for
	// the disk. What was acknowledged survives the end of the process at any
	// instant, but not a power cut, after which content may be missing or damaged,
	// index.json included: see [Registry.Repair].
	NoSync bool

	// ReadOnly refuses all changes with [ociregistry.ErrDenied], and writes
	// nothing at all: the directory may be on a read-only filesystem.
	ReadOnly bool

	// ImmutableTags keeps tags where they are: a tag cannot be deleted, nor
	// moved to another manifest, nor its manifest deleted. Such a call returns
	// [ociregistry.ErrDenied].
	ImmutableTags bool

	// Sparse accepts manifests whose config, layers or children are not in the
	// repository, and lets blobs and manifests be deleted while manifests name
	// them. A cache needs that: it holds a part of what its origin has.
	Sparse bool

	// ProtectShared refuses, with [ociregistry.ErrDenied], to delete a manifest
	// by its digest while two or more tags point at it.
	ProtectShared bool

	// VerifyReads makes all reads as those of the view that [Registry.Verified]
	// returns.
	VerifyReads bool

	// MaxBytes bounds the bytes of blobs, manifests and open uploads, each
	// digest counted once however many repositories hold it. A push beyond it
	// returns [ociregistry.ErrDenied] and leaves nothing. Zero is no bound.
	//
	// With a bound, New walks the whole directory to count what is there. What
	// other processes add afterwards is not counted. A blob of up to 16 KiB that
	// was just pushed to two repositories counts twice until it is a file, which
	// takes about a second.
	MaxBytes int64

	// UploadExpiry is how long an upload session may be idle before it ends.
	// Zero is DefaultUploadExpiry; negative is for ever, but one that nothing was
	// written to ends after DefaultUploadExpiry.
	UploadExpiry time.Duration

	// MaxUploads bounds how many upload sessions there are that something was
	// written to, those of other processes included, which are counted about once
	// a minute. The first Write of one more returns
	// [ociregistry.ErrTooManyRequests]. Zero is DefaultMaxUploads; negative is no
	// bound.
	MaxUploads int

	// Logger is told of what is wrong with the directory and could be passed
	// over, and of work in the background that failed. Nil is silence.
	Logger *slog.Logger
}

// Registry is a registry in a directory. It is safe for concurrent use, and so
// is its directory: several processes may have it open at once.
type Registry struct {
	*ociregistry.Funcs

	opts    Options
	fs      filesystem
	log     *slog.Logger
	dir     string
	single  string // the name of the only repository, if dir is its layout
	used    atomic.Int64
	store   *store
	uploads *uploads
	cache   cache

	mu    sync.RWMutex
	repos map[string]*repository // those that were asked for, and exist

	unfolded  unfolded
	recovery  gate // for recovered
	recovered bool
	closed    atomic.Bool
	ctx       context.Context // ends when the registry is closed
	end       context.CancelFunc
	working   sync.WaitGroup
}

var _ ociregistry.Interface = (*Registry)(nil)

// New returns the registry in the directory dir, which has an image layout for
// each repository. The directory is made if it is not there. Nil options are the
// zero Options.
//
// It costs the same for any number of repositories. It removes what a process
// that was killed has left behind. The registry should be closed.
//
// The errors are those of the filesystem.
func New(dir string, opts *Options) (*Registry, error) { return open(osFS{}, dir, "", opts) }

// NewLayout returns a registry whose only repository is the image layout in the
// directory dir. The layout comes into being with the first push if it is not
// there. It is otherwise as [New]. Other repositories are unknown, and pushes to
// them are refused with [ociregistry.ErrDenied].
//
// Errors: [ociregistry.ErrNameInvalid], and those of the filesystem.
func NewLayout(dir, repo string, opts *Options) (*Registry, error) {
	if err := ociregistry.CheckRepository(repo); err != nil {
		return nil, fmt.Errorf("ocifs: %w: %.80q", err, repo)
	}
	return open(osFS{}, dir, repo, opts)
}

func open(fsys filesystem, dir, single string, opts *Options) (*Registry, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	r := &Registry{fs: fsys, dir: dir, single: single, repos: make(map[string]*repository), recovery: newGate()}
	if opts != nil {
		r.opts = *opts
	}
	if r.opts.UploadExpiry == 0 {
		r.opts.UploadExpiry = DefaultUploadExpiry
	}
	if r.opts.MaxUploads == 0 {
		r.opts.MaxUploads = DefaultMaxUploads
	}
	if r.log = r.opts.Logger; r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	private := filepath.Join(dir, privateDir)
	r.store = newStore(fsys, private, !r.opts.NoSync, r.log)
	r.store.take, r.store.give = r.take, r.give
	r.uploads = newUploads(r.store, private, r.opts.UploadExpiry, r.opts.MaxUploads, r.log)
	r.uploads.publish, r.uploads.publishText = r.publishUpload, r.publishUploadText
	r.ctx, r.end = context.WithCancel(context.Background())
	if err := r.begin(); err != nil {
		r.end()
		return nil, fmt.Errorf("ocifs: %w", err)
	}
	return r, nil
}

// begin makes the directory ready.
func (r *Registry) begin() error {
	if !r.opts.ReadOnly {
		if err := r.makeDirs(r.dir); err != nil {
			return err
		}
	}
	if _, err := r.fs.ReadDir(r.dir, 1); err != nil {
		return err // it is no directory, for instance
	}
	if r.opts.ReadOnly {
		return nil
	}
	if err := r.store.recover(); err != nil {
		r.log.Warn("removing what a process that died has left behind", "error", err)
	}
	if r.opts.MaxBytes > 0 {
		if err := r.countBytes(); err != nil {
			return err
		}
	}
	r.uploads.watch()
	r.background(0, r.recover)
	return nil
}

// Close writes to the layouts what only the journals have, ends what goes on in
// the background, and lets go of the directory. Open readers are not disturbed.
// Pushes that are under way may fail. It is safe to call it twice.
//
// An error means that a layout could not be brought up to date, of which nothing is
// lost: the next Registry does it. Or it means that bytes of an upload, whose writer was
// not closed, could not be kept.
func (r *Registry) Close() error {
	if !r.opts.ReadOnly {
		r.recover(r.ctx)
	}
	r.mu.Lock()
	closed := r.closed.Swap(true)
	r.mu.Unlock()
	if closed {
		return nil
	}
	r.end()
	r.working.Wait()
	var errs []error
	for _, repo := range r.unfolded.all() {
		err := repo.commit(&change{ctx: context.Background(), alone: true, work: repo.fold})
		if errors.Is(err, ociregistry.ErrNameUnknown) {
			r.unmark(repo)
		} else if err != nil {
			errs = append(errs, err)
		}
	}
	errs = append(errs, r.uploads.close(), r.store.close())
	return errors.Join(errs...)
}

// background calls f after some time, unless the registry is closed before. The
// context of f ends when the registry is closed.
func (r *Registry) background(after time.Duration, f func(context.Context)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed.Load() {
		return
	}
	r.working.Add(1)
	go func() {
		defer r.working.Done()
		timer := time.NewTimer(after)
		defer timer.Stop()
		select {
		case <-timer.C:
			f(r.ctx)
		case <-r.ctx.Done():
		}
	}()
}

// usable checks that the registry is open.
func (r *Registry) usable() error {
	if r.closed.Load() {
		return errClosed
	}
	return nil
}

// writable checks that a repository may be changed.
func (r *Registry) writable(repo string) error {
	if err := r.usable(); err != nil {
		return err
	}
	if r.opts.ReadOnly {
		return fmt.Errorf("%w: the registry is read-only", ociregistry.ErrDenied)
	}
	if r.single != "" && repo != r.single {
		return fmt.Errorf("%w: the only repository is %s", ociregistry.ErrDenied, r.single)
	}
	return nil
}

var errClosed = fmt.Errorf("ocifs: the registry is closed: %w", fs.ErrClosed)

// repoDir returns the directory of a repository.
func (r *Registry) repoDir(name string) string {
	if r.single != "" {
		return r.dir
	}
	return repoPath(r.dir, name)
}

// take accounts for n more bytes, unless they would be too many.
func (r *Registry) take(n int64) error {
	for {
		// Bytes that are refused must not be counted even for a moment: others
		// that fit would be refused with them.
		used := r.used.Load()
		if r.opts.MaxBytes > 0 && n > r.opts.MaxBytes-used {
			return fmt.Errorf("%w: the registry's limit of %d bytes is reached", ociregistry.ErrDenied, r.opts.MaxBytes)
		}
		if r.used.CompareAndSwap(used, used+n) {
			return nil
		}
	}
}

// give accounts for n bytes that were freed.
func (r *Registry) give(n int64) { r.used.Add(-n) }

// opError makes err, if there is one, tell what was asked.
func opError(err error, op, repo, ref string) error {
	if err == nil {
		return nil
	}
	return &ociregistry.OpError{Op: op, Repo: repo, Ref: ref, Err: err}
}
