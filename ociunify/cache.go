package ociunify

import (
	"context"
	"encoding/base32"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// DefaultAttempts is the default of CacheOptions.Attempts.
const DefaultAttempts = 6

// CacheOptions has the settings of a [Cache]. The zero value is ready to use.
type CacheOptions struct {
	// TagTTL is for how long a tag is served without asking the origin where it
	// points. Zero means that the origin is asked each time; no content is fetched
	// when the tag has not moved. After a restart, the origin is asked once more
	// for each tag.
	TagTTL time.Duration

	// NotFoundTTL is for how long the cache remembers that the origin does not have
	// something. Zero means that it does not remember that.
	NotFoundTTL time.Duration

	// MaxBytes is the maximum size in bytes of all blobs and manifests that are kept;
	// each digest counts once. Zero means no limit. To make room, the least recently
	// read blobs are deleted first, and manifests when no blobs are left. Content
	// that is larger than the limit is passed on and not kept.
	//
	// With a limit, the cache records in the cache registry what it keeps (see
	// [NewCache]), to know it after a restart. Content that was kept without a limit
	// counts from its next read.
	//
	// Of several processes that share a cache registry, each counts what it has kept or read
	// itself, and what was recorded when it started. So the registry holds up to MaxBytes
	// for each of them, and for each that has ended since the last one started. One may delete
	// what another one still reads, which then fetches it again.
	MaxBytes int64

	// WriteThrough makes changes at the origin, and then in the cache. Without it,
	// changes fail with [ociregistry.ErrUnsupported].
	WriteThrough bool

	// OriginWait is how long a call waits for the origin's answer about a tag or a
	// list that is kept. An origin that does not answer in time counts as failed. For
	// the next 30 seconds, the cache serves what it keeps of that repository without
	// waiting, while one call at a time asks the origin in the background. When the
	// origin answers, calls wait for it again. Zero means 10 seconds. A negative
	// value means no limit.
	//
	// When nothing is kept, an origin fails if it sends nothing for 5 minutes: for a
	// manifest in all, for a blob until it begins and for each next byte. Clients of
	// remote registries usually have shorter limits of their own.
	OriginWait time.Duration

	// FinishFetches completes a fetch even if no caller waits for it any more.
	// Without it, a fetch ends with its last caller.
	FinishFetches bool

	// RetryDelay, if not zero, is the delay after which the cache tries again, in the
	// background, to fetch what it could not fetch because the origin failed. The
	// delay doubles with each further attempt. However many callers asked for the
	// content, there is one series of attempts. When a manifest has been fetched in
	// this way, the whole image follows, as with WholeImages.
	RetryDelay time.Duration

	// Attempts is the maximum number of consecutive attempts to fetch something,
	// including the caller's own. Zero means DefaultAttempts. A negative value means
	// a single attempt.
	Attempts int

	// WholeImages fetches the rest of an image in the background when its manifest
	// has been fetched: what the manifest names, only for Platforms if there are any,
	// its referrers, and so on. At most four blobs are fetched at the same time. An
	// image is fetched once, however many callers ask for it. For somebody who only looks
	// (see [ociregistry.WithInspection]), a manifest is fetched alone, and not kept, so that
	// the next pull fetches the image. Content that cannot be fetched is logged, and the
	// rest is fetched all the same. Of an image that is larger than MaxBytes, at most that
	// many bytes are fetched.
	WholeImages bool

	// Platforms are the platforms for which whole images are fetched from an index.
	// Nil means all of them. An empty field of a platform matches any value.
	Platforms []ocispec.Platform

	// Sparse has no effect.
	//
	// Deprecated: The cache finds out by itself what the cache registry accepts.
	Sparse bool

	// MaxSpool is the maximum number of bytes of each blob that are spooled in TempDir
	// while it is fetched: the most recent ones. Almost all blobs fit in the default.
	//
	// For a larger blob, the fetch pauses while the slowest reader is that many bytes
	// behind. If another reader waits for more bytes, the fetch continues instead, and
	// the slow reader continues from the cache registry, once the blob is there, or
	// with its own request to the origin. The fetch also pauses while the cache
	// registry is that far behind; if that accepts nothing for 30 seconds, the fetch
	// continues and the blob is not kept. A blob of unknown size that is larger than
	// the limit is not kept either.
	//
	// Of a blob that is too large to be kept, no more than MaxBytes are spooled. Zero
	// means 256 MiB. A negative value means no limit. The minimum is 2 MiB.
	MaxSpool int64

	// TempDir is the directory for spooled blobs; small ones stay in memory. Empty
	// means the default directory for temporary files, [os.TempDir].
	TempDir string

	// OnLookup is called for each call that gets or resolves a blob, a manifest or a tag,
	// once, when it returns and before content is read. What the Cache reads for itself,
	// as for RetryDelay and WholeImages, does not count. OnLookup may be called from
	// several goroutines at once. If it is nil, nothing is told.
	OnLookup func(ctx context.Context, l Lookup)

	// Logger receives a warning when the origin fails and the cache answers for it,
	// and when the cache registry fails. Nil means no logging.
	Logger *slog.Logger
}

// Cache is a read-through cache: a registry with the content of its origin, of
// which it keeps what was read. It is safe for concurrent use.
type Cache struct {
	*ociregistry.Funcs

	cache, origin ociregistry.Interface
	kept          ociregistry.Interface // the cache registry, never returning wrong content
	opts          CacheOptions
	log           *slog.Logger
	ctx           context.Context // ends when the cache is closed
	end           context.CancelFunc

	manifests      group[manifestContent]
	tags           group[manifestContent]
	resolves       group[resolved]
	known          knownTags
	absent         absences
	emptyReferrers emptyLists
	damage         damageSet
	watch          watch
	patience       patience
	images         imageFetches
	ledger         ledger

	// private is set when manifests are kept under a media type of the cache.
	private atomic.Bool

	// changes counts deletions and replacements. Content that was fetched before a
	// change is not kept after it, nor shared with callers that ask after it.
	changes atomic.Int64

	// fetching is the number of fetches. With it, a hit finds that there are none
	// without a lock.
	fetching atomic.Int64

	mu      sync.Mutex
	fetches map[key]*fetch
	retries map[key]bool
	closed  bool
	working sync.WaitGroup
}

var _ ociregistry.Interface = (*Cache)(nil)

// key names something that can be fetched.
type key struct {
	kind      kind
	repo, ref string
	changes   int64 // see Cache.changes
}

type kind byte

const (
	kindBlob     kind = 'b'
	kindManifest kind = 'm'
	kindTag      kind = 't'
)

// NewCache returns a registry with the content of origin, which keeps in cache what
// is read. Nil opts mean the zero CacheOptions. The Cache should be closed; that does
// not close cache and origin.
//
// Content that is not in the cache is fetched from the origin, once for all callers
// that ask for it at the same time. A blob is streamed to the callers while it is
// fetched. Its last byte is held back until the digest is verified: reading wrong
// content ends in an error, and wrong content is never kept. Ranges of a blob that is
// not being fetched are passed on from the origin and not kept, because a range
// cannot be verified.
//
// Content that is kept is served by its digest without asking the origin. For a tag,
// the cache asks the origin where it points. It remembers the answer of ResolveTag
// too: when the manifest is kept later, so is the tag. The cache serves what it keeps
// of a tag when the origin fails, does not answer within CacheOptions.OriginWait,
// answers with [ociregistry.ErrTooManyRequests], or with content that is not a
// manifest, such as the page of a proxy. It believes an origin that says that the
// content does not exist, or that the caller may not have it. Lists are those of the
// origin, or of what is kept when the origin fails. A list of referrers is kept once
// it has been asked for; if it has not, the error is the origin's.
//
// Errors are those of the origin. When the cache registry fails, content comes from
// the origin as long as that works, and the Logger receives the failure.
//
// Whatever happens to the cache registry, no content leaves the Cache in full that
// does not match its digest. The backends of this module in memory and in a directory
// verify what they return. With any other cache registry, the Cache hashes what is
// read from beginning to end, unless the reader does so, and holds back the last
// byte. It checks the length of ranges. Damaged content is deleted, and fetched again
// by the next call that asks for it: by the same call if the caller has received
// nothing yet.
//
// # Content of the cache registry
//
// Each blob, manifest and tag is in the repository of its name, as any program would
// have pushed it. Other programs may push to the registry and read from it. The Cache
// pushes manifests before the content that they name, and deletes blobs that manifests
// name: see [ociregistry.AllowMissing] and [ociregistry.AllowInUse].
//
// A registry that does not know these allowances refuses a manifest with
// [ociregistry.ErrManifestBlobUnknown] or keeps a blob with [ociregistry.ErrInUse];
// such a blob counts for MaxBytes. From the first such error, the Cache keeps all
// manifests under a media type of its own, which no registry parses. It keeps single
// manifests that are refused with [ociregistry.ErrManifestInvalid] in the same way.
// Earlier versions did so with all manifests; these are still read, and replaced when
// they are next fetched or pushed.
//
// The repository "ociunify.cache" holds the records of the Cache, and is unknown
// through the Cache:
//
//   - A tag for each blob and manifest that counts for MaxBytes, of each process. The tag
//     contains the digest, the size and the time. It points at a manifest that contains the
//     name of the repository.
//   - A tag for each list of referrers. It points at a manifest that contains the
//     list. Empty lists are kept for manifests that are kept; others are remembered
//     until the Cache is closed.
//
// Any number of processes may share a cache registry. What one has fetched, all serve. Two that
// fetch the same at the same time both ask the origin. When one has found that a tag has moved, it has
// moved for all; apart from that, times, failures and patience are each process's own: TagTTL,
// NotFoundTTL, OriginWait. So are deletions and replacements by WriteThrough: a fetch that another
// process began before may keep what was deleted.
// For MaxBytes, see there.
func NewCache(cache, origin ociregistry.Interface, opts *CacheOptions) *Cache {
	c := &Cache{cache: cache, origin: origin, fetches: make(map[key]*fetch), retries: make(map[key]bool)}
	if opts != nil {
		c.opts = *opts
	}
	if c.log = c.opts.Logger; c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.opts.Attempts == 0 {
		c.opts.Attempts = DefaultAttempts
	}
	if c.patience.limit = c.opts.OriginWait; c.patience.limit == 0 {
		c.patience.limit = defaultOriginWait
	}
	c.manifests.Finish, c.tags.Finish, c.resolves.Finish = c.opts.FinishFetches, c.opts.FinishFetches, c.opts.FinishFetches
	c.images.slots = make(chan struct{}, imageConcurrency)
	if v, ok := cache.(verified.Registry); ok {
		c.kept = v.Verified()
		c.ledger.verified = c.kept == cache
	} else {
		c.kept = &checkedRegistry{cache, c}
	}
	c.ctx, c.end = context.WithCancel(context.Background())
	c.ledger.init(c)
	return c
}

// stateRepo is the repository with the records of the cache.
const stateRepo = "ociunify.cache"

// Close ends all fetches, and waits until what was fetched is stored. Callers
// that wait for a fetch get an error, which is also [fs.ErrClosed]. Open readers of
// content that is kept stay usable. Calling Close again does nothing. The error is
// always nil.
func (c *Cache) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.end()
	c.watch.close()
	c.working.Wait()
	return nil
}

// errClosed is the error of calls that need the origin when the cache is closed.
var errClosed = fmt.Errorf("the cache is closed: %w", fs.ErrClosed)

// startWork registers work that Close waits for; the work calls c.working.Done when
// it ends. It returns errClosed when the cache is closed.
func (c *Cache) startWork() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	c.working.Add(1)
	return nil
}

// detach returns a task with the values of ctx that ends when the cache is closed.
func (c *Cache) detach(ctx context.Context) *task {
	t := new(task)
	c.watch.detach(ctx, t)
	return t
}

// key returns the key of something that is fetched from now on.
func (c *Cache) key(k kind, repo, ref string) key {
	return key{kind: k, repo: repo, ref: ref, changes: c.changes.Load()}
}

// changed reports whether content that was fetched under a key may be outdated.
func (c *Cache) changed(k key) bool { return c.changes.Load() != k.changes }

func (c *Cache) warn(msg string, at call.Call, err error) {
	c.log.Warn(msg, slog.String("op", at.Op), slog.String("repository", at.Repository), slog.String("ref", at.Ref), slog.Any("error", err))
}

// Media types of manifests that cannot be kept under their own. The original type is
// part of the name, which HTTP passes on unchanged. Earlier versions had it in a
// parameter.
const (
	wrapper    = "application/vnd.ociunify.cached."
	oldWrapper = `application/vnd.ociunify.cached; type="`
)

// wrapping encodes a media type as a part of another one. Case does not matter there.
var wrapping = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

func wrap(mediaType string) string { return wrapper + wrapping.EncodeToString([]byte(mediaType)) }

// unwrap returns the descriptor of a manifest with its media type at the origin.
func unwrap(desc ociregistry.Descriptor) ociregistry.Descriptor {
	if inner, ok := strings.CutPrefix(desc.MediaType, wrapper); ok {
		if own, err := wrapping.DecodeString(inner); err == nil {
			desc.MediaType = string(own)
		}
	} else if inner, ok := strings.CutPrefix(desc.MediaType, oldWrapper); ok {
		desc.MediaType = strings.TrimSuffix(inner, `"`)
	}
	return desc
}
