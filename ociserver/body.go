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

// body is the body of a request on its way to the backend. It makes sure of its
// length and that it comes in time, and keeps what went wrong with it: the backend
// wraps that, but it is the client's fault.
type body struct {
	leash
	x        *exchange
	want     int64         // the length that was announced, or -1
	left     int64         // how much may come at most, if nothing was announced
	limit    limit         // what it is that is left
	deadline time.Time     // when it must have come; zero for never
	idle     time.Duration // how long the next byte may take; no limit if it is not positive
	claim    claim         // the memory that it has
	n        int64         // how much came
	err      error         // what ended it, if not its end
	begun    beginning
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
	b := &body{x: x, want: length, left: left, limit: l}
	if x.req.ContentLength != 0 {
		b.tie(x, (*http.ResponseController).SetReadDeadline, x.req.Body)
	}
	return b, nil
}

// manifestBody returns the request's body, which is a manifest. It must be closed,
// and its claim ended when the manifest is not needed any more.
func (x *exchange) manifestBody() (*body, error) {
	left := int64(math.MaxInt64)
	if max := x.opts.MaxManifestSize; max > 0 {
		left = max
	}
	b, err := x.openBody(x.req.ContentLength, left, limit{"manifest", left, ociregistry.ErrManifestInvalid})
	if err != nil {
		return nil, err
	}
	b.claim.room = x.room
	if d := x.opts.ManifestTimeout; d > 0 && x.req.ContentLength != 0 {
		b.deadline = time.Now().Add(d)
		b.await(d)
	}
	return b, nil
}

// blobBody returns the request's body, which is length bytes of a blob, or
// unknown many if that is negative, to come after the size bytes that its
// session has. It must be closed.
//
// It returns when enough of the body has come for a backend to begin with.
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
		b.begun.fill(b)
	}
	return b, nil
}

func errLength(format string, args ...any) error {
	return ociregistry.NewError(fmt.Sprintf(format, args...), ociregistry.ErrSizeInvalid.Code(), nil)
}

// Close lets go of the connection.
func (b *body) Close() {
	b.untie()
	b.begun.drop()
}

func (b *body) Read(p []byte) (n int, err error) {
	if n := b.begun.read(p); n > 0 {
		return n, nil
	}
	return b.receive(p)
}

// receive reads what comes from the client.
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
		b.await(b.idle)
		n, err = b.x.req.Body.Read(p)
		b.hold()
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
		b.err = b.explain(io.ErrUnexpectedEOF)
		return n, b.err
	case err != nil && err != io.EOF:
		b.err = b.explain(err)
		return n, b.err
	}
	if claimErr := b.claim.add(b.x.ctx(), int64(n), b.deadline); claimErr != nil {
		b.x.dropRest()
		b.err = claimErr
		return n, claimErr
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
	case errors.Is(err, os.ErrDeadlineExceeded) || b.late.Load():
		b.x.bodyEnded = true // the deadline stays
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

// What is left of a body that nobody wants is read all the same, so that its client
// sees the answer: one that is sending may not look before it has sent all. The HTTP
// server does that, but it would wait for ever.
const (
	maxRest     = 256 << 10       // bytes
	restTimeout = 5 * time.Second // in which the HTTP server may read the rest
)

// finishBody reads what is left of the body, or has the connection closed after the
// answer.
func (x *exchange) finishBody() {
	if !x.bodyLeft() {
		return
	}
	if x.req.ContentLength <= maxRest && x.req.Header["Expect"] == nil {
		b := body{x: x, want: -1, left: math.MaxInt64}
		b.tie(x, (*http.ResponseController).SetReadDeadline, x.req.Body)
		if d := x.opts.ManifestTimeout; d > 0 {
			b.await(d)
		}
		io.CopyN(io.Discard, &b, maxRest) // if that does not reach the end, some is left
		b.Close()
	}
	if x.bodyLeft() {
		x.dropRest()
		x.boundRest()
	}
}

// bodyLeft reports whether the HTTP server may try to read more of the body, before
// or after it sends the answer.
func (x *exchange) bodyLeft() bool {
	return x.req.ContentLength != 0 && !x.bodyEnded && x.req.ProtoMajor == 1
}

// boundRest is called when nothing but the HTTP server will read the body.
func (x *exchange) boundRest() {
	if x.bodyLeft() {
		http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(restTimeout)) // where that is not supported, nothing can be done
	}
}

// dropRest makes the HTTP server close the connection after the answer, which does
// not wait for more of the body.
func (x *exchange) dropRest() {
	if x.req.ProtoMajor == 1 {
		x.header().Set("Connection", "close")
	}
}
