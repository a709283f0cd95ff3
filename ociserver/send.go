package ociserver

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"syscall"

	"github.com/seed-40b21970/oci/ociregistry"
)

// sendContent answers a pull with all of the content that desc describes or a part of it, which
// has size bytes. The size is negative if it is unknown. If not all of that can be sent,
// sendContent panics with [http.ErrAbortHandler].
func (x *exchange) sendContent(status int, content io.Reader, size int64, desc ociregistry.Descriptor) {
	n, err := x.sendBy(status, size, func(w io.Writer) (int64, error) { return io.Copy(w, content) })
	x.endPull(desc, n, err)
}

// endPull tells that a pull sent n bytes of content. If the answer was broken off with err, it
// breaks the connection.
func (x *exchange) endPull(desc ociregistry.Descriptor, n int64, err error) {
	if err != nil {
		x.emitFailure(Event{Action: ActionPull, Descriptor: desc, Bytes: n}, err)
		panic(http.ErrAbortHandler)
	}
	x.emit(Event{Action: ActionPull, Descriptor: desc, Bytes: n})
}

// sendBy answers with what the function write writes, and returns the number of bytes. If an
// error says that not all of it was sent, the caller must break the connection. The error has
// the status StatusClientGone if the client is to blame.
func (x *exchange) sendBy(status int, size int64, write func(io.Writer) (int64, error)) (int64, error) {
	x.writeHeader(status)
	n, broken, err := x.writeBody(size, write)
	if err == nil && size >= 0 && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		level, attrs := slog.LevelError, []slog.Attr{slog.Int64("sent", n), slog.Any("error", err)}
		gone := broken || cannotSend(err)
		if gone || x.ctx().Err() != nil { // most often, the client went away
			level, attrs = slog.LevelInfo, append(attrs, slog.Int("status", StatusClientGone))
		}
		x.log(level, "answer broken off", attrs...)
		if gone {
			return n, ociregistry.NewHTTPError(err, StatusClientGone, nil, nil)
		}
		return n, x.classify(err)
	}
	return n, nil
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
