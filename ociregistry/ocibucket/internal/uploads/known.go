package uploads

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// load reads the session. What was not saved is lost.
func (s *session) load(ctx context.Context) error {
	o, err := s.sessions.bucket.Read(ctx, keys.Session(s.id), formats.MaxSession)
	if err != nil {
		return err
	}
	saved, err := s.decode(o)
	if err != nil {
		return err
	}
	if err := s.adopt(saved, o); err != nil {
		return err
	}
	return ended(saved)
}

// ended returns an error for a session that has ended.
func ended(saved formats.Session) error {
	if saved.Status == formats.Gone {
		return ociregistry.ErrBlobUploadUnknown
	}
	return nil
}

// decode returns the session that an object has. One that is not there has ended, and so has one that
// nobody went on with.
func (s *session) decode(o bucket.Object) (formats.Session, error) {
	if !o.Found {
		return formats.Session{Status: formats.Gone}, nil
	}
	saved, err := formats.DecodeSession(o.Text)
	if err != nil {
		return saved, bucket.Damaged(keys.Session(s.id), err)
	}
	expiry := s.sessions.opts.Expiry
	if saved.Status == formats.Open && expiry >= 0 && o.Date.Sub(o.Modified) > expiry {
		saved.Status = formats.Gone
	}
	return saved, nil
}

// adopt makes what is in the bucket what is known of the session. There must be no bytes to lose.
func (s *session) adopt(saved formats.Session, o bucket.Object) (err error) {
	s.drop(nil)
	s.know(saved, o)
	s.size, s.number = saved.Size, saved.Claimed
	if saved.Status == formats.Gone {
		s.sessions.open.end(s.id)
		return nil
	}
	if s.hash, err = restoreHash(saved.Algorithm, saved.Hash); err != nil {
		s.etag = ""
	}
	return err
}

func (s *session) know(saved formats.Session, o bucket.Object) {
	s.saved, s.etag, s.date, s.checked = saved, o.ETag, o.Date, time.Now().Round(0)
}

// drop forgets what was not saved, because of an error, and that anything is known.
func (s *session) drop(err error) {
	if s.dirty {
		s.losses = append(s.losses, loss{s.saved.Size, err})
	}
	if s.sender != nil {
		s.sender.Stop()
	}
	for _, c := range s.rest {
		c.Free()
	}
	s.sender, s.sent, s.rest, s.dirty, s.etag, s.hash = nil, nil, nil, false, "", nil
}

// lost returns an error if bytes before a position are lost that its writer has written.
func (s *session) lost(at position) error {
	if !at.wrote || at.losses == len(s.losses) || at.offset <= s.losses[at.losses].kept {
		return nil
	}
	return s.losses[at.losses].err
}

// change replaces the session in the bucket. If that fails, what was not saved is lost. If another
// process has changed it, that is known then, and the error is ociregistry.ErrRangeInvalid,
// ociregistry.ErrBlobUploadInvalid or ociregistry.ErrBlobUploadUnknown.
func (s *session) change(ctx context.Context, next formats.Session) error {
	for range attempts {
		o, err := s.sessions.bucket.Write(ctx, keys.Session(s.id), next.Encode(), objstore.Condition{IfMatch: s.etag})
		if err == nil {
			s.know(next, o)
			return nil
		}
		if !errors.Is(err, bucket.ErrLost) || errors.Is(err, objstore.ErrUnclear) {
			s.drop(err)
			return err
		}
		now, err := s.decode(o)
		if err != nil {
			s.drop(err)
			return err
		}
		rebased, ok := rebase(next, s.saved, now)
		if !ok {
			return s.yield(now, o)
		}
		next = rebased
		s.know(now, o)
	}
	s.drop(bucket.ErrLost)
	return bucket.ErrLost
}

// rebase returns a change of a session as a change of what the session is now, if others have added nothing
// to it: they may have claimed numbers of parts, for an upload that they have made.
func rebase(next, was, now formats.Session) (formats.Session, bool) {
	if now.Status != formats.Open || was.Status != formats.Open || now.Size != was.Size {
		return next, false
	}
	if was.Data != now.Data {
		next.Data, next.Upload = now.Data, now.Upload // nothing was sent before
	}
	next.Claimed = now.Claimed + max(0, next.Claimed-was.Claimed)
	return next, true
}

// yield makes what another process has made of the session what is known of it, and returns the error for
// who wanted to change it.
func (s *session) yield(now formats.Session, o bucket.Object) error {
	err := errAt(now.Size)
	switch now.Status {
	case formats.Committing:
		err = errCommitting
	case formats.Gone:
		err = ociregistry.ErrBlobUploadUnknown
	}
	s.drop(err)
	return cmp.Or(s.adopt(now, o), err)
}

var errCommitting = fmt.Errorf("%w: a commit of it has begun", ociregistry.ErrBlobUploadInvalid)
