package ociclient

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

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

// verifier reads a blob from a caller's reader once, and gives the last of it
// only if the whole is what it should be.
type verifier struct {
	r      io.Reader
	desc   ociregistry.Descriptor
	hash   hash.Hash
	n      int64
	err    error // what ended it; io.EOF if all is well
	broken error // err, if it is not io.EOF
}

func newVerifier(r io.Reader, desc ociregistry.Descriptor) *verifier {
	return &verifier{r: r, desc: desc, hash: desc.Digest.Algorithm().Hash()}
}

func (v *verifier) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	left := v.desc.Size - v.n
	if left == 0 {
		return 0, v.finish(v.atEnd())
	}
	n, err := v.r.Read(p[:min(int64(len(p)), left)])
	v.hash.Write(p[:n])
	v.n += int64(n)
	switch {
	case err != nil && err != io.EOF:
		return n, v.finish(err)
	case err == io.EOF && v.n < v.desc.Size:
		return n, v.finish(sizeError("the content ended after %d of %d bytes", v.n, v.desc.Size))
	case v.n < v.desc.Size:
		return n, nil
	case err == io.EOF:
		err = v.checkDigest()
	default:
		err = v.atEnd()
	}
	if v.finish(err) != io.EOF {
		return 0, v.err // nobody gets the whole of what is wrong
	}
	return n, io.EOF
}

// finish records what ended the content, or that it ended well if that is nil.
func (v *verifier) finish(err error) error {
	if err == nil {
		v.err = io.EOF
		return io.EOF
	}
	v.err, v.broken = err, err
	return err
}

// atEnd checks that nothing is left of the reader, and what it gave.
func (v *verifier) atEnd() error {
	var one [1]byte
	for range 100 {
		n, err := v.r.Read(one[:])
		switch {
		case n > 0:
			return sizeError("the content is longer than the %d bytes that were announced", v.desc.Size)
		case err == io.EOF:
			return v.checkDigest()
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

func (v *verifier) checkDigest() error {
	if !isDigestOf(v.desc.Digest, v.hash) {
		return ociregistry.ErrDigestInvalid
	}
	return nil
}

func isDigestOf(d ociregistry.Digest, h hash.Hash) bool {
	return digest.NewDigest(d.Algorithm(), h) == d
}

func sizeError(format string, args ...any) error {
	return ociregistry.NewError(fmt.Sprintf(format, args...), ociregistry.ErrSizeInvalid.Code(), nil)
}

// source is a blob that can be read again. What is read for the first time is
// verified; what is read again is not, but the registry does that.
type source struct {
	*verifier
	replay   func(off, n int64) (io.ReadCloser, error) // n bytes from off on, when they were read before
	replayed io.Closer
	lease    *lease
}

// newSource returns the blob in r, if r can be read again.
func newSource(r io.Reader, desc ociregistry.Descriptor) (*source, bool) {
	s := &source{verifier: newVerifier(r, desc)}
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
func (s *source) end() int64     { return s.desc.Size }
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
	s.lease = &lease{r: s.verifier}
	if s.n > 0 {
		again, err := s.replay(off, s.n-off)
		if err != nil {
			s.broken = err
			return nil, err
		}
		s.replayed = again
		s.lease.r = io.MultiReader(again, s.verifier)
	} else if s.desc.Size == 0 {
		if _, err := s.Read(nil); err != io.EOF {
			return nil, err
		}
	}
	return s.lease, nil
}
