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

// answerPiece is how many bytes of an answer a client must take within the
// AnswerTimeout. That is little for the slowest, and costs the fastest next to
// nothing.
const answerPiece = 64 << 10

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

func (s *sender) Write(p []byte) (n int, err error) {
	for {
		piece := p[n:min(len(p), n+answerPiece)]
		s.expect()
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
		s.piece = io.LimitedReader{R: from, N: answerPiece}
		if ok {
			s.piece.N = min(l.N, answerPiece)
		}
		want := s.piece.N
		s.expect()
		m, err := w.ReadFrom(&s.piece)
		n += m
		if ok {
			l.N -= m
		}
		if err != nil || m < want {
			s.broken = errors.Is(err, os.ErrDeadlineExceeded)
			return n, err
		}
	}
	return n, nil
}

// systemFile is what the system may be able to send by itself: an [os.File], or
// what has one.
type systemFile interface {
	syscall.Conn
	Stat() (fs.FileInfo, error)
}
