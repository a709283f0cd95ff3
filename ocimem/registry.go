// Package ocimem implements a registry in memory: for tests, for caches, and as the
// simplest complete implementation of [ociregistry.Interface].
//
// A blob is kept as the list of chunks in which it arrived. Chunks are never joined,
// and reading does not copy them if the reader's WriteTo is used. A blob that several
// repositories hold is stored once. The memory of content that is deleted, and of
// sessions that are cancelled or expired, is free at once, or when the last reader
// is gone. [Registry.GC] deletes what nobody needs.
package ocimem

import (
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/internal/ordered"
	"github.com/seed-40b21970/oci/ociregistry"
)

// DefaultUploadExpiry is the time after which an idle upload session ends when the
// configuration does not say. It is shorter than that of package ocifs, because
// each session takes memory, and none of them survives the process.
const DefaultUploadExpiry = time.Hour

// DefaultMaxUploads is the maximum number of upload sessions when the configuration
// does not say.
const DefaultMaxUploads = 100_000

// Config has the settings of a Registry. The zero value is ready to use.
type Config struct {
	// ImmutableTags makes tags immutable. A tag cannot be deleted or moved to
	// another manifest, and its manifest cannot be deleted: such calls return
	// [ociregistry.ErrDenied].
	ImmutableTags bool

	// LaxChildReferences accepts manifests whose config, layers or children are
	// not in the repository.
	LaxChildReferences bool

	// Sparse does the same as LaxChildReferences, and also allows blobs and manifests
	// to be deleted while manifests name them. A cache needs it, because it holds only
	// a part of the content of its origin.
	Sparse bool

	// ProtectShared refuses to delete a manifest by its digest while two or more tags
	// point at it. Such a call returns [ociregistry.ErrDenied].
	ProtectShared bool

	// MaxBytes is the maximum number of bytes of blobs, manifests and open uploads.
	// A blob counts once, however many repositories hold it. A push beyond the limit
	// returns [ociregistry.ErrDenied] and leaves nothing behind; an upload session
	// ends. Zero means no limit.
	//
	// Only content counts. The memory for names and for what is known about manifests
	// is not included.
	MaxBytes int64

	// UploadExpiry is the time after which an idle upload session ends. Zero means
	// DefaultUploadExpiry. A negative value means never.
	UploadExpiry time.Duration

	// MaxUploads is the maximum number of open upload sessions, including sessions
	// that nothing was written to. Opening one more returns
	// [ociregistry.ErrTooManyRequests]. Zero means DefaultMaxUploads. A negative
	// value means no limit.
	MaxUploads int
}

// Registry is a registry in memory. It is safe for concurrent use.
type Registry struct {
	*ociregistry.Funcs

	cfg     Config
	now     func() time.Time
	used    atomic.Int64 // bytes, for Config.MaxBytes
	store   store
	usage   usage
	uploads uploads

	mu    sync.RWMutex
	repos map[string]*repository
	names ordered.Set // of the repositories that hold something
}

var _ ociregistry.Interface = (*Registry)(nil)

// New returns an empty registry with the default configuration.
func New() *Registry { return NewWithConfig(nil) }

// NewWithConfig returns an empty registry. A nil cfg is the zero Config.
func NewWithConfig(cfg *Config) *Registry {
	r := &Registry{now: time.Now, repos: make(map[string]*repository)}
	if cfg != nil {
		r.cfg = *cfg
	}
	if r.cfg.UploadExpiry == 0 {
		r.cfg.UploadExpiry = DefaultUploadExpiry
	}
	if r.cfg.MaxUploads == 0 {
		r.cfg.MaxUploads = DefaultMaxUploads
	}
	r.store.blobs = make(map[ociregistry.Digest]*content)
	r.usage.below = make(map[string]int64)
	r.uploads.open = make(map[uploadKey]*upload)
	rand.Read(r.uploads.secret[:])
	return r
}

// acquireBytes counts n more bytes, or returns an error if they would exceed the limit.
func (r *Registry) acquireBytes(n int64) error {
	for {
		// Bytes that are refused must not count even for a moment. Otherwise a
		// concurrent push that fits could be refused as well.
		used := r.used.Load()
		if r.cfg.MaxBytes > 0 && n > r.cfg.MaxBytes-used {
			return fmt.Errorf("%w: the registry's limit of %d bytes is reached", ociregistry.ErrDenied, r.cfg.MaxBytes)
		}
		if r.used.CompareAndSwap(used, used+n) {
			return nil
		}
	}
}

// releaseBytes stops counting n bytes.
func (r *Registry) releaseBytes(n int64) { r.used.Add(-n) }

// view calls f with the repository locked for reading. A repository that holds
// nothing does not exist.
func (r *Registry) view(name string, f func(*repository) error) error {
	r.mu.RLock()
	repo := r.repos[name]
	r.mu.RUnlock()
	if repo == nil {
		return ociregistry.ErrNameUnknown
	}
	repo.mu.RLock()
	defer repo.mu.RUnlock()
	if repo.empty() {
		return ociregistry.ErrNameUnknown
	}
	return f(repo)
}

// update calls f with the repository locked for writing, if it exists.
func (r *Registry) update(name string, f func(*repository) error) error {
	r.mu.RLock()
	repo := r.repos[name]
	r.mu.RUnlock()
	if repo == nil {
		return ociregistry.ErrNameUnknown
	}
	repo.mu.Lock()
	defer repo.mu.Unlock()
	if repo.empty() {
		return ociregistry.ErrNameUnknown
	}
	err := f(repo)
	r.dropIfEmpty(repo)
	return err
}

// upsert calls f with the repository locked for writing. The repository is created if
// it holds something afterwards.
func (r *Registry) upsert(name string, f func(*repository) error) error {
	for {
		repo := r.repository(name)
		repo.mu.Lock()
		if repo.dropped {
			repo.mu.Unlock()
			continue
		}
		wasEmpty := repo.empty()
		err := f(repo)
		if wasEmpty && !repo.empty() {
			r.mu.Lock()
			r.names.Add(repo.name)
			r.mu.Unlock()
		}
		r.dropIfEmpty(repo)
		repo.mu.Unlock()
		return err
	}
}

// repository returns the repository, which it adds to r.repos if necessary.
func (r *Registry) repository(name string) *repository {
	r.mu.RLock()
	repo := r.repos[name]
	r.mu.RUnlock()
	if repo != nil {
		return repo
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if repo := r.repos[name]; repo != nil {
		return repo
	}
	repo = newRepository(name)
	r.repos[repo.name] = repo
	return repo
}

// dropIfEmpty removes a repository that holds nothing. The repository is locked.
func (r *Registry) dropIfEmpty(repo *repository) {
	if !repo.empty() || repo.dropped {
		return
	}
	repo.dropped = true
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names.Delete(repo.name)
	delete(r.repos, repo.name)
}

// opError wraps err, if it is not nil, in an error that tells which call failed.
func opError(err error, op, repo, ref string) error { return call.New(op, repo, ref).Wrap(err) }
