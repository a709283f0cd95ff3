package uploads

import (
	"cmp"
	"context"
	"errors"
	"hash"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/parts"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// A session is one as its process knows it: known.go has what of it is in the bucket.
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
	losses []loss
}

// A loss is one of bytes that were not yet in the bucket.
type loss struct {
	kept int64 // the size of the session: what comes after it is lost
	err  error
}

// A position is the position of a writer in a session.
type position struct {
	offset int64
	wrote  bool
	losses int // how many the session had when the writer wrote
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

// giveTurn ends the turn. Of a session that is committing, nothing is known for longer: another process may end it, and
// who is told afterwards that it can be committed would take that for another end.
func (s *session) giveTurn() {
	if s.saved.Status == formats.Committing {
		s.etag = ""
	}
	<-s.turn
}

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

// anywhere is the offset of a caller who does not ask where a session is.
const anywhere = -2

// resume returns the size of a session of a repository, which a caller believes to be at an offset.
func (s *session) resume(ctx context.Context, repo string, offset int64) (int64, error) {
	if err := s.acquire(ctx); err != nil {
		return 0, err
	}
	if !s.dirty || s.size == offset || offset == anywhere {
		defer s.giveTurn()
		return s.find(ctx, repo, offset)
	}
	var size int64
	err := s.detached(ctx, func(ctx context.Context) error {
		err := s.saveBeforeOthers(ctx)
		if err == nil {
			size, err = s.find(ctx, repo, offset)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return size, nil
}

func (s *session) find(ctx context.Context, repo string, offset int64) (int64, error) {
	moved := s.size != offset && offset != anywhere
	if !s.dirty && (s.etag == "" || moved && s.saved.Status != formats.Gone) {
		if err := s.load(ctx); err != nil {
			return 0, err
		}
	}
	if s.saved.Repository != repo || s.saved.Status == formats.Gone {
		return 0, ociregistry.ErrBlobUploadUnknown
	}
	return s.size, nil
}

// saveBeforeOthers keeps what one writer has written, before another one is told that it is there. If another process
// was first, it is lost, and the session is known as that process left it.
func (s *session) saveBeforeOthers(ctx context.Context) error {
	err := s.saveDirty(ctx)
	if errors.Is(err, ociregistry.ErrRangeInvalid) || errors.Is(err, errCommitting) || errors.Is(err, ociregistry.ErrBlobUploadUnknown) {
		return nil
	}
	return err
}

// at checks that a writer may go on at its position. A session that is committing can be finished at its end.
func (s *session) at(ctx context.Context, at position) error {
	if s.etag == "" && s.saved.Status != formats.Gone {
		if err := s.load(ctx); err != nil {
			return err
		}
	}
	if s.dirty && s.size != at.offset {
		if err := s.saveBeforeOthers(ctx); err != nil {
			return err
		}
	}
	if err := cmp.Or(ended(s.saved), s.lost(at)); err != nil {
		return err
	}
	if s.size != at.offset {
		return errAt(s.size)
	}
	return nil
}
