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

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// CacheOptions has the settings of a Cache. Its zero value is a good one.
type CacheOptions struct {
	// TagTTL is for how long a tag is taken to be what it was when the origin
	// was last asked. Zero asks each time, which costs no content when the tag
	// has not moved. After a restart, each tag is asked for once more.
	TagTTL time.Duration

	// NotFoundTTL is for how long it is remembered that the origin does not have
	// something. Zero does not remember it.
	NotFoundTTL time.Duration

	// MaxBytes bounds the blobs and manifests that are kept, each digest counted
	// once. Zero stands for no bound. To make room, blobs go first, those that were
	// not read for the longest time before others; manifests go when there are no
	// blobs left. What is larger than the bound is passed on and not kept.
	//
	// With a bound, what is kept is recorded in the cache registry (see
	// [NewCache]), so that it is known after a restart. What was kept without a
	// bound is counted from when it is next read.
	MaxBytes int64

	// WriteThrough passes changes on to the origin, and what was pushed, deleted
	// or tagged there is so in the cache too. Without it, changes are refused
	// with [ociregistry.ErrUnsupported].
	WriteThrough bool

	// OriginWait is how long the origin is waited for when what it is asked for, a
	// tag or a list, is kept: if it says nothing for so long, it is as if it had
	// failed. For 30 seconds after that, what is kept of the repository is served
	// at once, while one call at a time asks in the background; when the origin
	// answers, it is waited for again. Zero stands for 10 seconds, negative for no
	// bound.
	//
	// When nothing is kept, an origin that says nothing for 5 minutes has failed:
	// for a manifest in all, for a blob until it begins and for each next byte. A
	// client of a remote registry has bounds of its own, which are shorter.
	OriginWait time.Duration

	// FinishFetches lets a fetch go on when nobody waits for it any more. Without
	// it, the fetch ends with the last caller.
	FinishFetches bool

	// RetryDelay, if not zero, makes what could not be fetched, because the
	// origin failed, be fetched again in the background: after this time, and
	// after twice the time for each further attempt, MaxRetries times (zero
	// stands for 5). It is done once for any number of callers that asked for it.
	// When a manifest has come so, all of its image comes: see WholeImages.
	RetryDelay time.Duration
	MaxRetries int

	// WholeImages fetches all of an image in the background when its manifest was
	// fetched: what that names, for Platforms alone if there are any, what refers
	// to it, and so on. Four blobs are fetched at a time. One image is fetched once,
	// whatever number of callers asks for it. What cannot be fetched is told to the
	// Logger, and does not keep the rest from coming. Of an image that is larger
	// than MaxBytes, no more than that is fetched.
	WholeImages bool

	// Platforms are the platforms of which whole images are fetched from an index.
	// Nil stands for all of them. Fields that are empty match everything.
	Platforms []ocispec.Platform

	// Sparse has no effect.
	//
	// Deprecated: the cache finds out by itself what the cache registry accepts.
	Sparse bool

	// MaxSpool bounds, in bytes, what there is in TempDir of each blob while it is
	// fetched: the bytes that came last. A reader that is further behind than that
	// goes on from the cache registry, once the blob is there, or with a request of
	// its own, if another one waits for more. If none does, the origin is not read
	// on. Nor is it while the cache registry is so far behind, unless that takes
	// nothing for 30 seconds: then the blob is not kept. Nor is one of unknown size
	// that is larger than this. Of a blob that is too large to be kept, MaxBytes is a
	// bound too. Zero stands for 256 MiB, in which almost all blobs fit; negative for
	// no bound. It is never less than 2 MiB.
	MaxSpool int64

	// TempDir is where blobs are kept while they are fetched, if they are not
	// small. Empty stands for the system's directory for temporary files.
	TempDir string

	// Logger is told when the origin fails and the cache answers for it, and
	// when the cache registry fails. Nil is silence.
	Logger *slog.Logger
}

// Cache is a read-through cache: a registry with the content of its origin. It
// is safe for concurrent use.
type Cache struct {
	*ociregistry.Funcs

	cache, origin ociregistry.Interface
	kept          ociregistry.Interface // the cache registry, of which no wrong content is read
	opts          CacheOptions
	log           *slog.Logger
	ctx           context.Context // ends when the cache is closed
	end           context.CancelFunc

	manifests group[manifestContent]
	tags      group[manifestContent]
	resolves  group[ociregistry.Descriptor]
	known     knownTags
	absent    absences
	none      emptyLists
	spoilt    spoilt
	watch     watch
	patience  patience
	wholes    wholes
	ledger    ledger

	// private says that manifests are kept under a media type of the cache.
	private atomic.Bool

	// changes counts what was deleted, or may have been replaced. What was
	// fetched before a change is not kept after it, nor shared with who asks
	// after it.
	changes atomic.Int64

	// fetching is the number of fetches, so that a hit takes no lock to find that
	// there are none.
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

// NewCache returns a registry with the content of origin, of which it keeps in
// cache what was read. Nil opts are the zero CacheOptions. The Cache should be
// closed; cache and origin are not closed with it.
//
// What is not in the cache is fetched from the origin, once for all who ask for
// it at the same time. A blob goes to the callers as it comes. Its last byte is
// held back until its digest was verified, so that broken content ends in an
// error; it is never kept. Ranges of a blob that is not being fetched are passed
// on from the origin and not kept. Nobody can verify a range.
//
// Content that was asked for by its digest is not asked for again. Of a tag, the
// origin is asked where it is; that is known of a tag that was resolved, too, whose
// manifest may be kept later. When the origin fails, says nothing for
// CacheOptions.OriginWait, answers [ociregistry.ErrTooManyRequests], or with what is
// no manifest, such as the page of a proxy, what is kept is served; an origin that
// answers that there is no such content, or that it is not for the caller, is
// believed. Lists, of referrers too, are the origin's, or when it fails those of
// what is kept; of referrers there is a list if it was asked for before, and else the
// origin's error.
//
// The errors are the origin's. When the cache fails, content comes from the
// origin as long as that does not fail; a Logger is told of it.
//
// Nothing leaves the Cache as complete that is not the content of its digest,
// whatever has happened to the cache registry. One of this module in memory or in a
// directory verifies what it has itself; of any other, the Cache hashes what is read
// from beginning to end, unless the reader does, and holds the last byte back. Of
// ranges the length is compared. What is damaged is deleted, and fetched again when it
// is next asked for: in the same call if nothing was given to the caller.
//
// # What the cache registry holds
//
// Each blob, manifest and tag is in the repository of its name, as any program would
// have pushed it; others may push to the registry and read from it as well. Manifests
// are pushed before what they name is there, and blobs are deleted that manifests name:
// see [ociregistry.AllowMissing] and [ociregistry.AllowInUse].
//
// A manifest is kept under a media type of the Cache, which no registry looks into, if
// the registry does not take it otherwise: all manifests from the first that is refused
// with [ociregistry.ErrManifestBlobUnknown], or from the first blob that cannot go
// ([ociregistry.ErrInUse]; it stays, and counts for MaxBytes), because the registry
// knows no allowances; and each that is refused with [ociregistry.ErrManifestInvalid].
// Earlier versions kept all manifests so. They are read as ever, and replaced when they
// are next fetched or pushed.
//
// The repository "ociunify.cache" has the records of the Cache. It is not
// visible through the Cache, where a repository of this name is unknown:
//
//   - a tag for each blob and manifest that MaxBytes bounds, which has the
//     digest, the size and the time; it points at a manifest with the name of
//     the repository;
//   - a tag for each list of referrers, which is in the manifest that it points
//     at. Empty lists are kept of manifests that are kept; others are remembered until
//     the Cache is closed.
//
// Without MaxBytes, any number of processes may share a cache registry.
func NewCache(cache, origin ociregistry.Interface, opts *CacheOptions) *Cache {
	c := &Cache{cache: cache, origin: origin, fetches: make(map[key]*fetch), retries: make(map[key]bool)}
	if opts != nil {
		c.opts = *opts
	}
	if c.log = c.opts.Logger; c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.opts.MaxRetries == 0 {
		c.opts.MaxRetries = 5
	}
	if c.patience.limit = c.opts.OriginWait; c.patience.limit == 0 {
		c.patience.limit = defaultOriginWait
	}
	c.wholes.slots = make(chan struct{}, wholeConcurrency)
	if v, ok := cache.(verified.Registry); ok {
		c.kept = v.Verified()
		c.ledger.sound = c.kept == cache
	} else {
		c.kept = &checked{cache, c}
	}
	c.ctx, c.end = context.WithCancel(context.Background())
	c.ledger.init(c)
	return c
}

// stateRepo has the records of the cache.
const stateRepo = "ociunify.cache"

// Close ends all fetches, and waits until what was fetched is stored. Callers
// that wait for a fetch get an error. Open readers of content that was there
// are not disturbed. It is safe to call it twice.
func (c *Cache) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.end()
	c.watch.close()
	c.working.Wait()
	return nil
}

// errClosed is what needs the origin when the cache was closed.
var errClosed = fmt.Errorf("the cache is closed: %w", fs.ErrClosed)

// begin counts something that Close has to wait for.
func (c *Cache) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	c.working.Add(1)
	return nil
}

// detach returns a task with the values of ctx, which ends when the cache is closed.
func (c *Cache) detach(ctx context.Context) *task {
	t := new(task)
	c.watch.detach(ctx, t)
	return t
}

// key returns the key of something, as things stand.
func (c *Cache) key(k kind, repo, ref string) key {
	return key{kind: k, repo: repo, ref: ref, changes: c.changes.Load()}
}

// changed reports whether what was fetched under a key may be outdated.
func (c *Cache) changed(k key) bool { return c.changes.Load() != k.changes }

func (c *Cache) warn(msg string, t target, err error) {
	c.log.Warn(msg, slog.String("op", t.op), slog.String("repo", t.repo), slog.String("ref", t.ref), slog.Any("error", err))
}

// A manifest that cannot be kept under its own media type has one of these: the first
// has the other in its name, so that it survives what HTTP does to media types; earlier
// versions had it in a parameter.
const (
	wrapper    = "application/vnd.ociunify.cached."
	oldWrapper = `application/vnd.ociunify.cached; type="`
)

// wrapping encodes a media type as part of another, in which case does not matter.
var wrapping = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

func wrap(mediaType string) string { return wrapper + wrapping.EncodeToString([]byte(mediaType)) }

// unwrap returns the descriptor of a manifest as it is at the origin.
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
