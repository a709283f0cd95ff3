package uploads

import (
	"context"
	"errors"
	"hash"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/parts"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// A session is one as its process knows it.
type session struct {
	sessions *Sessions
	id       string
	turn     chan struct{} // holds a value while somebody has the turn, which guards what follows

	// What is in the bucket, if etag is not empty.
	saved   formats.Session
	etag    objstore.ETag
	date    time.Time // of the answer that told it
	checked time.Time // the same, by the clock of the process

	// What was written since.
	size   int64 // of all bytes
	hash   hash.Hash
	rest   []*chunk // what comes after the parts; nil if it was not read
	sender *parts.Sender
	sent   []boundary // the parts that were given to sender
	number int        // of the last one
	dirty  bool       // there are bytes that the session in the bucket does not have
}

// A chunk is a buffer that becomes a part when it is full, and others follow.
type chunk struct {
	*parts.Buffer
	state []byte // of the hash, after its last byte; once it is full
}

// A boundary is the end of a part.
type boundary struct {
	number int
	size   int64         // of all bytes up to it
	state  []byte        // of the hash; nil if it is not known
	part   objstore.Part // if it was sent alone
}

// acquire waits for the turn.
func (s *session) acquire(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *session) giveTurn() { <-s.turn }

// finishTime bounds what goes on for a session after the context of its writer has ended.
const finishTime = 2 * time.Minute

// detached does what must not be broken off, for a caller who waits for it until ctx ends. The caller has
// the turn, and has no longer.
func (s *session) detached(ctx context.Context, f func(context.Context) error) error {
	done := make(chan error, 1)
	going, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(finishTime, cancel)
		context.AfterFunc(going, func() { timer.Stop() })
	})
	go func() {
		err := f(going)
		stop()
		cancel()
		s.giveTurn()
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// maxAge is how old what is known of a session may be, by the clock of the process, when it is
// committed: what is written relies on its Date.
const maxAge = 10 * time.Minute

// resume returns the size of a session of a repository, which a caller believes to be at an offset.
func (s *session) resume(ctx context.Context, repo string, offset int64) (int64, error) {
	if err := s.acquire(ctx); err != nil {
		return 0, err
	}
	defer s.giveTurn()
	if !s.dirty && (s.etag == "" || s.size != offset && s.saved.Status != formats.Gone) {
		if err := s.load(ctx); err != nil {
			return 0, err
		}
	}
	if s.saved.Repository != repo || s.saved.Status == formats.Gone || s.saved.Status != formats.Open && offset != -1 && offset != s.size {
		return 0, ociregistry.ErrBlobUploadUnknown
	}
	return s.size, nil
}

// load reads the session. What was not saved is lost.
func (s *session) load(ctx context.Context) error {
	s.drop()
	key := keys.Session(s.id)
	o, err := s.sessions.bucket.Read(ctx, key, formats.MaxSession)
	if err != nil {
		return err
	}
	return s.adoptObject(o)
}

// adoptObject makes an object as it was read what is known of the session.
func (s *session) adoptObject(o bucket.Object) error {
	if !o.Found {
		s.adopt(formats.Session{Status: formats.Gone}, o)
		return ociregistry.ErrBlobUploadUnknown
	}
	saved, err := formats.DecodeSession(o.Text)
	if err != nil {
		s.drop()
		return bucket.Damaged(keys.Session(s.id), err)
	}
	expiry := s.sessions.opts.Expiry
	if saved.Status == formats.Open && expiry >= 0 && o.Date.Sub(o.Modified) > expiry {
		saved.Status = formats.Gone
	}
	return s.adopt(saved, o)
}

// adopt makes what is in the bucket what is known of the session.
func (s *session) adopt(saved formats.Session, o bucket.Object) (err error) {
	s.drop()
	s.saved, s.etag, s.date, s.checked = saved, o.ETag, o.Date, time.Now().Round(0)
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

// drop forgets what was not saved, and that anything is known.
func (s *session) drop() {
	if s.sender != nil {
		s.sender.Stop()
	}
	for _, c := range s.rest {
		c.Free()
	}
	s.sender, s.sent, s.rest, s.dirty, s.etag, s.hash = nil, nil, nil, false, "", nil
}

// change replaces the session in the bucket. If that fails, what was not saved is lost. If another
// process has changed it, that is known then, and the error is ociregistry.ErrRangeInvalid or
// ociregistry.ErrBlobUploadUnknown.
func (s *session) change(ctx context.Context, next formats.Session) error {
	o, err := s.sessions.bucket.Write(ctx, keys.Session(s.id), next.Encode(), objstore.Condition{IfMatch: s.etag})
	switch {
	case err == nil:
		s.saved, s.etag, s.date, s.checked = next, o.ETag, o.Date, time.Now().Round(0)
		return nil
	case !errors.Is(err, bucket.ErrLost):
		s.drop()
		return err
	}
	if err := s.adoptObject(o); err != nil {
		return err
	}
	if s.saved.Status != formats.Open {
		return ociregistry.ErrBlobUploadUnknown
	}
	return errAt(s.size)
}

// at checks that a writer may go on at its offset. One that is committing can be finished at its end, and has ended
// for others.
func (s *session) at(ctx context.Context, offset int64) error {
	if s.etag == "" && s.saved.Status != formats.Gone {
		if err := s.load(ctx); err != nil {
			return err
		}
	}
	switch {
	case s.saved.Status == formats.Gone, s.saved.Status != formats.Open && s.size != offset:
		return ociregistry.ErrBlobUploadUnknown
	case s.size != offset:
		return errAt(s.size)
	}
	return nil
}
