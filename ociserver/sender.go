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
	// minPiece and maxPiece are the numbers of bytes of an answer that a client must
	// read within the AnswerTimeout, at first and when it has been quick. The next piece
	// is twice as large if the client has read one in less than 1/quickPart of that time,
	// so that quick clients cost no more system calls than without a limit. Otherwise it
	// has the smallest size.
	minPiece  = 64 << 10
	maxPiece  = 1 << 20
	quickPart = 64

	// filePiece is the number of bytes of a file that one system call is asked to send.
	filePiece = 4 << 20
)

// extendWriteDeadline gives the client the AnswerTimeout to read what is sent next. A
// deadline of the HTTP server for the whole answer remains in force.
func (x *exchange) extendWriteDeadline() {
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
	http.NewResponseController(x.w).SetWriteDeadline(until) // if that is not supported, there is no other way
}

// sender sends an answer that may block. It sends piece by piece, with a deadline for each:
// this tells a client that is slow from one that reads nothing. Files are still sent by
// the system.
type sender struct {
	interrupter
	x      *exchange
	broken bool             // the client did not read what was sent
	size   int              // of the last piece; 0 before the first
	since  time.Time        // when that piece was begun
	piece  io.LimitedReader // of a file
}

// extendWriteDeadline is that of the exchange, unless the write has been interrupted.
func (s *sender) extendWriteDeadline() {
	if s.interrupted.Load() {
		return
	}
	s.x.extendWriteDeadline()
	if s.interrupted.Load() { // in the meantime
		s.expire()
	}
}

// next begins a piece, and returns its maximum size.
func (s *sender) next() int {
	now, d := time.Now(), s.x.opts.AnswerTimeout
	if s.size == 0 || d > 0 && now.Sub(s.since) > d/quickPart {
		s.size = minPiece
	} else {
		s.size = min(2*s.size, maxPiece)
	}
	s.since = now
	s.extendWriteDeadline()
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

// ReadFrom implements [io.ReaderFrom]. Only files are passed on to the HTTP server: any
// other src may block, for which the client is not to blame.
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

// sendFile sends the next n bytes of a file, or all that is left of it. The client may need
// several timeouts for them, if it reads at least minPiece bytes in each.
func (s *sender) sendFile(w io.ReaderFrom, from io.Reader, n int64) (sent int64, err error) {
	for sent < n {
		s.piece = io.LimitedReader{R: from, N: n - sent}
		before := position(from)
		s.extendWriteDeadline()
		m, err := w.ReadFrom(&s.piece)
		sent += m
		if err == nil {
			return sent, nil
		}
		late := errors.Is(err, os.ErrDeadlineExceeded)
		// Where the system cannot send files, bytes that were read and not sent are lost.
		if !late || s.interrupted.Load() || m < minPiece || before < 0 || position(from) != before+m {
			s.broken = late
			return sent, err
		}
	}
	return sent, nil
}

// position returns the offset of a file, or -1 if it is unknown.
func position(r io.Reader) int64 {
	if f, ok := r.(io.Seeker); ok {
		if at, err := f.Seek(0, io.SeekCurrent); err == nil {
			return at
		}
	}
	return -1
}

// systemFile is a file that the system may be able to send by itself: an [os.File], or a
// type that wraps one.
type systemFile interface {
	syscall.Conn
	Stat() (fs.FileInfo, error)
}
