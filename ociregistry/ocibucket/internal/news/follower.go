package news

import (
	"context"
	"time"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// A Follower reads what other processes have changed. It is not safe for concurrent use.
type Follower struct {
	bucket *bucket.Bucket
	own    *Log
	read   map[string]int64 // how many bytes of each object were read; nil if nobody follows
	asked  time.Time        // the Date before it was last written down that somebody follows
	date   time.Time        // of the last list
}

// NewFollower returns a Follower, who leaves the news of this process out.
func NewFollower(b *bucket.Bucket, own *Log) *Follower { return &Follower{bucket: b, own: own} }

// Follow begins to follow. What others change after it Read tells.
func (f *Follower) Follow(ctx context.Context) error {
	f.read = nil
	if err := f.ask(ctx); err != nil {
		return err
	}
	read := map[string]int64{}
	date, err := f.list(ctx, func(name string, size int64) error {
		read[name] = size
		return nil
	})
	if err == nil {
		f.read, f.date = read, date
	}
	return err
}

// ask writes down that somebody follows.
func (f *Follower) ask(ctx context.Context) error {
	date, err := f.bucket.Put(ctx, keys.Asked, nil)
	if err == nil {
		f.asked = date
	}
	return err
}

// list calls seen with the objects of other processes and their sizes. The time is the Date of their list.
func (f *Follower) list(ctx context.Context, seen func(name string, size int64) error) (date time.Time, err error) {
	opts := objstore.ListOptions{Prefix: keys.AllNews}
	for {
		page, err := f.bucket.List(ctx, opts)
		if err != nil {
			return date, err
		}
		if date.IsZero() {
			date = page.Date
		}
		for _, o := range page.Objects {
			if k, ok := keys.Parse(o.Key); ok && !f.own.isMine(k.Name) {
				if err := seen(k.Name, o.Size); err != nil {
					return date, err
				}
			}
		}
		if opts.Next = page.Next; opts.Next == "" {
			return date, nil
		}
	}
}

func (l *Log) isMine(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mine[name]
}

// Read calls f with what was changed since it was called before, or since Follow. It reports false if
// that was so long ago that something may be missing: then all has to be looked at after Follow.
// After an error, the next call tells the same again.
func (f *Follower) Read(ctx context.Context, tell func(*formats.Changed)) (complete bool, err error) {
	if f.read == nil {
		return false, nil
	}
	before := f.date
	read := map[string]int64{}
	date, err := f.list(ctx, func(name string, size int64) (err error) {
		if read[name] = size; size > f.read[name] {
			read[name], err = f.readFrom(ctx, name, max(f.read[name], formats.NewsHeader), tell)
		}
		return err
	})
	switch {
	case err != nil:
		return true, err
	case date.Sub(before) > f.bucket.Grace():
		return false, nil
	case date.Sub(f.asked) > f.bucket.Grace()/2:
		if err := f.ask(ctx); err != nil {
			return true, err
		}
	}
	f.read, f.date = read, date
	return true, nil
}

// readFrom reads an object from an offset on, and returns its size.
func (f *Follower) readFrom(ctx context.Context, name string, offset int64, tell func(*formats.Changed)) (size int64, err error) {
	o, err := f.bucket.Read(ctx, keys.News(name), formats.MaxNews)
	if err != nil || !o.Found { // all of it was read by who is not too late
		return offset, err
	}
	news, err := formats.DecodeNews(o.Text, offset)
	if err != nil {
		return offset, bucket.Damaged(keys.News(name), err)
	}
	for i := range news {
		tell(&news[i])
	}
	return int64(len(o.Text)), nil
}

// Collect removes objects that all who follow have read, or are too late for.
func Collect(ctx context.Context, b *bucket.Bucket) error {
	return b.Each(ctx, keys.AllNews, func(o objstore.Info) error {
		if k, ok := keys.Parse(o.Key); ok && o.Date.Sub(o.LastModified) > 2*b.Grace() {
			return b.Remove(ctx, k.String())
		}
		return nil
	})
}
