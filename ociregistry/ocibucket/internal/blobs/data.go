package blobs

import (
	"context"
	"errors"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// refer writes a reference of a repository to a digest, under a nonce of its own. before is a Date that
// was seen before.
func (s *Store) refer(ctx context.Context, repo string, digest ociregistry.Digest, nonce string) (before, after time.Time, err error) {
	before = s.bucket.Seen()
	after, err = s.bucket.Put(ctx, keys.Reference(digest, repo, nonce), nil)
	return before, after, err
}

// protect reports whether data can be used, once there is a reference to its digest.
func (s *Store) protect(ctx context.Context, digest ociregistry.Digest, data string) (bool, error) {
	key := keys.Marker(digest, data)
	for range attempts {
		o, err := s.bucket.Read(ctx, key, formats.MaxMarker)
		if err != nil || !o.Found {
			return false, err
		}
		m, err := formats.DecodeMarker(o.Text)
		switch {
		case err != nil:
			return false, bucket.Damaged(key, err)
		case m.Status == formats.Gone, s.bucket.IsVoid(m.T0, o.Modified):
			return false, nil
		case m.Status == formats.Live:
			return true, nil
		}
		live := formats.Marker{Status: formats.Live}
		_, err = s.bucket.Write(ctx, key, live.Encode(), objstore.Condition{IfMatch: o.ETag})
		if !errors.Is(err, bucket.ErrLost) {
			return err == nil, err
		}
	}
	return false, bucket.ErrLost
}

// mark says that new data has the bytes of a digest. It is ErrTooLate if that may not count, or is no
// longer so.
func (s *Store) mark(ctx context.Context, digest ociregistry.Digest, data string, t0 time.Time) error {
	live := formats.Marker{Status: formats.Live, T0: t0}
	o, err := s.bucket.Write(ctx, keys.Marker(digest, data), live.Encode(), objstore.Condition{IfAbsent: true})
	if errors.Is(err, bucket.ErrLost) { // another process has finished the same session
		usable, err := s.protect(ctx, digest, data)
		if err == nil && !usable {
			err = ErrTooLate
		}
		return err
	}
	if err == nil && s.bucket.MayBeVoid(t0, o.Date) {
		err = ErrTooLate
	}
	return err
}

// find returns the name of data with the bytes of a digest to which a reference has been written,
// or "" if there is none, with what the link of it needs.
func (s *Store) find(ctx context.Context, repo string, digest ociregistry.Digest) (formats.Link, error) {
	page, err := s.bucket.List(ctx, objstore.ListOptions{Prefix: keys.Markers(digest), Limit: 8})
	if err != nil || len(page.Objects) == 0 {
		return formats.Link{}, err
	}
	for _, o := range page.Objects {
		k, ok := keys.Parse(o.Key)
		if !ok {
			continue
		}
		l, ok, err := s.use(ctx, repo, digest, k.Name)
		if err != nil || ok {
			return l, err
		}
	}
	return formats.Link{}, nil
}

// use writes a reference to data that is there, and reports whether it can be used.
func (s *Store) use(ctx context.Context, repo string, digest ociregistry.Digest, data string) (l formats.Link, ok bool, err error) {
	l = newLink()
	l.Data = data
	if l.T0, _, err = s.refer(ctx, repo, digest, l.Reference); err != nil {
		return l, false, err
	}
	ok, err = s.protect(ctx, digest, data)
	return l, ok, err
}

// newLink returns a link with a nonce of its own, which is that of its reference too.
func newLink() formats.Link {
	nonce := formats.Nonce()
	return formats.Link{Status: formats.Live, Nonce: nonce, Reference: nonce}
}

// PublishInline makes content that is small a blob.
func (s *Store) PublishInline(ctx context.Context, repo *repos.Repository, digest ociregistry.Digest, content string) error {
	var err error
	for range attempts {
		l := newLink()
		l.Size, l.Inline = int64(len(content)), content
		if err = s.publishInline(ctx, repo, digest, l); !errors.Is(err, ErrTooLate) {
			return err
		}
	}
	return err
}

func (s *Store) publishInline(ctx context.Context, repo *repos.Repository, digest ociregistry.Digest, l formats.Link) (err error) {
	if err = repo.Catalog(ctx); err != nil {
		return err
	}
	if _, l.T0, err = s.refer(ctx, repo.Name(), digest, l.Reference); err != nil {
		return err
	}
	_, err = s.put(ctx, repo, digest, l)
	return err
}

// Publish makes new data a blob. Its link is to have the given nonce, and T0 is a Date that was
// seen before the data was written, or began to be a blob.
func (s *Store) Publish(ctx context.Context, repo *repos.Repository, digest ociregistry.Digest, data string, size int64, nonce string, t0 time.Time) error {
	if err := repo.Catalog(ctx); err != nil {
		return err
	}
	if err := s.mark(ctx, digest, data, t0); err != nil {
		return err
	}
	if _, _, err := s.refer(ctx, repo.Name(), digest, nonce); err != nil {
		return err
	}
	_, err := s.put(ctx, repo, digest, formats.Link{Status: formats.Live, Nonce: nonce, Reference: nonce, T0: t0, Size: size, Data: data})
	return err
}

// PublishSession makes a link that a session has promised, of content in it.
func (s *Store) PublishSession(ctx context.Context, repo *repos.Repository, digest ociregistry.Digest, content, nonce string, t0 time.Time) error {
	if err := repo.Catalog(ctx); err != nil {
		return err
	}
	if _, _, err := s.refer(ctx, repo.Name(), digest, nonce); err != nil {
		return err
	}
	l := formats.Link{Status: formats.Live, Nonce: nonce, Reference: nonce, T0: t0, Size: int64(len(content)), Inline: content}
	_, err := s.put(ctx, repo, digest, l)
	return err
}
