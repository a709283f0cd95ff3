package ociclient

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
)

// A blob identifies a blob of a repository.
type blob struct {
	c      *client
	repo   string
	digest ociregistry.Digest
}

// A stream reads the bytes of a blob from one offset to another, with as many requests as
// that takes.
type stream struct {
	blob
	life       *life
	body       io.ReadCloser // nil if another one is needed
	offset     int64         // of the next byte
	skip       int64         // bytes of the body that come before offset
	end        int64         // the offset after the last byte, or -1 for the end of the blob
	size       int64         // of the blob, or -1
	headerSize int64         // the size according to the last answer's header, or -1
	ranges     bool          // the registry supports ranges
	partial    bool          // the body is the requested part of the blob
	page       bool          // the body seems to be a page for people, unless the digest matches
	reread     bool          // the registry sent the blob from its beginning once more

	r      retrier
	broken error // why the body is nil; nil if the stream was suspended
}

// errEmpty is returned for a response without content. Without it, a range, which nothing
// verifies, would seem to be beyond the end.
var errEmpty error = ociregistry.NewError("the answer is empty, and the blob is not", ociregistry.ErrDigestInvalid.Code(), nil)

// open opens a stream. The end may be -1, for the end of the blob.
func (b blob) open(l *life, offset, end int64) (*stream, error) {
	return b.openIn(l, new(stream), offset, end)
}

// openIn is like open, and stores the stream in s.
func (b blob) openIn(l *life, s *stream, offset, end int64) (*stream, error) {
	*s = stream{blob: b, life: l, offset: offset, end: end, size: -1, headerSize: -1, r: b.c.newRetrier()}
	if err := s.request(); err != nil {
		return nil, err
	}
	return s, nil
}

// request sends a request for the rest of the stream.
func (s *stream) request() error {
	cl := s.c.newCall(wire.Request{Kind: wire.BlobGet, Repository: s.repo, Digest: s.digest, ListN: -1})
	cl.set("Accept-Encoding", "identity")
	if s.offset > 0 || s.end >= 0 {
		cl.set("Range", wire.Range{Start: s.offset, End: s.end}.String())
		cl.ok = []int{http.StatusOK, http.StatusPartialContent}
	}
	resp, err := s.c.do(s.life.context(), cl)
	if err != nil {
		return err
	}
	if err := s.accept(resp); err != nil {
		resp.Body.Close()
		return final(err)
	}
	s.body = resp.Body
	s.life.answered(s.body)
	return nil
}

// accept updates s from the header of a response.
func (s *stream) accept(resp *http.Response) error {
	if err := checkDigestHeader(resp, s.digest); err != nil {
		return err
	}
	size := resp.ContentLength
	s.skip, s.partial = 0, resp.StatusCode == http.StatusPartialContent
	s.page = !s.partial && isPage(resp)
	if s.partial {
		cr, ok := wire.ParseContentRange(headerOf(resp, "Content-Range"))
		switch {
		case !ok || cr.Start == cr.End:
			return errors.New("the answer has a part of the blob and does not say which")
		case cr.Start != s.offset:
			return fmt.Errorf("the answer begins at byte %d of the blob, not at %d", cr.Start, s.offset)
		}
		size = cr.Size
		s.ranges = true
	} else {
		s.skip = s.offset
		s.ranges = headerOf(resp, "Accept-Ranges") == "bytes"
	}
	if size == 0 && !isOfNothing(s.digest) {
		if s.offset > 0 || s.end >= 0 { // nothing may ever verify it
			return errEmpty
		}
		size = -1
	}
	if !isEncoded(resp) {
		s.headerSize = size
	}
	if s.size >= 0 && size >= 0 && size != s.size {
		return fmt.Errorf("the blob has %d bytes now, and had %d before", size, s.size)
	}
	if size >= 0 {
		s.size = size
	}
	if s.size >= 0 {
		if s.offset > s.size {
			return ociregistry.ErrRangeInvalid
		}
		if s.end < 0 || s.end > s.size {
			s.end = s.size
		}
	}
	return nil
}

func (s *stream) Read(p []byte) (int, error) {
	for {
		if s.end >= 0 && s.offset >= s.end {
			return 0, io.EOF
		}
		if len(p) == 0 {
			return 0, nil
		}
		if s.body == nil {
			if err := s.resume(); err != nil {
				return 0, err
			}
		}
		n, err := s.readBody(p)
		if n > 0 || err == io.EOF {
			return n, err
		}
	}
}

// readBody reads from the body. If that breaks, it returns what it has read, and no error.
func (s *stream) readBody(p []byte) (int, error) {
	err := s.discardPrefix()
	n := 0
	if err == nil {
		if s.end >= 0 && int64(len(p)) > s.end-s.offset {
			p = p[:s.end-s.offset]
		}
		n, err = s.body.Read(p)
	}
	s.offset += int64(n)
	if n > 0 {
		s.r.progress()
	}
	switch {
	case err == nil:
		return n, nil
	case err == io.EOF && s.offset == 0 && s.endsWithBody() && !isOfNothing(s.digest):
		err = errEmpty
	case s.end >= 0 && s.offset == s.end, err == io.EOF && s.endsWithBody():
		return n, io.EOF
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	s.body.Close()
	s.body, s.broken = nil, err
	return n, nil
}

// endsWithBody reports whether the stream ends where the body does, because its end is
// not known otherwise.
func (s *stream) endsWithBody() bool {
	return s.end < 0 || s.size < 0 && !s.partial
}

// discardPrefix reads the bytes of the body before the offset.
func (s *stream) discardPrefix() error {
	if s.skip == 0 {
		return nil
	}
	n, err := io.CopyN(io.Discard, s.body, s.skip)
	nothing := n == 0 && s.skip == s.offset
	s.skip -= n
	switch {
	case err != io.EOF || s.size >= 0:
		return err
	case nothing && !isOfNothing(s.digest):
		return errEmpty
	}
	return ociregistry.ErrRangeInvalid // the whole blob is shorter
}

// resume sends another request after the body broke. If that fails, it returns the reason
// why the body broke.
func (s *stream) resume() error {
	if s.broken == nil {
		return s.request()
	}
	ctx := s.life.context()
	broken := fmt.Errorf("reading the blob broke off at byte %d: %w", s.offset, s.broken)
	if s.reread || ctx.Err() != nil || !transient(s.broken) {
		return withContextErr(ctx, broken)
	}
	// There is no reason to wait if there was progress since the last request.
	if s.r.failed > 0 {
		if err := s.r.again(ctx, broken); err != nil {
			return err
		}
	} else if s.r.exhausted() {
		return broken
	}
	if err := s.request(); err != nil {
		return withContextErr(ctx, broken)
	}
	s.reread = s.skip > 0
	return nil
}

// suspend ends the request. The next Read sends another.
func (s *stream) suspend() {
	if s.body != nil {
		s.body.Close()
		s.body, s.broken = nil, nil
	}
}

func (s *stream) Close() error {
	if s.body == nil {
		return nil
	}
	return s.body.Close()
}
