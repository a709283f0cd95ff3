package uploads

import (
	"context"
	"errors"
	"time"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// A Found is a session that a collection looks at.
type Found struct {
	formats.Session
	ID       string
	Modified time.Time
	Age      time.Duration
	read     bucket.Object
}

// Each calls f with each session, whatever its status.
func (u *Sessions) Each(ctx context.Context, f func(Found) error) error {
	return u.bucket.Each(ctx, keys.AllSessions, func(o objstore.Info) error {
		k, ok := keys.Parse(o.Key)
		if !ok {
			return nil
		}
		read, err := u.bucket.Read(ctx, o.Key, formats.MaxSession)
		if err != nil || !read.Found {
			return err
		}
		session, err := formats.DecodeSession(read.Text)
		if err != nil {
			return bucket.Damaged(o.Key, err)
		}
		return f(Found{session, k.Name, read.Modified, read.Date.Sub(read.Modified), read})
	})
}

// Expire ends a session as it was found, and reports whether it did. One that is committing is ended only
// if it is older than the grace time, and never finished: that could bring back a blob that was deleted since.
func (u *Sessions) Expire(ctx context.Context, f Found) (bool, error) {
	gone := f.Session
	gone.Status = formats.Gone
	_, err := u.bucket.Write(ctx, keys.Session(f.ID), gone.Encode(), objstore.Condition{IfMatch: f.read.ETag})
	if errors.Is(err, bucket.ErrLost) {
		return false, nil
	}
	return err == nil, err
}

// Remove removes a session that has ended, with its upload, once no late request can be about it.
func (u *Sessions) Remove(ctx context.Context, f Found) error {
	if f.Data != "" {
		_, err := u.bucket.AbortMultipart(ctx, f.Multipart(u.bucket.Key(keys.Data(f.Data))))
		if err != nil && !errors.Is(err, objstore.ErrNotFound) {
			return err
		}
	}
	return u.bucket.Remove(ctx, keys.Session(f.ID))
}
