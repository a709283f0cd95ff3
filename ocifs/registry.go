package ocifs

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/layout"
	"github.com/seed-40b21970/oci/ocifs/internal/pulls"
	"github.com/seed-40b21970/oci/ocifs/internal/queue"
	"github.com/seed-40b21970/oci/ocifs/internal/repos"
	"github.com/seed-40b21970/oci/ocifs/internal/tally"
	"github.com/seed-40b21970/oci/ocifs/internal/uploads"
	"github.com/seed-40b21970/oci/ocifs/internal/usage"
	"github.com/seed-40b21970/oci/ociregistry"
)

// DefaultUploadExpiry is the default of [Options.UploadExpiry]. It is longer than
// that of package ocimem, because a session takes space on the disk rather than
// memory, and can be resumed after a restart.
const DefaultUploadExpiry = uploads.DefaultExpiry

// DefaultMaxUploads is the default of [Options.MaxUploads].
const DefaultMaxUploads = 100_000

// Options configures a [Registry]. The zero value is ready to use.
type Options struct {
	// NoSync trades durability for speed: calls return without waiting for the disk.
	// An acknowledged change survives the end of the process at any instant, but not
	// a power cut. Afterwards content may be missing or damaged, index.json included:
	// see [Registry.Repair].
	NoSync bool

	// ReadOnly refuses all changes with [ociregistry.ErrDenied] and writes nothing at
	// all. The directory may be on a read-only filesystem.
	ReadOnly bool

	// ImmutableTags refuses, with [ociregistry.ErrDenied], to delete a tag, to move
	// it to another manifest, and to delete a manifest that has a tag.
	ImmutableTags bool

	// Sparse accepts manifests whose config, layers or children are not in the
	// repository, and allows blobs and manifests to be deleted while manifests name
	// them. A cache needs this, because it holds only a part of what its origin has.
	Sparse bool

	// ProtectShared refuses, with [ociregistry.ErrDenied], to delete a manifest
	// by its digest while two or more tags point at it.
	ProtectShared bool

	// VerifyReads makes all reads behave like those of [Registry.Verified].
	VerifyReads bool

	// MaxBytes is the maximum total size, in bytes, of blobs, manifests and open
	// uploads. Each digest counts once, however many repositories hold it. A push
	// beyond the limit returns [ociregistry.ErrDenied] and leaves nothing behind.
	// Zero means no limit.
	//
	// With a limit, [New] walks the whole directory to count what is there. What
	// other processes add afterwards is not counted. A blob of up to 16 KiB that was
	// just pushed to two repositories counts twice until it becomes a file, which
	// takes about a second.
	MaxBytes int64

	// UploadExpiry is the time after which an idle upload session ends. Zero means
	// DefaultUploadExpiry. A negative value means that sessions do not expire, except
	// that a session without bytes, which is only its id, ends after
	// DefaultUploadExpiry.
	UploadExpiry time.Duration

	// MaxUploads is the maximum number of upload sessions that have bytes. Those of
	// other processes are included, and are counted about once a minute. The first
	// Write to one session more returns [ociregistry.ErrTooManyRequests]. Zero means
	// DefaultMaxUploads. A negative value means no limit.
	MaxUploads int

	// Logger receives non-fatal problems with the directory, and failures of work in
	// the background. Nil means no logging.
	Logger *slog.Logger
}

// Registry is a registry in a directory. It is safe for concurrent use. Several
// processes may have the same directory open at once.
type Registry struct {
	*ociregistry.Funcs

	opts     Options
	fs       disk.FS
	log      *slog.Logger
	dir      string
	single   string // the name of the only repository, if dir is its layout
	quota    *blobs.Quota
	work     *disk.Workspace
	store    *blobs.Store
	layouts  layout.Tree
	repos    *repos.Set
	uploads  *uploads.Sessions
	pulls    *pulls.Log
	reporter *usage.Reporter
	closed   atomic.Bool
}

var _ ociregistry.Interface = (*Registry)(nil)

// New opens the registry in the directory dir, which has an image layout for each
// repository. It makes the directory if it does not exist. If opts is nil, New uses
// the zero Options. The caller should close the registry.
//
// The cost of New does not depend on the number of repositories, unless
// [Options.MaxBytes] is set. New removes what a killed process has left behind.
//
// Errors: those of the filesystem.
func New(dir string, opts *Options) (*Registry, error) { return open(disk.OS{}, dir, "", opts) }

// NewLayout opens a registry whose only repository is the image layout in the
// directory dir. The first push creates the layout if it does not exist. In all else
// NewLayout is like [New]. Other repositories are unknown, and pushes to them return
// [ociregistry.ErrDenied].
//
// Errors: [ociregistry.ErrNameInvalid], and those of the filesystem.
func NewLayout(dir, repo string, opts *Options) (*Registry, error) {
	if err := ociregistry.CheckRepository(repo); err != nil {
		return nil, fmt.Errorf("ocifs: %w: %.80q", err, repo)
	}
	return open(disk.OS{}, dir, repo, opts)
}

func open(fsys disk.FS, dir, single string, opts *Options) (*Registry, error) {
	return openWith(fsys, dir, single, opts, blobs.Clock{Now: time.Now, Grain: 10 * time.Second})
}

func openWith(fsys disk.FS, dir, single string, opts *Options, clock blobs.Clock) (*Registry, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	r := &Registry{fs: fsys, dir: dir, single: single}
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
	r.work = disk.NewWorkspace(fsys, filepath.Join(dir, layout.PrivateDir), !r.opts.NoSync)
	r.quota = &blobs.Quota{Max: r.opts.MaxBytes}
	r.store = blobs.New(r.work, r.quota, r.log)
	r.store.Clock = clock
	r.pulls = &pulls.Log{Work: r.work, Dir: filepath.Join(r.work.Dir, "pulls"), Log: r.log}
	r.layouts = layout.Tree{Root: dir, Work: r.work}
	bytes := new(tally.Tally)
	r.repos = repos.New(repos.Options{Layouts: r.layouts, Store: r.store, Single: single, ReadOnly: r.opts.ReadOnly, Log: r.log, Tally: bytes})
	r.reporter = &usage.Reporter{
		Repos: r.repos, Work: r.work, Log: r.log, Tally: bytes, Watcher: r.repos.Watcher(), ReadOnly: r.opts.ReadOnly, Gate: queue.NewGate(),
	}
	r.uploads = uploads.New(r.work, r.store, r.quota, uploads.Options{
		Expiry:      r.opts.UploadExpiry,
		MaxSessions: r.opts.MaxUploads,
		Logger:      r.log,
		Now:         clock.Now,
		Publish:     r.publishUpload,
		PublishText: r.publishUploadText,
	})
	if err := r.prepare(); err != nil {
		r.repos.Stop()
		return nil, fmt.Errorf("ocifs: %w", err)
	}
	return r, nil
}

// prepare checks the directory and starts the work in the background.
func (r *Registry) prepare() error {
	if !r.opts.ReadOnly {
		if err := r.layouts.MakeDirs(r.dir); err != nil {
			return err
		}
	}
	if _, err := r.fs.ReadDir(r.dir, 1); err != nil {
		return err // not a directory, for example
	}
	if r.opts.ReadOnly {
		return nil
	}
	if err := r.work.RemoveDead(); err != nil {
		r.log.Warn("removing what a process that died has left behind", "error", err)
	}
	if r.opts.MaxBytes > 0 {
		if err := r.counter().Count(); err != nil {
			return err
		}
	}
	r.uploads.Watch()
	r.repos.Start()
	return nil
}

// Close folds all journals into their layouts, stops the work in the background, and
// releases the directory. Open readers remain usable. Pushes that are under way may
// fail. Calling Close again does nothing.
//
// An error means that a layout could not be brought up to date, or that bytes of an
// upload whose writer was not closed could not be kept. In the first case nothing is
// lost: the next Registry folds the journal.
func (r *Registry) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	err := errors.Join(r.repos.Close(), r.uploads.Close())
	r.pulls.Close()
	r.reporter.Close()
	return errors.Join(err, r.work.Close())
}

func (r *Registry) counter() *usage.Counter {
	return &usage.Counter{Repos: r.repos, Store: r.store, Uploads: r.uploads, Quota: r.quota, Log: r.log}
}

// writable checks that a repository may be changed.
func (r *Registry) writable(repo string) error {
	if err := r.repos.Usable(); err != nil {
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

// opError wraps err, if it is not nil, in an error that tells which call failed.
func opError(err error, op, repo, ref string) error { return call.New(op, repo, ref).Wrap(err) }
