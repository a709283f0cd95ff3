package ociserver

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"syscall"
	"time"
)

const (
	// minPiece and maxPiece are how many bytes of an answer a client must take within
	// the AnswerTimeout: at first, and when it has been quick. A client that takes a
	// piece in less than a quickPart of that time gets one that is twice as large
	// next, so that the fastest cost no more calls of the system than without a bound.
	// One that does not gets the smallest.
	minPiece  = 64 << 10
	maxPiece  = 1 << 20
	quickPart = 64

	// filePiece is how many bytes of a file the system is asked to send at a time.
	filePiece = 4 << 20
)

// expect gives the client time to take what is sent next. A deadline that the HTTP
// server has set for the whole answer stays in force.
func (x *exchange) expect() {
	d := x.opts.AnswerTimeout
	if d <= 0 {
		return
	}
	until := time.Now().Add(d)
	if srv, ok := x.ctx().Value(http.ServerContextKey).(*http.Server); ok && srv.WriteTimeout > 0 {
		if last := x.start.Add(srv.WriteTimeout); last.Before(until) {
			until = last
		}
	}
	http.NewResponseController(x.w).SetWriteDeadline(until) // where that is not supported, nothing can be done
}

// sender sends an answer that may block. It does so piece by piece, each of which
// has a deadline of its own: only so can one tell a client that is slow from one
// that takes nothing. A file is handed over to the system all the same.
type sender struct {
	leash
	x      *exchange
	broken bool             // the client did not take what was sent
	size   int              // of the last piece; 0 before the first
	since  time.Time        // when that was begun
	piece  io.LimitedReader // of a file
}

// expect is that of the exchange, unless the end of the context has set a deadline.
func (s *sender) expect() {
	if s.late.Load() {
		return
	}
	s.x.expect()
	if s.late.Load() { // since then
		s.cut()
	}
}

// next begins a piece, and returns how large it may be.
func (s *sender) next() int {
	now, d := time.Now(), s.x.opts.AnswerTimeout
	if s.size == 0 || d > 0 && now.Sub(s.since) > d/quickPart {
		s.size = minPiece
	} else {
		s.size = min(2*s.size, maxPiece)
	}
	s.since = now
	s.expect()
	return s.size
}

func (s *sender) Write(p []byte) (n int, err error) {
	for {
		piece := p[n:min(len(p), n+s.next())]
		m, err := s.x.w.Write(piece)
		n += m
		if err != nil {
			s.broken = true
			return n, err
		}
		if n == len(p) {
			return n, nil
		}
	}
}

// ReadFrom implements [io.ReaderFrom], for files: what else src may be can keep it
// waiting, which is not the client's fault.
func (s *sender) ReadFrom(src io.Reader) (n int64, err error) {
	from := src
	if l, ok := src.(*io.LimitedReader); ok {
		from = l.R
	}
	w, ok := s.x.w.(io.ReaderFrom)
	if _, isFile := from.(systemFile); !ok || !isFile {
		buf := pieces[3].Get().(*[]byte)
		defer pieces[3].Put(buf)
		return io.CopyBuffer(struct{ io.Writer }{s}, struct{ io.Reader }{src}, *buf)
	}
	l, ok := src.(*io.LimitedReader)
	for !ok || l.N > 0 {
		want := int64(filePiece)
		if ok {
			want = min(want, l.N)
		}
		m, err := s.sendFile(w, from, want)
		n += m
		if ok {
			l.N -= m
		}
		if err != nil || m < want {
			return n, err
		}
	}
	return n, nil
}

// sendFile sends the next n bytes of a file, or what it has. The client may take them
// in several times that it is given, if it takes enough in each.
func (s *sender) sendFile(w io.ReaderFrom, from io.Reader, n int64) (sent int64, err error) {
	for sent < n {
		s.piece = io.LimitedReader{R: from, N: n - sent}
		before := position(from)
		s.expect()
		m, err := w.ReadFrom(&s.piece)
		sent += m
		if err == nil {
			return sent, nil
		}
		late := errors.Is(err, os.ErrDeadlineExceeded)
		// What was read and not sent is lost, where the system cannot send files.
		if !late || s.late.Load() || m < minPiece || before < 0 || position(from) != before+m {
			s.broken = late
			return sent, err
		}
	}
	return sent, nil
}

// position returns where a file is read next, or -1 if that cannot be told.
func position(r io.Reader) int64 {
	if f, ok := r.(io.Seeker); ok {
		if at, err := f.Seek(0, io.SeekCurrent); err == nil {
			return at
		}
	}
	return -1
}

// systemFile is what the system may be able to send by itself: an [os.File], or
// what has one.
type systemFile interface {
	syscall.Conn
	Stat() (fs.FileInfo, error)
}
