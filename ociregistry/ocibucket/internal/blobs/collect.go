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

// Age returns how long ago a link was written, as of when it was read.
func (l *Link) Age() time.Duration { return l.read.Date.Sub(l.read.Modified) }

// Modified returns when a link was written.
func (l *Link) Modified() time.Time { return l.read.Modified }

// Condemn notes that a collection found a link unused. Who promises the blob revives it. One whose
// delete is recorded it buries.
func (s *Store) Condemn(ctx context.Context, repo *repos.Repository, digest ociregistry.Digest, l Link) error {
	var err error
	if repo.KnowsDead(l.Nonce) {
		err = s.Bury(ctx, repo.Name(), digest, l)
	} else {
		next := l
		next.Status = formats.Condemned
		err = s.replace(ctx, repo.Name(), digest, l, &next)
	}
	return unlessLost(err)
}

func unlessLost(err error) error {
	if errors.Is(err, bucket.ErrLost) {
		return nil
	}
	return err
}

// CollectDead removes the dead links of a repository that are old. It returns what stands for the others.
func (s *Store) CollectDead(ctx context.Context, repo string) (links formats.LinkID, err error) {
	err = s.bucket.Each(ctx, keys.Links(repo), func(o objstore.Info) error {
		k, ok := keys.Parse(o.Key)
		if ok && o.Size != formats.DeadLinkSize {
			links = links.Xor(formats.LinkIDOf(k.Digest))
		}
		if !ok || o.Size != formats.DeadLinkSize || o.Date.Sub(o.LastModified) <= s.bucket.Grace() {
			return nil
		}
		l, err := s.Read(ctx, repo, k.Digest)
		if err != nil || s.Lives(l) {
			return err
		}
		return s.RemoveDead(ctx, repo, k.Digest, l)
	})
	return links, err
}

// RemoveDead removes a link that does not live, once no late request can be about it.
func (s *Store) RemoveDead(ctx context.Context, repo string, digest ociregistry.Digest, l Link) error {
	if !l.read.Found || l.Age() <= s.bucket.Grace() {
		return nil
	}
	return s.bucket.RemoveIf(ctx, keys.Link(repo, digest), l.read)
}

// CollectMarker takes a marker one step further to its end: without a link that uses its data it is
// doomed after a delay, and after the grace time it is gone, with its data.
func (s *Store) CollectMarker(ctx context.Context, digest ociregistry.Digest, data string, delay time.Duration) error {
	key := keys.Marker(digest, data)
	o, err := s.bucket.Read(ctx, key, formats.MaxMarker)
	if err != nil || !o.Found {
		return err
	}
	m, err := formats.DecodeMarker(o.Text)
	if err != nil {
		return bucket.Damaged(key, err)
	}
	become := func(status formats.Status) error {
		next := formats.Marker{Status: status}
		_, err := s.bucket.Write(ctx, key, next.Encode(), objstore.Condition{IfMatch: o.ETag})
		return err
	}
	age := o.Date.Sub(o.Modified)
	switch {
	case m.Status == formats.Gone:
	case s.bucket.IsVoid(m.T0, o.Modified):
		err = become(formats.Gone)
	case m.Status == formats.Live && age > delay, m.Status == formats.Doomed && age > s.bucket.Grace():
		used, err := s.isUsed(ctx, digest, data)
		switch {
		case err != nil || used && m.Status == formats.Live:
			return err
		case used:
			return unlessLost(become(formats.Live))
		case m.Status == formats.Live:
			return unlessLost(become(formats.Doomed))
		}
		if err := become(formats.Gone); err != nil {
			return unlessLost(err)
		}
	default:
		return nil
	}
	if err == nil {
		err = s.bucket.Remove(ctx, keys.Data(data))
	}
	if err == nil {
		err = s.bucket.Remove(ctx, key)
	}
	return unlessLost(err)
}

// isUsed reports whether a link uses data. It removes old references without their link.
func (s *Store) isUsed(ctx context.Context, digest ociregistry.Digest, data string) (used bool, err error) {
	err = s.bucket.Each(ctx, keys.References(digest), func(o objstore.Info) error {
		k, ok := keys.Parse(o.Key)
		if !ok {
			return nil
		}
		mine, l, err := s.isMine(ctx, k)
		if err != nil {
			return err
		}
		used = used || mine && l.Data == data
		if !mine && o.Date.Sub(o.LastModified) > s.bucket.Grace() {
			return s.bucket.Remove(ctx, o.Key)
		}
		return nil
	})
	return used, err
}

// isMine reports whether the link to which a reference belongs lives.
func (s *Store) isMine(ctx context.Context, reference keys.Key) (bool, Link, error) {
	l, err := s.Read(ctx, reference.Repository, reference.Digest)
	return err == nil && s.Lives(l) && l.Reference == reference.Name, l, err
}

// CollectReference removes an old reference without its link.
func (s *Store) CollectReference(ctx context.Context, k keys.Key, age time.Duration) error {
	if age <= s.bucket.Grace() {
		return nil
	}
	mine, _, err := s.isMine(ctx, k)
	if err != nil || mine {
		return err
	}
	return s.bucket.Remove(ctx, k.String())
}
