package ocibucket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/blobs"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/news"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/parts"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/pulls"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/tally"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/texts"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/uploads"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/usage"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

const (
	// DefaultUploadExpiry is the default of [Options.UploadExpiry].
	DefaultUploadExpiry = 7 * 24 * time.Hour
	// DefaultMaxUploads is the default of [Options.MaxUploads].
	DefaultMaxUploads = 100_000
	// DefaultPartSize is the default of [Options.PartSize], in bytes.
	DefaultPartSize = 8 << 20
	// DefaultConcurrency is the default of [Options.Concurrency].
	DefaultConcurrency = 4
	// DefaultManifestMemory is the default of [Options.ManifestMemory], in bytes.
	DefaultManifestMemory = 32 << 20
	// DefaultMaxRepositories is the default of [Options.MaxRepositories].
	DefaultMaxRepositories = 1024
)

// Options configures a [Registry]. The zero value is ready to use. ImmutableTags and Sparse must be the same for all
// registries in a bucket: the first one decides, and [New] refuses others.
type Options struct {
	// Prefix is what the keys of all objects begin with. Registries with different prefixes can share
	// a bucket, if none of these is a prefix of another. A prefix that is not empty must end with a
	// slash.
	Prefix string

	// ReadOnly refuses all changes with [ociregistry.ErrDenied] and writes nothing at all.
	// What a collection is about to remove may go although it was reported present.
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

	// UploadExpiry is the time after which an idle upload session ends. Zero means
	// DefaultUploadExpiry. A negative value means that sessions do not expire.
	UploadExpiry time.Duration

	// MaxUploads is the maximum number of upload sessions that this process has begun or gone on with within the
	// last hour, and of which it does not know that they have ended. Those of other processes are not
	// included. To begin one more fails with [ociregistry.ErrTooManyRequests]. Zero means
	// DefaultMaxUploads. A negative value means no limit.
	MaxUploads int

	// PartSize is the size of the parts of large content, in bytes. Zero means
	// DefaultPartSize. The store's minimum and maximum bound it. A blob has at most as many parts as the
	// store allows: 10,000 in most.
	PartSize int64

	// Concurrency is how many parts of one blob are sent at a time. Zero means DefaultConcurrency.
	// A push or an upload takes at most PartSize bytes of memory for each of them, and twice more.
	Concurrency int

	// ManifestMemory is how many bytes of manifests are kept in memory, so that they need not
	// be read again. Zero means DefaultManifestMemory. A negative value means none.
	ManifestMemory int64

	// MaxRepositories is how many repositories are known at a time that no call is about. One of
	// 100,000 images takes some 60 MB. Zero means DefaultMaxRepositories.
	MaxRepositories int

	// Logger receives non-fatal problems with the bucket, and failures of work in the
	// background. Nil means no logging.
	Logger *slog.Logger
}

// Registry is a registry in a bucket. It is safe for concurrent use.
type Registry struct {
	*ociregistry.Funcs

	opts    Options
	log     *slog.Logger
	bucket  *bucket.Bucket
	repos   *repos.Set
	blobs   *blobs.Store
	uploads *uploads.Sessions
	texts   *texts.Cache
	pulls   *pulls.Log
	news    *news.Log
	tally   *tally.Tally
	usage   *usage.Reporter

	promiseAge time.Duration
}

var _ ociregistry.Interface = (*Registry)(nil)

// New returns the registry in a bucket, which may be empty. It finds out first whether the store
// keeps its promises, with some 100 requests. The store need not repeat requests: New adds that. If opts is nil, New
// uses the zero Options. The caller should close the registry.
//
// Errors: [objstore.ErrConditions] if the store does not keep conditions, those of the store, and
// others if the options are not those of the bucket.
func New(ctx context.Context, store objstore.Store, opts *Options) (*Registry, error) {
	r, err := open(ctx, store, opts, settings{grace: defaultGrace, promiseAge: defaultPromiseAge, probe: true})
	if err != nil {
		return nil, fmt.Errorf("ocibucket: %w", err)
	}
	return r, nil
}

// defaultGrace is the default of the time G of the protocol.
const defaultGrace = 24 * time.Hour

// settings are what tests change.
type settings struct {
	grace      time.Duration
	promiseAge time.Duration
	probe      bool
	retry      *objstore.RetryOptions

	minTail, maxCarried int64 // of repos.Options
}

func open(ctx context.Context, store objstore.Store, opts *Options, s settings) (*Registry, error) {
	r := &Registry{log: slog.New(slog.DiscardHandler), promiseAge: s.promiseAge}
	if opts != nil {
		r.opts = *opts
	}
	if err := r.complete(store.Capabilities()); err != nil {
		return nil, err
	}
	r.bucket = bucket.New(objstore.Retry(store, s.retry), r.opts.Prefix, s.grace)
	if s.probe && !r.opts.ReadOnly {
		if err := objstore.Probe(ctx, store, r.opts.Prefix+"probe/"); err != nil {
			return nil, err
		}
	}
	if err := r.share(ctx); err != nil {
		return nil, err
	}
	buffers := parts.NewBuffers(int(r.opts.PartSize))
	r.pulls = pulls.New(r.bucket, r.log)
	r.texts = texts.New(r.opts.ManifestMemory)
	r.news = news.NewLog(r.bucket, r.log)
	r.tally = tally.New()
	r.repos = repos.NewSet(r.bucket, repos.Options{
		ReadOnly: r.opts.ReadOnly, Max: r.opts.MaxRepositories, Keep: r.texts.Add, Log: r.log, MinTail: s.minTail, MaxCarried: s.maxCarried,
		Appended: r.news.Manifests, Manifests: r.tally.Manifests,
	})
	r.blobs = blobs.New(r.bucket, blobs.Options{
		ReadOnly: r.opts.ReadOnly, Buffers: buffers, Concurrency: r.opts.Concurrency, Tally: r.tally, News: r.news,
	})
	var follower *news.Follower
	if !r.opts.ReadOnly {
		follower = news.NewFollower(r.bucket, r.news)
	}
	r.usage = usage.New(r.bucket, r.repos, r.blobs, r.tally, follower, r.log)
	r.uploads = uploads.New(r.bucket, r.blobs, r.repos, uploads.Options{
		Buffers: buffers, Concurrency: r.opts.Concurrency, Expiry: r.opts.UploadExpiry, Max: r.opts.MaxUploads,
	})
	return r, nil
}

// complete fills in defaults, and checks the options.
func (r *Registry) complete(caps objstore.Capabilities) error {
	o := &r.opts
	if o.Logger != nil {
		r.log = o.Logger
	}
	if o.UploadExpiry == 0 {
		o.UploadExpiry = DefaultUploadExpiry
	}
	if o.MaxUploads == 0 {
		o.MaxUploads = DefaultMaxUploads
	}
	if o.PartSize <= 0 {
		o.PartSize = DefaultPartSize
	}
	o.PartSize = min(max(o.PartSize, caps.MinPartSize, minPartSize), caps.MaxPartSize, maxPartSize)
	if o.Concurrency <= 0 {
		o.Concurrency = DefaultConcurrency
	}
	if o.ManifestMemory == 0 {
		o.ManifestMemory = DefaultManifestMemory
	}
	if o.MaxRepositories <= 0 {
		o.MaxRepositories = DefaultMaxRepositories
	}
	if o.Prefix != "" && (!strings.HasSuffix(o.Prefix, "/") || !objstore.ValidKey(o.Prefix+"g") || len(o.Prefix) > maxPrefix) {
		return fmt.Errorf("prefix %.200q is not the beginning of a key that ends with a slash", o.Prefix)
	}
	return nil
}

const (
	minPartSize = 128 << 10 // so that what a link has in itself fits into a buffer
	maxPartSize = 1 << 30
	maxPrefix   = 256 // what is left is enough for the longest keys
)

// Close ends what is done in the background, and writes down when manifests were pulled, and what was changed. Open
// readers remain usable. Calls that are under way may fail. Calling Close again does nothing.
func (r *Registry) Close() error {
	r.pulls.Close()
	r.repos.Close()
	r.news.Close()
	return nil
}

// writable checks that the registry may be changed.
func (r *Registry) writable() error {
	if r.opts.ReadOnly {
		return fmt.Errorf("%w: the registry is read-only", ociregistry.ErrDenied)
	}
	return nil
}

// opError wraps err, if it is not nil, in an error that tells which call failed. A store that is asked
// for too much is not a failure of its own.
func opError(err error, op, repo, ref string) error {
	if errors.Is(err, objstore.ErrThrottled) {
		err = fmt.Errorf("%w: %w", ociregistry.ErrTooManyRequests, err)
	}
	return call.New(op, repo, ref).Wrap(err)
}
