// Package blobs has the blobs of a registry in a bucket: links, which say that a repository has
// one, and the bytes that they share, with markers and references.
//
// A blob is there when its link is. Small content is in the link itself. The bytes of others are in
// data with a random name, which is written before its marker, its reference and the link. Who uses
// bytes that are there writes a reference first, and then looks whether they stay.
package blobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/news"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/parts"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/repos"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/tally"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// Options are options for New.
type Options struct {
	// ReadOnly: nothing is written, not even to keep what a collection has condemned.
	ReadOnly bool
	// Buffers are for parts of content.
	Buffers *parts.Buffers
	// PartSize is the size of a part, in bytes.
	PartSize int64
	// Concurrency is how many parts of a blob are sent at a time.
	Concurrency int
	// Tally learns of each change of a link, and so do other processes by News.
	Tally *tally.Tally
	News  *news.Log
}

// A Store has the blobs of all repositories. It is safe for concurrent use.
type Store struct {
	bucket *bucket.Bucket
	opts   Options
}

// New returns the blobs in a bucket.
func New(b *bucket.Bucket, opts Options) *Store { return &Store{b, opts} }

// ErrTooLate is the error of a write that took so long that it may not count.
var ErrTooLate = errors.New("it took too long")

// attempts is how often a write is tried that others get in the way of.
const attempts = 6

// A Link is a link as it was read.
type Link struct {
	formats.Link
	read bucket.Object
}

// Read reads a link. One that does not live is returned, too.
func (s *Store) Read(ctx context.Context, repo string, digest ociregistry.Digest) (Link, error) {
	o, err := s.bucket.Read(ctx, keys.Link(repo, digest), formats.MaxLink)
	if err != nil || !o.Found {
		return Link{read: o}, err
	}
	return s.decode(repo, digest, o)
}

func (s *Store) decode(repo string, digest ociregistry.Digest, o bucket.Object) (Link, error) {
	l, err := formats.DecodeLink(o.Text)
	if err != nil {
		return Link{}, bucket.Damaged(keys.Link(repo, digest), err)
	}
	return Link{l, o}, nil
}

// Lives reports whether the repository has the blob.
func (s *Store) Lives(l Link) bool {
	return l.read.Found && l.Status != formats.Dead && !s.bucket.IsVoid(l.T0, l.read.Modified)
}

// Get returns the link of a blob, which stays for as long as collections promise. The error is
// ociregistry.ErrBlobUnknown if there is none.
func (s *Store) Get(ctx context.Context, repo string, digest ociregistry.Digest) (Link, error) {
	for range attempts {
		l, err := s.Read(ctx, repo, digest)
		if err != nil {
			return Link{}, err
		}
		if !s.Lives(l) {
			return Link{}, ociregistry.ErrBlobUnknown
		}
		if l.Status == formats.Live || s.opts.ReadOnly {
			return l, nil
		}
		l, err = s.revive(ctx, repo, digest, l)
		if !errors.Is(err, bucket.ErrLost) {
			return l, err
		}
	}
	return Link{}, bucket.ErrLost
}

// Descriptor returns the descriptor of a blob.
func (l *Link) Descriptor(digest ociregistry.Digest) ociregistry.Descriptor {
	return ociregistry.Descriptor{MediaType: "application/octet-stream", Digest: digest, Size: l.Size}
}

// revive makes a condemned link live again, under a new nonce.
func (s *Store) revive(ctx context.Context, repo string, digest ociregistry.Digest, l Link) (Link, error) {
	next := Link{Link: l.Link}
	next.Status, next.Nonce = formats.Live, formats.Nonce()
	err := s.replace(ctx, repo, digest, l, &next)
	return next, err
}

// A change is a change of a link that is under way.
type change struct {
	*tally.Step
	news   *news.Log
	repo   string
	digest ociregistry.Digest
}

func (s *Store) beginChange(repo string, digest ociregistry.Digest) *change {
	return &change{s.opts.Tally.Begin(repo, digest), s.opts.News, repo, digest}
}

// end ends a change after which the repository has a blob, unless it has failed.
func (c *change) end(l *Link, err error) {
	switch {
	case err != nil:
		c.Fail()
	case l.Status == formats.Dead:
		c.HasNot()
	default:
		c.Has(l.Size)
	}
	c.news.Blob(c.repo, c.digest)
}

// replace replaces a link that counts. It is ErrLost if the link has changed.
func (s *Store) replace(ctx context.Context, repo string, digest ociregistry.Digest, l Link, next *Link) (err error) {
	next.T0 = time.Time{}
	next.read, err = s.bucket.Write(ctx, keys.Link(repo, digest), next.Encode(), objstore.Condition{IfMatch: l.read.ETag})
	return err
}

// Bury makes a link dead. It is bucket.ErrLost if the link has changed.
func (s *Store) Bury(ctx context.Context, repo string, digest ociregistry.Digest, l Link) error {
	dead := Link{Link: formats.Link{Status: formats.Dead, Nonce: l.Nonce}}
	c := s.beginChange(repo, digest)
	err := s.replace(ctx, repo, digest, l, &dead)
	c.end(&dead, err)
	return err
}

// put makes a link be there: l, or a live one that is there already, which it returns.
func (s *Store) put(ctx context.Context, repo *repos.Repository, digest ociregistry.Digest, l formats.Link) (Link, error) {
	c := s.beginChange(repo.Name(), digest)
	there, err := s.tryPut(ctx, repo, digest, l)
	c.end(&there, err)
	if err == nil {
		repo.ContentCame()
	}
	return there, err
}

func (s *Store) tryPut(ctx context.Context, repo *repos.Repository, digest ociregistry.Digest, l formats.Link) (Link, error) {
	key, cond := keys.Link(repo.Name(), digest), objstore.Condition{IfAbsent: true}
	for range attempts {
		o, err := s.bucket.Write(ctx, key, l.Encode(), cond)
		if err == nil {
			if s.bucket.MayBeVoid(l.T0, o.Date) {
				err = ErrTooLate
			}
			return Link{l, o}, err
		}
		if !errors.Is(err, bucket.ErrLost) {
			return Link{}, err
		}
		if !o.Found {
			cond = objstore.Condition{IfAbsent: true}
			continue
		}
		there, err := s.decode(repo.Name(), digest, o)
		if err == nil && s.Lives(there) && !repo.KnowsDead(there.Nonce) {
			if there.Status == formats.Condemned {
				there, err = s.revive(ctx, repo.Name(), digest, there)
				if errors.Is(err, bucket.ErrLost) {
					continue
				}
			}
			return there, err
		}
		if err == nil && there.Nonce == l.Nonce {
			return Link{}, ErrTooLate // it was there, and is deleted or collected since, or it came too late
		}
		cond = objstore.Condition{IfMatch: o.ETag}
	}
	return Link{}, bucket.ErrLost
}

// Exists reports whether a repository has any content.
func (s *Store) Exists(ctx context.Context, repo *repos.Repository) (bool, error) {
	if err := repo.Refresh(ctx); err != nil {
		return false, err
	}
	count := 0
	if err := repo.View(func(st *repos.State) { count = st.Count() }); err != nil || count > 0 {
		return err == nil, err
	}
	found := errors.New("found")
	err := s.bucket.Each(ctx, keys.Links(repo.Name()), func(o objstore.Info) error {
		k, ok := keys.Parse(o.Key)
		if !ok || o.Size == formats.DeadLinkSize {
			return nil
		}
		l, err := s.Read(ctx, repo.Name(), k.Digest)
		if err == nil && s.Lives(l) && !repo.KnowsDead(l.Nonce) {
			return found
		}
		return err
	})
	if errors.Is(err, found) {
		return true, nil
	}
	return false, err
}

// Unknown returns err, or ociregistry.ErrNameUnknown in its place if the repository does not exist.
func (s *Store) Unknown(ctx context.Context, repo *repos.Repository, err error) error {
	exists, failed := s.Exists(ctx, repo)
	switch {
	case failed != nil:
		return failed
	case !exists:
		return ociregistry.ErrNameUnknown
	}
	return err
}

// Look calls f, which looks for a blob. If the blob is not there, the error is ociregistry.ErrNameUnknown or
// ociregistry.ErrBlobUnknown: the latter if the repository existed without the blob. If the repository may exist by
// the blob, which has come meanwhile, Look calls f again.
func (s *Store) Look(ctx context.Context, repo *repos.Repository, digest ociregistry.Digest, f func() error) error {
	for {
		before, had := repo.HasManifests()
		err := f()
		if !errors.Is(err, ociregistry.ErrBlobUnknown) {
			return err
		}
		err = s.Unknown(ctx, repo, err)
		if !errors.Is(err, ociregistry.ErrBlobUnknown) || had && repo.HadManifestsSince(before) {
			return err
		}
		l, readErr := s.Read(ctx, repo.Name(), digest)
		switch {
		case readErr != nil:
			return readErr
		case !s.Lives(l) || repo.KnowsDead(l.Nonce):
			return err
		}
	}
}

// missing returns the error for a link whose bytes are not there.
func missing(digest ociregistry.Digest) error {
	return fmt.Errorf("%w: the bytes of %s", ErrMissing, digest)
}
