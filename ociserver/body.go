package ociserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// body is the body of a request on its way to the backend. It makes sure of its
// length, and keeps what went wrong with it: the backend wraps that, but it is
// the client's fault.
type body struct {
	leash
	r     io.Reader
	want  int64 // the length that was announced, or -1
	left  int64 // how much may come at most, if nothing was announced
	limit limit // what it is that is left
	n     int64 // how much came
	err   error // what ended it, if not its end
}

// limit is how large something may be.
type limit struct {
	what string
	max  int64             // bytes
	like ociregistry.Error // what it is when there are more
}

func (l limit) exceeded() error {
	msg := fmt.Sprintf("the %s is larger than %d bytes", l.what, l.max)
	return ociregistry.NewHTTPError(ociregistry.NewError(msg, l.like.Code(), nil), http.StatusRequestEntityTooLarge, nil, nil)
}

// openBody returns the request's body, which is length bytes, or unknown many
// if that is negative, and no more than are left of the limit. It must be
// closed.
func (x *exchange) openBody(length, left int64, l limit) (*body, error) {
	if length > left {
		return nil, l.exceeded()
	}
	b := &body{r: x.req.Body, want: length, left: left, limit: l}
	if x.req.ContentLength != 0 {
		b.tie(x, (*http.ResponseController).SetReadDeadline)
	}
	return b, nil
}

// blobBody returns the request's body, which is length bytes of a blob, or
// unknown many if that is negative, to come after the size bytes that its
// session has. It must be closed.
func (x *exchange) blobBody(length, size int64) (*body, error) {
	if max := x.opts.MaxBlobSize; max > 0 {
		left := max - size
		if left < 0 {
			left = 0
		}
		return x.openBody(length, left, limit{"blob", max, ociregistry.ErrSizeInvalid})
	}
	return x.openBody(length, math.MaxInt64, limit{})
}

func errLength(format string, args ...any) error {
	return ociregistry.NewError(fmt.Sprintf(format, args...), ociregistry.ErrSizeInvalid.Code(), nil)
}

// Close lets go of the connection.
func (b *body) Close() { b.untie() }

func (b *body) Read(p []byte) (n int, err error) {
	if b.err != nil {
		return 0, b.err
	}
	left := b.left - b.n
	if b.want >= 0 {
		left = b.want - b.n
	}
	if int64(len(p))-1 > left {
		p = p[:left+1]
	}
	n, err = b.r.Read(p)
	b.n += min(int64(n), left)
	switch {
	case int64(n) > left && b.want >= 0:
		b.err = errLength("the body is longer than the %d bytes that were announced", b.want)
		return int(left), b.err
	case int64(n) > left:
		b.err = b.limit.exceeded()
		return int(left), b.err
	case err == io.EOF && b.n < b.want:
		b.err = b.explain(io.ErrUnexpectedEOF)
		return n, b.err
	case err != nil && err != io.EOF:
		b.err = b.explain(err)
		return n, b.err
	}
	return n, err
}

// explain makes an error of the underlying body one that can be answered.
func (b *body) explain(err error) error {
	var tooLarge *http.MaxBytesError
	msg, status := "the body cannot be read", http.StatusBadRequest // more would name this side's address
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) && b.want >= 0:
		return errLength("the body ended after %d of %d bytes", b.n, b.want)
	case errors.As(err, &tooLarge):
		msg, status = tooLarge.Error(), http.StatusRequestEntityTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		msg, status = "the body did not come in time", http.StatusRequestTimeout
	}
	return ociregistry.NewHTTPError(errors.New(msg), status, nil, nil)
}

// blame returns err, or what was wrong with the body if that is where err comes
// from.
func (b *body) blame(err error) error {
	if err != nil && b.err != nil {
		return b.err
	}
	return err
}

// send answers with content of size bytes, or of unknown size if that is
// negative, and returns how many they were. If they cannot all be sent, it
// panics with [http.ErrAbortHandler].
func (x *exchange) send(status int, content io.Reader, size int64) int64 {
	x.writeHeader(status)
	// What fits into a buffer does not block; most manifests do.
	if size < 0 || size > 32<<10 {
		var l leash
		l.tie(x, (*http.ResponseController).SetWriteDeadline)
		defer l.untie()
	}
	n, err := io.Copy(x.w, content)
	if err == nil && size >= 0 && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		level, attrs := slog.LevelError, []slog.Attr{slog.Int64("sent", n), slog.Any("error", err)}
		if x.ctx().Err() != nil || cannotSend(err) { // most often, the client went away
			level, attrs = slog.LevelInfo, append(attrs, slog.Int("status", statusClientGone))
		}
		x.log(level, "answer broken off", attrs...)
		panic(http.ErrAbortHandler)
	}
	return n
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

// leash makes the end of a request's context end what blocks on its connection,
// by setting a deadline. The HTTP server resets that before the next request.
type leash struct {
	w      http.ResponseWriter
	set    func(*http.ResponseController, time.Time) error
	stop   func() bool
	pulled sync.WaitGroup
}

// tie begins. It must be ended by untie.
func (l *leash) tie(x *exchange, set func(*http.ResponseController, time.Time) error) {
	if x.ctx().Done() == nil {
		return
	}
	l.w, l.set = x.w, set
	l.pulled.Add(1)
	l.stop = context.AfterFunc(x.ctx(), l.pull)
}

func (l *leash) pull() {
	defer l.pulled.Done()
	l.set(http.NewResponseController(l.w), time.Unix(1, 0)) // not supported by all, and then nothing can be done
}

// untie is called when nothing can block any more. The deadline does not change
// after it.
func (l *leash) untie() {
	if l.stop != nil && !l.stop() {
		l.pulled.Wait()
	}
}
