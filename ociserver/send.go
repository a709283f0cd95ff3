package ociserver

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"syscall"
)

// send answers with content of size bytes, or of unknown size if that is
// negative, and returns how many they were. If they cannot all be sent, it
// panics with [http.ErrAbortHandler].
func (x *exchange) send(status int, content io.Reader, size int64) int64 {
	return x.sendBy(status, size, func(w io.Writer) (int64, error) { return io.Copy(w, content) })
}

// sendBy is send of what the function write writes.
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

// writeBody calls write with what sends to the client, and reports whether that was
// broken by the client.
func (x *exchange) writeBody(size int64, write func(io.Writer) (int64, error)) (n int64, broken bool, err error) {
	// What fits into a buffer does not block; most manifests do.
	if size >= 0 && size <= 32<<10 {
		n, err = write(x.w)
		return n, false, err
	}
	s := &sender{x: x}
	s.tie(x, (*http.ResponseController).SetWriteDeadline, nil)
	defer s.untie()
	n, err = write(s)
	if err == nil {
		s.expect() // what the HTTP server has still to send
	}
	return n, s.broken, err
}

// cannotSend reports whether err is of the connection to the client, which may be
// known before the request's context ends. What Linux's sendfile returns stands
// in an error "readfrom", as do those of reading the content.
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
