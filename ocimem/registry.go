// Package ocimem is a registry in memory: for tests, for caches, and as the
// simplest complete implementation of [ociregistry.Interface].
//
// A blob is kept as the list of chunks it arrived in. Chunks are never joined,
// and never copied to be read: a reader's WriteTo hands them out. A blob that
// several repositories hold is stored once. What is deleted, cancelled or
// expired is free at once, or when the last reader of it is gone.
package ocimem

import (
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-40b21970/oci/internal/ordered"
	"github.com/seed-40b21970/oci/ociregistry"
)

// DefaultUploadExpiry is how long an upload session may be idle when the
// configuration does not say.
const DefaultUploadExpiry = time.Hour

// DefaultMaxUploads is how many upload sessions there may be when the configuration
// does not say.
const DefaultMaxUploads = 100_000

// Config has the settings of a Registry. Its zero value is a good one.
type Config struct {
	// ImmutableTags keeps tags where they are: a tag cannot be deleted, nor
	// moved to another manifest, nor its manifest deleted. Such a call returns
	// [ociregistry.ErrDenied].
	ImmutableTags bool

	// LaxChildReferences accepts manifests whose config, layers or children are
	// not in the repository.
	LaxChildReferences bool

	// Sparse does what LaxChildReferences does, and lets blobs and manifests be
	// deleted while manifests name them. A cache needs that: it holds a part of
	// what its origin has.
	Sparse bool

	// ProtectShared refuses, with [ociregistry.ErrDenied], to delete a manifest
	// by its digest while two or more tags point at it.
	ProtectShared bool

	// MaxBytes bounds the bytes of blobs, manifests and open uploads, each
	// blob counted once however many repositories hold it. A push beyond it
	// returns [ociregistry.ErrDenied] and leaves nothing: an upload session
	// ends. Zero is no bound.
	//
	// Content alone is counted: names, and what is known of manifests, come on
	// top of it.
	MaxBytes int64

	// UploadExpiry is how long an upload session may be idle before it ends.
	// Zero is DefaultUploadExpiry; negative is for ever.
	UploadExpiry time.Duration

	// MaxUploads bounds how many upload sessions are open, those included that
	// nothing was written to. To open one more returns
	// [ociregistry.ErrTooManyRequests]. Zero is DefaultMaxUploads; negative is no
	// bound.
	MaxUploads int
}

// Registry is a registry in memory. It is safe for concurrent use.
type Registry struct {
	*ociregistry.Funcs

	cfg     Config
	used    atomic.Int64 // bytes, for Config.MaxBytes
	store   store
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
	r := &Registry{repos: make(map[string]*repository)}
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
	r.uploads.open = make(map[uploadKey]*upload)
	rand.Read(r.uploads.secret[:])
	return r
}

// take accounts for n more bytes, unless they would be too many.
func (r *Registry) take(n int64) error {
	for {
		// Bytes that are refused must not be counted even for a moment: others
		// that fit would be refused with them.
		used := r.used.Load()
		if r.cfg.MaxBytes > 0 && n > r.cfg.MaxBytes-used {
			return fmt.Errorf("%w: the registry's limit of %d bytes is reached", ociregistry.ErrDenied, r.cfg.MaxBytes)
		}
		if r.used.CompareAndSwap(used, used+n) {
			return nil
		}
	}
}

// give accounts for n bytes that were freed.
func (r *Registry) give(n int64) { r.used.Add(-n) }

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
	r.forget(repo)
	return err
}

// upsert calls f with the repository locked for writing. The repository comes
// into being if it holds something afterwards.
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
		r.forget(repo)
		repo.mu.Unlock()
		return err
	}
}

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

// forget drops a repository that holds nothing. Its lock is held.
func (r *Registry) forget(repo *repository) {
	if !repo.empty() || repo.dropped {
		return
	}
	repo.dropped = true
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names.Delete(repo.name)
	delete(r.repos, repo.name)
}

// opError makes err, if there is one, tell what was asked.
func opError(err error, op, repo, ref string) error {
	if err == nil {
		return nil
	}
	return &ociregistry.OpError{Op: op, Repo: repo, Ref: ref, Err: err}
}
