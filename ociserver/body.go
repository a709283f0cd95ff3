package ociserver

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// body is the body of a request on its way to the backend. It checks the length of
// the body and that it arrives in time. It remembers what was wrong with the body:
// the backend returns an error that wraps that, but the client is to blame.
type body struct {
	interrupter
	x        *exchange
	want     int64         // the announced length, or -1
	left     int64         // the maximum length, if none was announced
	limit    limit         // the limit that left is from
	deadline time.Time     // when all of it must have arrived; zero for never
	idle     time.Duration // in which the next byte must arrive; no limit if it is not positive
	memory   reservation   // the memory that it has
	n        int64         // bytes that have arrived
	err      error         // that ended it, if it did not end properly
	prefix   prefix
}

// limit is the maximum size of something.
type limit struct {
	what     string            // for messages
	max      int64             // bytes
	sentinel ociregistry.Error // has the code of the error if there are more
}

func (l limit) exceeded() error {
	msg := fmt.Sprintf("the %s is larger than %d bytes", l.what, l.max)
	return ociregistry.NewHTTPError(ociregistry.NewError(msg, l.sentinel.Code(), nil), http.StatusRequestEntityTooLarge, nil, nil)
}

// openBody returns the request's body. It has length bytes, or an unknown number if
// length is negative, and at most left bytes. It must be closed.
func (x *exchange) openBody(length, left int64, l limit) (*body, error) {
	if length > left {
		return nil, l.exceeded()
	}
	b := &body{x: x, want: length, left: left, limit: l}
	x.body = b
	if x.req.ContentLength != 0 {
		b.start(x, (*http.ResponseController).SetReadDeadline, x.req.Body)
	}
	return b, nil
}

// manifestBody returns the request's body, which is a manifest. It must be closed,
// and its memory must be released when the manifest is no longer needed.
func (x *exchange) manifestBody() (*body, error) {
	left := int64(math.MaxInt64)
	if max := x.opts.MaxManifestSize; max > 0 {
		left = max
	}
	b, err := x.openBody(x.req.ContentLength, left, limit{"manifest", left, ociregistry.ErrManifestInvalid})
	if err != nil {
		return nil, err
	}
	b.memory.memory = x.memory
	if d := x.opts.ManifestTimeout; d > 0 && x.req.ContentLength != 0 {
		b.deadline = time.Now().Add(d)
		b.arm(d)
	}
	return b, nil
}

// blobBody returns the request's body, which is a blob or a part of one. It has
// length bytes, or an unknown number if length is negative, and follows the size
// bytes that the upload session has. It must be closed.
//
// blobBody returns when enough of the body has arrived for the backend to begin.
func (x *exchange) blobBody(length, size int64) (*body, error) {
	left, l := int64(math.MaxInt64), limit{}
	if most := x.opts.MaxBlobSize; most > 0 {
		left, l = max(most-size, 0), limit{"blob", most, ociregistry.ErrSizeInvalid}
	}
	b, err := x.openBody(length, left, l)
	if err != nil {
		return nil, err
	}
	if x.req.ContentLength != 0 {
		b.idle = x.opts.BlobTimeout
		b.prefix.fill(b)
	}
	return b, nil
}

func errLength(format string, args ...any) error {
	return ociregistry.NewError(fmt.Sprintf(format, args...), ociregistry.ErrSizeInvalid.Code(), nil)
}

// Close ends the use of the connection.
func (b *body) Close() {
	b.stop()
	b.prefix.drop()
}

func (b *body) Read(p []byte) (n int, err error) {
	if n := b.prefix.read(p); n > 0 {
		return n, nil
	}
	return b.receive(p)
}

// receive reads from the client.
func (b *body) receive(p []byte) (n int, err error) {
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
	if b.idle > 0 {
		b.arm(b.idle)
		n, err = b.x.req.Body.Read(p)
		b.disarm()
	} else {
		n, err = b.x.req.Body.Read(p)
	}
	b.n += min(int64(n), left)
	b.x.bodyEnded = b.x.bodyEnded || err == io.EOF
	switch {
	case int64(n) > left && b.want >= 0:
		b.err = errLength("the body is longer than the %d bytes that were announced", b.want)
		return int(left), b.err
	case int64(n) > left:
		b.err = b.limit.exceeded()
		return int(left), b.err
	case err == io.EOF && b.n < b.want:
		b.err = b.readError(io.ErrUnexpectedEOF)
		return n, b.err
	case err != nil && err != io.EOF:
		b.err = b.readError(err)
		return n, b.err
	}
	if claimErr := b.memory.grow(b.x.ctx(), int64(n), b.deadline); claimErr != nil {
		b.x.closeAfterAnswer()
		b.err = claimErr
		return n, claimErr
	}
	return n, err
}

// readError returns the error to answer when the underlying body returned err.
func (b *body) readError(err error) error {
	var tooLarge *http.MaxBytesError
	msg, status := "the body cannot be read", http.StatusBadRequest // err would tell this side's address
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) && b.want >= 0:
		return errLength("the body ended after %d of %d bytes", b.n, b.want)
	case errors.As(err, &tooLarge):
		msg, status = tooLarge.Error(), http.StatusRequestEntityTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded) || b.interrupted.Load():
		b.x.bodyEnded = true // the deadline that has passed stays set
		msg, status = "the body did not come in time", http.StatusRequestTimeout
	}
	return ociregistry.NewHTTPError(errors.New(msg), status, nil, nil)
}

// blame returns what was wrong with the body, if that caused err, or else err.
func (b *body) blame(err error) error {
	if err != nil && b.err != nil {
		return b.err
	}
	return err
}

// The rest of a body that is not needed is read nevertheless, so that the client sees
// the answer: some clients do not look for it before they have sent everything. The
// HTTP server does that too, but it would wait for ever.
const (
	maxRest     = 256 << 10       // bytes
	restTimeout = 5 * time.Second // in which the HTTP server may read the rest
)

// finishBody reads the rest of the body, or makes the HTTP server close the connection
// after the answer.
func (x *exchange) finishBody() {
	if !x.bodyLeft() {
		return
	}
	if x.req.ContentLength <= maxRest && x.req.Header["Expect"] == nil {
		b := body{x: x, want: -1, left: math.MaxInt64}
		b.start(x, (*http.ResponseController).SetReadDeadline, x.req.Body)
		if d := x.opts.ManifestTimeout; d > 0 {
			b.arm(d)
		}
		io.CopyN(io.Discard, &b, maxRest) // bodyLeft tells whether that reached the end
		b.Close()
	}
	if x.bodyLeft() {
		x.closeAfterAnswer()
		x.boundRest()
	}
}

// bodyLeft reports whether the HTTP server may try to read more of the body, before
// or after it sends the answer.
func (x *exchange) bodyLeft() bool {
	return x.req.ContentLength != 0 && !x.bodyEnded && x.req.ProtoMajor == 1
}

// boundRest limits the time in which the HTTP server may read the rest of the body.
// Nothing else may read the body after it.
func (x *exchange) boundRest() {
	if x.bodyLeft() {
		http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(restTimeout)) // where that is not supported, nothing can be done
	}
}

// closeAfterAnswer makes the HTTP server close the connection after the answer,
// without waiting for the rest of the body.
func (x *exchange) closeAfterAnswer() {
	if x.req.ProtoMajor == 1 {
		x.header().Set("Connection", "close")
	}
}
