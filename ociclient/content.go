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

// content is the body of requests: the bytes of a blob from one offset to another.
type content interface {
	start() int64
	given() int64 // the offset up to which it was read: the registry cannot have more
	end() int64

	// open returns the content from off on. It can be called repeatedly, and ends
	// the reader that it returned before.
	open(off int64) (io.ReadCloser, error)

	// failure returns the error of the content itself, or nil. If there is one, a
	// request failed because of it, whatever the transport reports.
	failure() error

	// done ends the reader that open returned last. Nothing reads from the content
	// afterwards.
	done()
}

// maxSmall is the largest size in bytes of blobs that are read before they are sent.
const maxSmall = 32 << 10

// small is a content in memory that nothing else refers to. Package net/http knows the
// type of its readers, and so sends the header together with the body.
type small []byte

func (s small) start() int64   { return 0 }
func (s small) given() int64   { return int64(len(s)) }
func (s small) end() int64     { return int64(len(s)) }
func (s small) failure() error { return nil }
func (s small) done()          {}

func (s small) open(off int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(s[off:])), nil
}

// A lease is an open content. A transport may continue to read from a body after it has
// returned a response, when the content may belong to somebody else again.
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

// Close does not wait for a Read in progress: transports call it when a Read does not
// return.
func (l *lease) Close() error {
	l.closed.Store(true)
	return nil
}

// end ends the lease, and waits for a Read in progress.
func (l *lease) end() {
	if l == nil {
		return
	}
	l.closed.Store(true)
	l.mu.Lock()
	l.mu.Unlock() //lint:ignore SA2001 this waits for a Read in progress
}

// sized reads a blob from a caller's reader once. It returns the last bytes only if the
// size is right, so that nothing else is ever committed. It leaves the digest to the
// registry, which must verify it in any case: hashing here as well would be half of the
// cost of a push.
type sized struct {
	r      io.Reader
	size   int64
	n      int64
	err    error // the error at its end; io.EOF if the size is right
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
		return 0, s.err // without the last bytes
	}
	return n, io.EOF
}

// all returns the whole content, which must be small.
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

// finish records the error at the end of the content: [io.EOF] if the size is right.
func (s *sized) finish(err error) error {
	s.err = err
	if err != io.EOF {
		s.broken = err
	}
	return err
}

// atEnd returns [io.EOF] if the reader is at its end.
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

// A source is a blob that can be read again.
type source struct {
	*sized
	replay   func(off, n int64) (io.ReadCloser, error) // returns n bytes from off on that were read before
	replayed io.Closer
	lease    *lease
}

// newSource returns a source for r, if r can be read again.
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
		if err != nil { // r may be a pipe
			return nil, false
		}
		s.replay = func(off, n int64) (io.ReadCloser, error) {
			_, err := r.Seek(base+off, io.SeekStart)
			return io.NopCloser(io.LimitReader(s.r, n)), err // afterwards, s.r is at its old position
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
