package uploads

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/formats"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/parts"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// append appends bytes at a position, which it advances. It waits while parts are sent that do not find room.
func (s *session) append(ctx context.Context, at *position, p []byte) (written int, err error) {
	for len(p) > 0 {
		n, err := s.appendOnce(ctx, at, p)
		written += n
		if err != nil {
			return written, err
		}
		p = p[n:]
	}
	return written, nil
}

// appendOnce appends as much as there is room for in a buffer. Where it finds bytes of another writer that are not
// saved, it saves them, and appends nothing.
func (s *session) appendOnce(ctx context.Context, at *position, p []byte) (n int, err error) {
	if err := s.acquire(ctx); err != nil {
		return 0, err
	}
	if s.dirty && s.size != at.offset {
		here := *at
		return 0, s.detached(ctx, func(ctx context.Context) error { return s.at(ctx, here) })
	}
	if err := s.prepare(ctx, *at); err != nil {
		s.giveTurn()
		return 0, err
	}
	last := s.rest[len(s.rest)-1]
	n = last.Write(p)
	s.hash.Write(p[:n])
	s.size += int64(n)
	s.dirty = true
	*at = position{at.offset + int64(n), true, len(s.losses)}
	if last.Room() == 0 {
		last.state = hashState(s.hash)
		s.rest = append(s.rest, s.newChunk())
	}
	if !s.hasPart() {
		s.giveTurn()
		return n, nil
	}
	return n, s.detached(ctx, s.sendPart)
}

// prepare checks that bytes can be appended at a position.
func (s *session) prepare(ctx context.Context, at position) error {
	if err := s.at(ctx, at); err != nil {
		return err
	}
	if s.saved.Status != formats.Open {
		return errCommitting
	}
	return s.readRest(ctx)
}

func (s *session) newChunk() *chunk { return &chunk{Buffer: s.sessions.opts.Buffers.New()} }

// hasPart reports whether the first chunk can be sent: what follows is enough for a part, too.
func (s *session) hasPart() bool { return len(s.rest) > 1 && s.rest[1].Len() >= s.sessions.minPart }

// readRest reads what the session keeps after its parts, to be followed by more.
func (s *session) readRest(ctx context.Context) error {
	if s.rest != nil {
		return nil
	}
	rest, err := s.savedRest(ctx)
	if err != nil {
		return err
	}
	s.rest = []*chunk{s.newChunk()}
	for text := rest; len(text) > 0; {
		last := s.rest[len(s.rest)-1]
		text = text[last.Write(text):]
		if last.Room() == 0 {
			s.rest = append(s.rest, s.newChunk())
		}
	}
	return nil
}

// savedRest returns what the session keeps after its parts.
func (s *session) savedRest(ctx context.Context) ([]byte, error) {
	if s.saved.Tail == "" {
		return []byte(s.saved.Inline), nil
	}
	o, err := s.sessions.bucket.Read(ctx, keys.Data(s.saved.Tail), maxTail)
	if err == nil && !o.Found {
		err = bucket.Damaged(keys.Data(s.saved.Tail), io.ErrUnexpectedEOF)
	}
	return []byte(o.Text), err
}

const maxTail = 1 << 30

// How many numbers of parts are claimed at first, and at most. What is claimed and not used is given
// back when a writer is closed.
const (
	minClaims = 16
	maxClaims = 64
)

// sendPart sends the first chunk.
func (s *session) sendPart(ctx context.Context) error {
	if s.saved.Data == "" || s.number == s.saved.Claimed {
		if err := s.claim(ctx); err != nil {
			return err
		}
	}
	if s.sender == nil {
		s.sender = parts.NewSender(context.WithoutCancel(ctx), s.sessions.bucket.Store, s.upload(), s.sessions.opts.Concurrency)
	}
	c := s.rest[0]
	s.number++
	s.sent = append(s.sent, boundary{number: s.number, size: s.sentSize() + int64(c.Len()), state: c.state})
	s.rest = slices.Delete(s.rest, 0, 1)
	if err := s.sender.Send(s.number, c.Buffer); err != nil {
		s.drop(err)
		return err
	}
	return nil
}

// sentSize returns how many bytes are in parts, sent or on their way.
func (s *session) sentSize() int64 {
	if n := len(s.sent); n > 0 {
		return s.sent[n-1].size
	}
	return partsSize(s.saved.Parts)
}

func partsSize(list []objstore.Part) (size int64) {
	for _, p := range list {
		size += p.Size
	}
	return size
}

func (s *session) upload() objstore.Multipart {
	return s.saved.Multipart(s.sessions.bucket.Key(keys.Data(s.saved.Data)))
}

// claim claims numbers of parts, makes an upload if there is none, and keeps what was sent.
func (s *session) claim(ctx context.Context) error {
	next := s.progress()
	if next.Data == "" {
		data := formats.Nonce()
		upload, err := s.sessions.bucket.CreateMultipart(ctx, s.sessions.bucket.Key(keys.Data(data)))
		if err != nil {
			s.drop(err)
			return err
		}
		next.Data, next.Upload = data, upload.ID
	}
	first := next.Claimed
	next.Claimed += min(max(first, minClaims), maxClaims)
	if most := s.sessions.bucket.Capabilities().MaxParts; next.Claimed > most {
		next.Claimed = most
	}
	if next.Claimed == first {
		s.drop(errTooLarge)
		return errTooLarge
	}
	if err := s.change(ctx, next); err != nil {
		return err
	}
	s.number = s.saved.Claimed - (next.Claimed - first) // others may have claimed some before
	return nil
}

var errTooLarge = errors.Join(ociregistry.ErrSizeInvalid, errors.New("the upload has as many parts as there can be"))

// progress returns the session with the parts that have arrived, one after the other.
func (s *session) progress() formats.Session {
	next := s.saved
	if s.sender == nil {
		return next
	}
	arrived := byNumber(s.sender.Done())
	var list []objstore.Part
	kept := 0
	for i, b := range s.sent {
		p, ok := arrived[b.number]
		if !ok {
			break
		}
		list = append(list, p)
		if b.state != nil {
			kept = i + 1
			next.Size, next.Hash = b.size, b.state
		}
	}
	if kept > 0 {
		next.Parts = slices.Concat(next.Parts, list[:kept])
		next.Tail, next.Inline = "", ""
		s.sent = s.sent[kept:]
	}
	return next
}

func byNumber(list []objstore.Part) map[int]objstore.Part {
	parts := make(map[int]objstore.Part, len(list))
	for _, p := range list {
		parts[p.Number] = p
	}
	return parts
}
