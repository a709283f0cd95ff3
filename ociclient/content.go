package ociclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/seed-40b21970/oci/ociregistry"
)

// content is what requests send: the bytes of a blob from one offset to another.
type content interface {
	start() int64
	given() int64 // the offset up to which it was read
	end() int64

	// open returns the content from off on, as often as it is wanted. What was
	// opened before ends.
	open(off int64) (io.ReadCloser, error)

	// failure returns what was wrong with the content itself, or nil. That is
	// then why a request failed, whatever the transport says.
	failure() error

	// done ends what was opened: nothing reads from it any more.
	done()
}

// maxSmall is the size in bytes up to which a blob is read before it is sent.
const maxSmall = 32 << 10

// small is a content that nobody else has. Package net/http knows the type of its
// readers, and so sends the header together with the first of it.
type small []byte

func (s small) start() int64   { return 0 }
func (s small) given() int64   { return int64(len(s)) }
func (s small) end() int64     { return int64(len(s)) }
func (s small) failure() error { return nil }
func (s small) done()          {}

func (s small) open(off int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(s[off:])), nil
}

// lease is an opened content. A transport may go on to read from a body after it
// has returned a response, but the content can be somebody else's then.
type lease struct {
	closed atomic.Bool
	mu     sync.Mutex
	r      io.Reader
}

var errLeaseEnded = errors.New("the request has ended")

func (l *lease) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed.Load() {
		return 0, errLeaseEnded
	}
	return l.r.Read(p)
}

// Close does not wait for a Read that is under way, since transports call it when
// one does not return.
func (l *lease) Close() error {
	l.closed.Store(true)
	return nil
}

// end ends the lease for good.
func (l *lease) end() {
	if l == nil {
		return
	}
	l.closed.Store(true)
	l.mu.Lock()
	l.mu.Unlock() //lint:ignore SA2001 when nothing reads any more, we may go on
}

// sized reads a blob from a caller's reader once, and gives the last of it only if
// the whole is as long as it should be: nothing else is ever committed. Its digest
// is for the registry to verify, which has to in any case: hashing here as well
// would be half of the cost of a push.
type sized struct {
	r      io.Reader
	size   int64
	n      int64
	err    error // what ended it; io.EOF if all is well
	broken error // err, if it is not io.EOF
}

func newSized(r io.Reader, size int64) *sized { return &sized{r: r, size: size} }

func (s *sized) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	left := s.size - s.n
	if left == 0 {
		return 0, s.finish(s.atEnd())
	}
	n, err := s.r.Read(p[:min(int64(len(p)), left)])
	s.n += int64(n)
	switch {
	case err != nil && err != io.EOF:
		return n, s.finish(err)
	case err == io.EOF && s.n < s.size:
		return n, s.finish(sizeError("the content ended after %d of %d bytes", s.n, s.size))
	case s.n < s.size:
		return n, nil
	case err == nil:
		err = s.atEnd()
	}
	if s.finish(err) != io.EOF {
		return 0, s.err // nobody gets the whole of what is wrong
	}
	return n, io.EOF
}

// all returns the whole content, which is small.
func (s *sized) all(ctx context.Context) (small, error) {
	data := make(small, 0, s.size)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := s.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if err == io.EOF {
			return data, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// finish records what ended the content: [io.EOF] if it ended well.
func (s *sized) finish(err error) error {
	s.err = err
	if err != io.EOF {
		s.broken = err
	}
	return err
}

// atEnd returns [io.EOF] if nothing is left of the reader.
func (s *sized) atEnd() error {
	var one [1]byte
	for range 100 {
		n, err := s.r.Read(one[:])
		switch {
		case n > 0:
			return sizeError("the content is longer than the %d bytes that were announced", s.size)
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

func sizeError(format string, args ...any) error {
	return ociregistry.NewError(fmt.Sprintf(format, args...), ociregistry.ErrSizeInvalid.Code(), nil)
}

// source is a blob that can be read again.
type source struct {
	*sized
	replay   func(off, n int64) (io.ReadCloser, error) // n bytes from off on, when they were read before
	replayed io.Closer
	lease    *lease
}

// newSource returns the blob in r, if r can be read again.
func newSource(r io.Reader, size int64) (*source, bool) {
	s := &source{sized: newSized(r, size)}
	switch r := r.(type) {
	case interface{ GetBody() (io.ReadCloser, error) }:
		s.replay = func(off, n int64) (io.ReadCloser, error) {
			body, err := r.GetBody()
			if err != nil {
				return nil, err
			}
			if _, err := io.CopyN(io.Discard, body, off); err != nil {
				body.Close()
				return nil, err
			}
			return struct {
				io.Reader
				io.Closer
			}{io.LimitReader(body, n), body}, nil
		}
	case io.Seeker:
		base, err := r.Seek(0, io.SeekCurrent)
		if err != nil { // such as that of a pipe, which is a file
			return nil, false
		}
		s.replay = func(off, n int64) (io.ReadCloser, error) {
			_, err := r.Seek(base+off, io.SeekStart)
			return io.NopCloser(io.LimitReader(s.r, n)), err // then s.r is where it was
		}
	case io.ReaderAt:
		s.replay = func(off, n int64) (io.ReadCloser, error) {
			return io.NopCloser(io.NewSectionReader(r, off, n)), nil
		}
	default:
		return nil, false
	}
	return s, true
}

func (s *source) start() int64   { return 0 }
func (s *source) given() int64   { return s.n }
func (s *source) end() int64     { return s.size }
func (s *source) failure() error { return s.broken }

func (s *source) done() {
	s.lease.end()
	if s.replayed != nil {
		s.replayed.Close()
		s.replayed = nil
	}
}

func (s *source) open(off int64) (io.ReadCloser, error) {
	s.done()
	if s.broken != nil {
		return nil, s.broken
	}
	s.lease = &lease{r: s.sized}
	if s.n > 0 {
		again, err := s.replay(off, s.n-off)
		if err != nil {
			s.broken = err
			return nil, err
		}
		s.replayed = again
		s.lease.r = io.MultiReader(again, s.sized)
	} else if s.size == 0 {
		if _, err := s.Read(nil); err != io.EOF {
			return nil, err
		}
	}
	return s.lease, nil
}
