package ociunify

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
)

// OriginsOptions has the settings of [Origins]. The zero value is ready to use.
type OriginsOptions struct {
	// RetryAfter is for how long an origin that failed is not asked. Zero means one
	// minute.
	RetryAfter time.Duration

	// OriginWait is how long to wait for an origin while there is another one to ask.
	// An origin that does not begin to answer in time has failed. Zero means 5
	// seconds, which is less than a [Cache] waits. A negative value means no limit.
	OriginWait time.Duration

	// Logger receives a warning when an origin fails. Nil means no logging.
	Logger *slog.Logger
}

// Origins returns a read-only registry over several registries that should have the
// same content, such as mirrors. It asks them in order, and returns the first answer;
// an origin that does not have the content has not answered. An origin that fails is
// not asked again for a while, unless all have failed. An origin that denies access is
// asked again each time. A nil origin, which stands for one that could not be created,
// is skipped. Nil opts mean the zero OriginsOptions.
//
// If all origins say that the content does not exist, the error is that of the first.
// Otherwise the errors of those that failed are wrapped. Changes fail with
// [ociregistry.ErrUnsupported].
func Origins(list []ociregistry.Interface, opts *OriginsOptions) ociregistry.Interface {
	o := &origins{list: slices.Clone(list), until: make([]time.Time, len(list))}
	if opts != nil {
		o.opts = *opts
	}
	if o.opts.RetryAfter == 0 {
		o.opts.RetryAfter = time.Minute
	}
	if o.opts.OriginWait == 0 {
		o.opts.OriginWait = 5 * time.Second
	}
	if o.opts.Logger == nil {
		o.opts.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

type origins struct {
	*ociregistry.Funcs
	opts  OriginsOptions
	list  []ociregistry.Interface
	watch watch

	mu    sync.Mutex
	until []time.Time // when to ask each origin that failed again
}

// errNoOrigin is the error of calls when all origins are nil.
var errNoOrigin = errors.New("there is no origin")

// usable returns the indexes of the origins to ask: those that have not failed lately,
// or all if there are none.
func (o *origins) usable() []int {
	o.mu.Lock()
	defer o.mu.Unlock()
	var usable, all []int
	for i, r := range o.list {
		if r == nil {
			continue
		}
		all = append(all, i)
		if !time.Now().Before(o.until[i]) {
			usable = append(usable, i)
		}
	}
	if len(usable) == 0 {
		return all
	}
	return usable
}

func (o *origins) failed(i int, err error) {
	o.opts.Logger.Warn("origin failed", slog.Int("origin", i), slog.Any("error", err))
	o.mu.Lock()
	defer o.mu.Unlock()
	o.until[i] = time.Now().Add(o.opts.RetryAfter)
}

// first returns the first answer of an origin. It waits for the last origin until ctx
// ends.
func first[T any](ctx context.Context, o *origins, at call.Call, ask func(context.Context, ociregistry.Interface) (T, error)) (v T, err error) {
	var absent error
	var failures []error
	usable := o.usable()
	for n, i := range usable {
		limit := o.opts.OriginWait
		if n == len(usable)-1 {
			limit = -1
		}
		v, err := withinLimit(ctx, &o.watch, at, limit, func(ctx context.Context) (T, error) { return ask(ctx, o.list[i]) })
		switch {
		case err == nil, ctx.Err() != nil, errors.Is(err, ociregistry.ErrRangeInvalid):
			return v, err
		case notFound(err) && absent == nil:
			absent = err
		case notFound(err):
			absent = eitherNotFound(absent, err)
		default:
			if down(err) {
				o.failed(i, err)
			}
			failures = append(failures, fmt.Errorf("origin %d: %w", i, err))
		}
	}
	switch {
	case len(failures) > 0:
		return v, errors.Join(failures...)
	case absent != nil:
		return v, absent
	}
	return v, errNoOrigin
}

func (o *origins) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	at := call.New("GetBlob", repo, string(digest))
	if err := at.CheckDigest(); err != nil {
		return nil, err
	}
	return first(ctx, o, at, func(ctx context.Context, r ociregistry.Interface) (ociregistry.BlobReader, error) {
		return r.GetBlob(ctx, repo, digest)
	})
}

func (o *origins) GetBlobRange(ctx context.Context, repo string, digest ociregistry.Digest, offset0, offset1 int64) (ociregistry.BlobReader, error) {
	at := call.New("GetBlobRange", repo, string(digest))
	if err := at.CheckDigest(); err != nil {
		return nil, err
	}
	return first(ctx, o, at, func(ctx context.Context, r ociregistry.Interface) (ociregistry.BlobReader, error) {
		return r.GetBlobRange(ctx, repo, digest, offset0, offset1)
	})
}

func (o *origins) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	at := call.New("GetManifest", repo, string(digest))
	if err := at.CheckDigest(); err != nil {
		return nil, err
	}
	return first(ctx, o, at, func(ctx context.Context, r ociregistry.Interface) (ociregistry.BlobReader, error) {
		return r.GetManifest(ctx, repo, digest)
	})
}

func (o *origins) GetTag(ctx context.Context, repo string, tagName string) (ociregistry.BlobReader, error) {
	at := call.New("GetTag", repo, tagName)
	if err := at.CheckTag(); err != nil {
		return nil, err
	}
	return first(ctx, o, at, func(ctx context.Context, r ociregistry.Interface) (ociregistry.BlobReader, error) {
		return r.GetTag(ctx, repo, tagName)
	})
}

func (o *origins) ResolveBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	at := call.New("ResolveBlob", repo, string(digest))
	if err := at.CheckDigest(); err != nil {
		return ociregistry.Descriptor{}, err
	}
	return first(ctx, o, at, func(ctx context.Context, r ociregistry.Interface) (ociregistry.Descriptor, error) {
		return r.ResolveBlob(ctx, repo, digest)
	})
}

func (o *origins) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	at := call.New("ResolveManifest", repo, string(digest))
	if err := at.CheckDigest(); err != nil {
		return ociregistry.Descriptor{}, err
	}
	return first(ctx, o, at, func(ctx context.Context, r ociregistry.Interface) (ociregistry.Descriptor, error) {
		return r.ResolveManifest(ctx, repo, digest)
	})
}

func (o *origins) ResolveTag(ctx context.Context, repo string, tagName string) (ociregistry.Descriptor, error) {
	at := call.New("ResolveTag", repo, tagName)
	if err := at.CheckTag(); err != nil {
		return ociregistry.Descriptor{}, err
	}
	return first(ctx, o, at, func(ctx context.Context, r ociregistry.Interface) (ociregistry.Descriptor, error) {
		return r.ResolveTag(ctx, repo, tagName)
	})
}

func (o *origins) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	return firstList(ctx, o, call.New("Repositories", "", ""), func(ctx context.Context, r ociregistry.Interface) iter.Seq2[string, error] {
		return r.Repositories(ctx, startAfter)
	})
}

func (o *origins) Tags(ctx context.Context, repo string, startAfter string) iter.Seq2[string, error] {
	at := call.New("Tags", repo, "")
	if err := at.CheckRepository(); err != nil {
		return ociregistry.ErrorSeq[string](err)
	}
	return firstList(ctx, o, at, func(ctx context.Context, r ociregistry.Interface) iter.Seq2[string, error] {
		return r.Tags(ctx, repo, startAfter)
	})
}

func (o *origins) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	at := call.New("Referrers", repo, string(digest))
	if err := at.CheckDigest(); err != nil {
		return ociregistry.ErrorSeq[ociregistry.Descriptor](err)
	}
	return firstList(ctx, o, at, func(ctx context.Context, r ociregistry.Interface) iter.Seq2[ociregistry.Descriptor, error] {
		return r.Referrers(ctx, repo, digest, artifactType)
	})
}

// firstList returns the list of the first origin that begins to answer. If that fails
// later, the list ends with its error.
func firstList[T any](ctx context.Context, o *origins, at call.Call, ask func(context.Context, ociregistry.Interface) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		list, err := first(ctx, o, at, func(ctx context.Context, r ociregistry.Interface) (*openList[T], error) {
			return openedList(ask(ctx, r))
		})
		if err != nil {
			yield(zero, err)
			return
		}
		defer list.close()
		for x, err, ok := list.x, error(nil), list.any; ok; x, err, ok = list.next() {
			if !yield(x, err) || err != nil {
				return
			}
		}
	}
}

// openList is a list whose first element has been read.
type openList[T any] struct {
	x    T // the first element, if any is true
	any  bool
	next func() (T, error, bool)
	end  []func()
}

func openedList[T any](seq iter.Seq2[T, error]) (*openList[T], error) {
	next, stop := iter.Pull2(seq)
	x, err, ok := next()
	if err != nil {
		stop()
		return nil, err
	}
	return &openList[T]{x, ok, next, []func(){stop}}, nil
}

func (l *openList[T]) onClose(then func()) { l.end = append(l.end, then) }

func (l *openList[T]) close() {
	for _, end := range l.end {
		end()
	}
}
