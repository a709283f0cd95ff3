package ociclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

// Timeouts bounds how long a client waits for a server that says nothing. Each
// bound is for one wait of one request: what is tried again waits anew, as often
// as the [RetryPolicy] says.
//
// A wait that has ended is an error that matches [os.ErrDeadlineExceeded], and
// tells what was waited for, how long, and of which host. It does not match
// [context.DeadlineExceeded], which is the end of the caller's own context. It is
// tried again as a connection is that broke; a blob goes on where it was.
//
// The time in which the caller does not read, or has nothing to send, does not
// count.
type Timeouts struct {
	// Header is how long the header of an answer is waited for, from the last
	// byte of the request on. What the transport does meanwhile, such as to ask
	// for a token, counts. Zero stands for 30 s; negative
	// for no bound.
	Header time.Duration

	// Commit is Header for requests that may make a registry work: PUT, PATCH,
	// DELETE of what it has, and lists. There is storage that copies a blob when
	// its upload ends. Zero stands for 10 minutes; negative for no bound.
	Commit time.Duration

	// Idle is how long the next byte of an answer's body is waited for, and how
	// long a server may take none of a request's. Zero stands for 60 s;
	// negative for no bound.
	Idle time.Duration
}

func (t *Timeouts) setDefaults() {
	for _, d := range []struct {
		bound *time.Duration
		value time.Duration
	}{{&t.Header, 30 * time.Second}, {&t.Commit, 10 * time.Minute}, {&t.Idle, 60 * time.Second}} {
		if *d.bound == 0 {
			*d.bound = d.value
		}
	}
}

// header returns how long the header of an answer to a request may take.
func (t *Timeouts) header(k wire.Kind) time.Duration {
	switch k {
	case wire.ManifestPut, wire.ManifestDelete, wire.BlobDelete, wire.UploadChunk, wire.UploadFinish,
		wire.Catalog, wire.TagsList, wire.Referrers:
		return t.Commit
	}
	return t.Header
}

// timeoutError is a wait that has ended.
type timeoutError struct {
	host, what string
	bound      time.Duration
}

func (e *timeoutError) Error() string {
	return fmt.Sprintf("waited %v for %s to %s", e.bound, e.host, e.what)
}

func (e *timeoutError) Unwrap() error { return os.ErrDeadlineExceeded }
func (e *timeoutError) Timeout() bool { return true }

// What servers are waited for to do.
const (
	toAnswer = "answer"
	toSend   = "send more of its answer"
	toTake   = "take more of what is sent"
)

// attempt is a request that is sent once, and the body of its answer. The watchdog
// ends it when a wait takes too long.
type attempt struct {
	c      *client
	req    http.Request
	values [5]string              // of the header
	ctx    ociauth.RequestContext // of the request; it ends with the attempt
	cancel context.CancelCauseFunc
	header time.Duration // how long the answer's header may take
	sent   sentBody      // the request's body, when it is sent for the first time
	body   io.ReadCloser // the answer's

	// Those that are the watchdog's to lock:
	waiting    bool
	answered   bool
	over       bool
	what       string        // the server is waited for to do
	bound      time.Duration // of the wait
	until      time.Duration // the end of the wait, on the watchdog's clock
	prev, next *attempt      // that wait as well
}

// begin begins to wait for the answer.
func (a *attempt) begin() { a.wait(a.header, toAnswer) }

// answer returns what the transport has returned, with a body that is waited for
// byte by byte.
func (a *attempt) answer(resp *http.Response, err error) (*http.Response, error) {
	if err != nil {
		err = a.failure(err)
		a.end()
		return nil, err
	}
	resp.Request = &a.req
	if resp.Body == http.NoBody {
		a.end()
		return resp, nil
	}
	w := &a.c.watchdog
	w.mu.Lock()
	w.remove(a)
	a.answered = true
	w.mu.Unlock()
	a.body, resp.Body = resp.Body, a
	return resp, nil
}

// failure returns why the attempt has failed, when the transport says err. It is
// never [io.EOF], which is how an answer ends well.
func (a *attempt) failure(err error) error {
	if timeout, ok := context.Cause(&a.ctx).(*timeoutError); ok {
		return timeout
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%s has closed the connection: %w", a.req.URL.Host, io.ErrUnexpectedEOF)
	}
	return err
}

func (a *attempt) Read(p []byte) (int, error) {
	a.wait(a.c.opts.Timeouts.Idle, toSend)
	n, err := a.body.Read(p)
	if err == nil {
		a.rest()
		return n, nil
	}
	if err != io.EOF {
		err = a.failure(err)
	}
	a.end()
	return n, err
}

func (a *attempt) interrupt() { a.cancel(nil) }

func (a *attempt) Close() error {
	err := a.body.Close()
	a.end()
	return err
}

// sentBody is the body of a request. A transport reads from it when the server has
// taken what it read before.
type sentBody struct {
	io.ReadCloser
	a    *attempt
	left int64
}

func (b *sentBody) Read(p []byte) (int, error) {
	b.a.wait(-1, toTake)
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if b.left <= 0 || err != nil {
		b.a.wait(b.a.header, toAnswer)
	} else {
		b.a.wait(b.a.c.opts.Timeouts.Idle, toTake)
	}
	return n, err
}
