// Package bucket makes the requests of a registry to its store: reads of small objects, and writes
// under conditions that are settled by what is there. It knows the Dates that the store has told,
// and by them what came too late to count.
package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// Slack is how much earlier than the Last-Modified of a write the Date of its answer may be.
const Slack = 2 * time.Second

// A Bucket is the part of a store below a prefix. It is safe for concurrent use.
type Bucket struct {
	objstore.Store // with retries; its keys have the prefix

	prefix string
	grace  time.Duration
	seen   atomic.Int64 // the last Date, in seconds
}

// New returns the part of a store below a prefix. Grace is how long after its T0 nothing that
// relies on it can land, twice over.
func New(store objstore.Store, prefix string, grace time.Duration) *Bucket {
	return &Bucket{Store: store, prefix: prefix, grace: grace}
}

// Key returns the key of an object with the prefix.
func (b *Bucket) Key(key string) string { return b.prefix + key }

// Cut returns a key without the prefix.
func (b *Bucket) Cut(key string) string { return key[min(len(b.prefix), len(key)):] }

// Grace returns the grace time.
func (b *Bucket) Grace() time.Duration { return b.grace }

// Seen returns the last Date that the store has told.
func (b *Bucket) Seen() time.Time { return time.Unix(b.seen.Load(), 0) }

// saw notes a Date.
func (b *Bucket) saw(date time.Time) {
	if date.IsZero() {
		return
	}
	for {
		seen := b.seen.Load()
		if date.Unix() <= seen || b.seen.CompareAndSwap(seen, date.Unix()) {
			return
		}
	}
}

// IsVoid reports whether what landed at modified came too late after t0 to count. Without a t0 it
// has replaced what counts.
func (b *Bucket) IsVoid(t0, modified time.Time) bool {
	return !t0.IsZero() && modified.Sub(t0) > b.grace/2
}

// MayBeVoid is IsVoid as the writer knows it, by the Date of the answer.
func (b *Bucket) MayBeVoid(t0, date time.Time) bool { return b.IsVoid(t0, date.Add(Slack)) }

// An Object is a small object as it was read.
type Object struct {
	Text     string
	Found    bool // all but Date is zero if not
	ETag     objstore.ETag
	Modified time.Time
	Date     time.Time // of the answer
}

// Read gets an object of at most max bytes. That there is none is no error.
func (b *Bucket) Read(ctx context.Context, key string, max int64) (Object, error) {
	o, err := b.Store.Get(ctx, b.Key(key), objstore.Range{})
	if errors.Is(err, objstore.ErrNotFound) {
		date := objstore.Date(err)
		b.saw(date)
		return Object{Date: date}, nil
	}
	if err != nil {
		return Object{}, err
	}
	defer o.Body.Close()
	b.saw(o.Date)
	if o.Size > max {
		return Object{}, &objstore.Error{Op: "Get", Key: b.Key(key), Kind: objstore.ErrTooLarge, Date: o.Date}
	}
	var text strings.Builder
	text.Grow(int(o.Length))
	if _, err := io.Copy(&text, o.Body); err != nil {
		return Object{}, err
	}
	return Object{text.String(), true, o.ETag, o.LastModified, o.Date}, nil
}

// ErrLost is the error of a write whose condition does not hold.
var ErrLost = errors.New("somebody else has changed the object")

const attempts = 3

// Write writes an object under a condition. The body must be one that no other write has. If its
// condition does not hold, the error is ErrLost, and the Object is what is there; the error wraps objstore.ErrUnclear,
// too, if the write may have been done, and others after it. Without an
// error, the Object has ETag and Date, and Modified if the store has told it. All other errors
// wrap objstore.ErrUnclear unless nothing was done.
func (b *Bucket) Write(ctx context.Context, key string, body []byte, cond objstore.Condition) (Object, error) {
	var unclear error
	for range attempts {
		info, err := b.Store.Put(ctx, b.Key(key), body, cond)
		if err == nil {
			b.saw(info.Date)
			return Object{Found: true, ETag: info.ETag, Modified: info.LastModified, Date: info.Date}, nil
		}
		b.saw(objstore.Date(err))
		isUnclear := objstore.Unclear(err)
		if isUnclear {
			unclear = err
		} else if !errors.Is(err, objstore.ErrPrecondition) && !errors.Is(err, objstore.ErrNotFound) {
			return Object{}, errors.Join(unclear, err)
		}
		there, readErr := b.Read(ctx, key, int64(len(body))+maxOther)
		switch {
		case readErr != nil && ctx.Err() == nil && !isUnclear && unclear == nil:
			return Object{}, readErr
		case readErr != nil:
			return Object{}, errors.Join(objstore.ErrUnclear, unclear, readErr)
		case there.Found && there.Text == string(body):
			return there, nil
		case !isUnclear:
			if unclear != nil {
				return there, errors.Join(ErrLost, objstore.ErrUnclear, unclear)
			}
			return there, ErrLost
		}
	}
	return Object{}, unclear
}

// maxOther is how much larger than what is to be written the object may be that is there.
const maxOther = 64 << 20

// Put writes an object without a condition, under a key at which nobody writes anything else. The
// time is the answer's Date.
func (b *Bucket) Put(ctx context.Context, key string, body []byte) (time.Time, error) {
	info, err := b.Store.Put(ctx, b.Key(key), body, objstore.Condition{})
	if err != nil {
		return time.Time{}, err
	}
	b.saw(info.Date)
	return info.Date, nil
}

// Remove deletes an object without a condition, under a key at which nothing is written again.
func (b *Bucket) Remove(ctx context.Context, key string) error {
	date, err := b.Store.Delete(ctx, b.Key(key), objstore.Condition{})
	b.saw(date)
	return err
}

// RemoveIf deletes an object if it is as it was read, where the store can do that; else it stays.
func (b *Bucket) RemoveIf(ctx context.Context, key string, read Object) error {
	if !b.Capabilities().DeleteIfMatch {
		return nil
	}
	date, err := b.Store.Delete(ctx, b.Key(key), objstore.Condition{IfMatch: read.ETag})
	b.saw(date)
	if errors.Is(err, objstore.ErrPrecondition) || errors.Is(err, objstore.ErrNotFound) {
		return nil
	}
	return err
}

// List returns a page of keys, which are without the prefix.
func (b *Bucket) List(ctx context.Context, opts objstore.ListOptions) (*objstore.Page, error) {
	opts.Prefix = b.Key(opts.Prefix)
	if opts.StartAfter != "" {
		opts.StartAfter = b.Key(opts.StartAfter)
	}
	page, err := b.Store.List(ctx, opts)
	if err != nil {
		return nil, err
	}
	b.saw(page.Date)
	for i := range page.Objects {
		page.Objects[i].Key = b.Cut(page.Objects[i].Key)
	}
	return page, nil
}

// Each calls f with each object of a list until it returns an error. Its Date is that of the page.
func (b *Bucket) Each(ctx context.Context, prefix string, f func(objstore.Info) error) error {
	opts := objstore.ListOptions{Prefix: prefix}
	for {
		page, err := b.List(ctx, opts)
		if err != nil {
			return err
		}
		for _, o := range page.Objects {
			o.Date = page.Date
			if err := f(o); err != nil {
				return err
			}
		}
		if opts.Next = page.Next; opts.Next == "" {
			return nil
		}
	}
}

// ErrDamaged is wrapped by the errors for objects that cannot be read as what they have to be.
var ErrDamaged = errors.New("the object is damaged")

// Damaged returns the error for an object that cannot be read as what it has to be.
func Damaged(key string, err error) error { return &damaged{key, err} }

type damaged struct {
	key string
	err error
}

func (d *damaged) Error() string        { return fmt.Sprintf("object %q: %v", d.key, d.err) }
func (d *damaged) Unwrap() error        { return d.err }
func (d *damaged) Is(target error) bool { return target == ErrDamaged }
