package uploads

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/blobs"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// save keeps all bytes in the bucket, for a writer that is closed at a position.
func (s *session) save(ctx context.Context, at position) error {
	if err := s.lost(at); err != nil {
		return err
	}
	if !s.dirty {
		return nil
	}
	return s.saveDirty(ctx)
}

func (s *session) saveDirty(ctx context.Context) error {
	next, err := s.flush(ctx, false)
	if err != nil {
		return err
	}
	before := s.saved.Tail
	if err := s.change(ctx, next); err != nil {
		return err
	}
	s.settle(ctx, before)
	return nil
}

// settle forgets what is in the bucket by now, and removes a tail that the session had before.
func (s *session) settle(ctx context.Context, before string) {
	for _, c := range s.rest {
		c.Free()
	}
	s.rest, s.sent, s.dirty = nil, nil, false
	s.size, s.number = s.saved.Size, s.saved.Claimed
	if before != "" && before != s.saved.Tail {
		s.sessions.bucket.Remove(ctx, keys.Data(before)) // else a collection does it
	}
}

// flush sends all bytes, and returns the session that has them. The last ones become a part if
// there are parts, and they are large enough for one, or nothing follows.
func (s *session) flush(ctx context.Context, last bool) (next formats.Session, err error) {
	if err := s.readRest(ctx); err != nil {
		return next, err
	}
	rest := s.joined()
	if s.saved.Data != "" && len(rest) > 0 && (last || len(rest) >= s.sessions.minPart) {
		if err := s.sendRest(ctx, rest); err != nil {
			return next, err
		}
		rest = nil
	}
	sent, err := s.waitForParts()
	if err != nil {
		s.drop(err)
		return next, err
	}
	next = s.saved
	next.Parts = slices.Concat(next.Parts, sent)
	next.Claimed = s.number
	next.Size, next.Hash = s.size, hashState(s.hash)
	next.Tail, next.Inline = "", ""
	switch {
	case len(rest) <= formats.MaxInline:
		next.Inline = string(rest)
	case !s.dirty:
		next.Tail = s.saved.Tail
	default:
		next.Tail = formats.Nonce()
		if _, err := s.sessions.bucket.Put(ctx, keys.Data(next.Tail), rest); err != nil {
			s.drop(err)
			return next, err
		}
	}
	return next, nil
}

// joined returns the bytes after the parts.
func (s *session) joined() []byte {
	if len(s.rest) == 1 || s.rest[1].Len() == 0 {
		return s.rest[0].Bytes()
	}
	return slices.Concat(s.rest[0].Bytes(), s.rest[1].Bytes())
}

// sendRest sends the last bytes as a part, after those that are on their way.
func (s *session) sendRest(ctx context.Context, rest []byte) error {
	if s.number == s.saved.Claimed {
		if err := s.claim(ctx); err != nil {
			return err
		}
	}
	s.number++
	part, err := s.sessions.bucket.PutPart(ctx, s.upload(), s.number, rest)
	if err != nil {
		s.drop(err)
		return err
	}
	s.sent = append(s.sent, boundary{number: s.number, size: s.size, part: part})
	return nil
}

// waitForParts returns those of the sent parts that the session does not have.
func (s *session) waitForParts() ([]objstore.Part, error) {
	var arrived map[int]objstore.Part
	if s.sender != nil {
		all, err := s.sender.Wait()
		if err != nil {
			return nil, err
		}
		arrived = byNumber(all)
		s.sender = nil
	}
	var list []objstore.Part
	for _, b := range s.sent {
		p, ok := arrived[b.number]
		if !ok {
			p = b.part
		}
		list = append(list, p)
	}
	s.sent = nil
	return list, nil
}

// commit makes a blob of the session, or finishes what another process began. Who makes the blob, or finds it
// there, has committed the session: of several who do it at once, all may have.
func (s *session) commit(ctx context.Context, d ociregistry.Digest) error {
	size := s.size
	if s.saved.Status == formats.Open {
		if err := s.beginCommit(ctx, d); err != nil && !errors.Is(err, errCommitting) {
			return err
		}
	}
	if s.saved.Digest != d || s.saved.Size != size {
		return errCommitting
	}
	err := s.publish(ctx)
	tooLate := errors.Is(err, blobs.ErrTooLate)
	if err != nil && !tooLate && !errors.Is(err, ociregistry.ErrBlobUploadUnknown) && !errors.Is(err, ociregistry.ErrDigestInvalid) {
		return err
	}
	gone := s.saved
	gone.Status = formats.Gone
	s.change(ctx, gone) // else another one ends it, or it expires
	s.drop(nil)
	s.saved.Status = formats.Gone
	if tooLate { // nothing that it wrote counts, or not any more
		return errors.Join(objstore.ErrUnclear, err)
	}
	return err
}

// commitAsItIs commits the session wherever it is: first as it is known, and if others have changed it, as they left
// it. It returns the size.
func (s *session) commitAsItIs(ctx context.Context, d ociregistry.Digest) (size int64, err error) {
	for range attempts {
		if s.etag == "" && s.saved.Status != formats.Gone {
			if err := s.load(ctx); err != nil {
				return 0, err
			}
		}
		if err := ended(s.saved); err != nil {
			return 0, err
		}
		size = s.size
		if err = s.commit(ctx, d); !errors.Is(err, ociregistry.ErrRangeInvalid) {
			return size, err
		}
	}
	return 0, err
}

// beginCommit checks the digest as far as it is known, brings all bytes into the bucket, and changes
// the session so that nothing can be added.
func (s *session) beginCommit(ctx context.Context, d ociregistry.Digest) error {
	if time.Now().Round(0).Sub(s.checked) > maxAge {
		if err := s.freshen(ctx); err != nil {
			return err
		}
	}
	t0 := s.date
	if d.Algorithm() == digest.Algorithm(s.saved.Algorithm) && !verified.IsSum(d, s.hash.Sum(nil)) {
		if err := s.abandon(ctx); err != nil {
			return err
		}
		return ociregistry.ErrDigestInvalid
	}
	next := s.saved
	if s.dirty || next.Data != "" {
		var err error
		if next, err = s.flush(ctx, true); err != nil {
			return err
		}
	}
	next.Status, next.Digest, next.Nonce, next.T0 = formats.Committing, d, formats.Nonce(), t0
	before := s.saved.Tail
	if err := s.change(ctx, next); err != nil {
		return err
	}
	s.settle(ctx, before)
	return nil
}

// freshen reads the session again, for a Date that is not old.
func (s *session) freshen(ctx context.Context) error {
	o, err := s.sessions.bucket.Read(ctx, keys.Session(s.id), formats.MaxSession)
	if err != nil {
		return err
	}
	now, err := s.decode(o)
	switch {
	case err != nil:
		return err
	case o.ETag == s.etag && now.Status == formats.Open:
		s.date, s.checked = o.Date, time.Now().Round(0)
		return nil
	}
	return s.yield(now, o)
}

// publish writes what a commit writes, as the session says it.
func (s *session) publish(ctx context.Context) error {
	repo := s.sessions.repos.Open(s.saved.Repository)
	defer repo.Release()
	data := s.saved.Tail
	if s.saved.Data != "" {
		data = s.saved.Data
		err := s.sessions.blobs.Complete(ctx, s.upload(), data, s.saved.Parts)
		if errors.Is(err, blobs.ErrUploadGone) {
			return ociregistry.ErrBlobUploadUnknown // it was too old
		}
		if err != nil {
			return err
		}
	}
	if err := s.verify(ctx, data); err != nil {
		return err
	}
	if data == "" {
		return s.sessions.blobs.PublishSession(ctx, repo, s.saved.Digest, s.saved.Inline, s.saved.Nonce, s.saved.T0)
	}
	return s.sessions.blobs.Publish(ctx, repo, s.saved.Digest, data, s.saved.Size, s.saved.Nonce, s.saved.T0)
}

// verify checks the digest if it is by another algorithm than that of the session.
func (s *session) verify(ctx context.Context, data string) error {
	d := s.saved.Digest
	if d.Algorithm() == digest.Algorithm(s.saved.Algorithm) {
		return nil
	}
	var rd io.Reader = bytes.NewReader([]byte(s.saved.Inline))
	if data != "" {
		o, err := s.sessions.bucket.Store.Get(ctx, s.sessions.bucket.Key(keys.Data(data)), objstore.Range{})
		if err != nil {
			return bucket.Damaged(keys.Data(data), err)
		}
		defer o.Body.Close()
		rd = o.Body
	}
	h := d.Algorithm().Hash()
	if _, err := io.Copy(h, rd); err != nil {
		return err
	}
	if !verified.IsSum(d, h.Sum(nil)) {
		return ociregistry.ErrDigestInvalid
	}
	return nil
}

// end ends the session, wherever it is by then. One of which a commit has begun can only be committed.
func (s *session) end(ctx context.Context) error {
	for range attempts {
		if s.etag == "" && s.saved.Status != formats.Gone {
			if err := s.load(ctx); err != nil && !errors.Is(err, ociregistry.ErrBlobUploadUnknown) {
				return err
			}
		}
		switch s.saved.Status {
		case formats.Gone:
			return nil
		case formats.Committing:
			return errCommitting
		}
		if err := s.abandon(ctx); !errors.Is(err, ociregistry.ErrRangeInvalid) && !errors.Is(err, ociregistry.ErrBlobUploadUnknown) {
			return err
		}
	}
	return bucket.ErrLost
}

// abandon ends the session as it is known, and removes what nobody needs any more.
func (s *session) abandon(ctx context.Context) error {
	gone := s.saved
	gone.Status = formats.Gone
	if err := s.change(ctx, gone); err != nil {
		return err
	}
	gone = s.saved
	s.drop(ociregistry.ErrBlobUploadUnknown)
	s.clean(ctx, gone)
	return nil
}

const attempts = 6

// clean removes what a session had. What stays is found by a collection.
func (s *session) clean(ctx context.Context, gone formats.Session) {
	if gone.Data != "" {
		s.sessions.bucket.AbortMultipart(ctx, gone.Multipart(s.sessions.bucket.Key(keys.Data(gone.Data))))
	}
	if gone.Tail != "" {
		s.sessions.bucket.Remove(ctx, keys.Data(gone.Tail))
	}
}
