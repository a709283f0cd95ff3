package ociserver

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"syscall"
)

// send answers with content and returns its number of bytes. The size is negative if it is
// unknown. If not all of the content can be sent, send panics with
// [http.ErrAbortHandler].
func (x *exchange) send(status int, content io.Reader, size int64) int64 {
	return x.sendBy(status, size, func(w io.Writer) (int64, error) { return io.Copy(w, content) })
}

// sendBy is like send, for content that the function write writes.
func (x *exchange) sendBy(status int, size int64, write func(io.Writer) (int64, error)) int64 {
	x.writeHeader(status)
	n, broken, err := x.writeBody(size, write)
	if err == nil && size >= 0 && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		level, attrs := slog.LevelError, []slog.Attr{slog.Int64("sent", n), slog.Any("error", err)}
		if broken || x.ctx().Err() != nil || cannotSend(err) { // most often, the client went away
			level, attrs = slog.LevelInfo, append(attrs, slog.Int("status", statusClientGone))
		}
		x.log(level, "answer broken off", attrs...)
		panic(http.ErrAbortHandler)
	}
	return n
}

// writeBody calls write with a writer to the client. It reports whether the client is to
// blame for an error.
func (x *exchange) writeBody(size int64, write func(io.Writer) (int64, error)) (n int64, broken bool, err error) {
	// Content that fits into a buffer does not block. Most manifests do.
	if size >= 0 && size <= 32<<10 {
		n, err = write(x.w)
		return n, false, err
	}
	s := &sender{x: x}
	s.start(x, (*http.ResponseController).SetWriteDeadline, nil)
	defer s.stop()
	n, err = write(s)
	if err == nil {
		s.extendWriteDeadline() // for what the HTTP server has yet to send
	}
	return n, s.broken, err
}

// cannotSend reports whether err is an error of the connection to the client, which may
// be known before the request's context ends. Errors of Linux's sendfile are wrapped in an
// error with the operation "readfrom", as are errors of reading the content.
func cannotSend(err error) bool {
	for op := (*net.OpError)(nil); errors.As(err, &op); err = op.Err {
		switch op.Op {
		case "write":
			return true
		case "read":
			return false
		}
	}
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
