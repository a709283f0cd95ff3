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

// Timeouts bounds how long a client waits for a server that sends or takes nothing. Each
// bound applies to one wait of one request; a retry starts a new wait, as often as the
// [RetryPolicy] allows.
//
// The error of a wait that exceeds its bound matches [os.ErrDeadlineExceeded], and names
// the host, the event and the bound. It does not match [context.DeadlineExceeded], which
// means that the caller's own context has ended. The client retries after it as after a
// broken connection; a blob continues at the same byte.
//
// Time in which the caller does not read, or provides nothing to send, does not count.
type Timeouts struct {
	// Header bounds the wait for the header of a response, from the last byte of the
	// request on. It includes what the transport does meanwhile, such as asking for a
	// token. Zero means 30 seconds. A negative value means no limit.
	Header time.Duration

	// Commit takes the place of Header for requests that may take a registry long:
	// PUT, PATCH, DELETE of content, and lists. Some storage copies a blob at the end
	// of its upload. Zero means 10 minutes. A negative value means no limit.
	Commit time.Duration

	// Idle bounds the wait for the next byte of a response's body, and for the server
	// to take the next part of a request's. Zero means 60 seconds. A negative value
	// means no limit.
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

// header returns how long the header of the response to a request may take.
func (t *Timeouts) header(k wire.Kind) time.Duration {
	switch k {
	case wire.ManifestPut, wire.ManifestDelete, wire.BlobDelete, wire.UploadChunk, wire.UploadFinish,
		wire.Catalog, wire.TagsList, wire.Referrers:
		return t.Commit
	}
	return t.Header
}

// timeoutError is the error of a wait that has exceeded its bound.
type timeoutError struct {
	host, what string
	bound      time.Duration
}

func (e *timeoutError) Error() string {
	return fmt.Sprintf("waited %v for %s to %s", e.bound, e.host, e.what)
}

func (e *timeoutError) Unwrap() error { return os.ErrDeadlineExceeded }
func (e *timeoutError) Timeout() bool { return true }

// The events that a client waits for, in the words of error messages.
const (
	toAnswer = "answer"
	toSend   = "send more of its answer"
	toTake   = "take more of what is sent"
)

// An attempt is one sending of a request, and the body of its response. The watchdog ends
// it when a wait takes too long.
type attempt struct {
	c      *client
	req    http.Request
	values [5]string              // of the header
	ctx    ociauth.RequestContext // of the request; ends with the attempt
	cancel context.CancelCauseFunc
	header time.Duration // how long the response's header may take
	sent   sentBody      // the request's body, when it is sent for the first time
	body   io.ReadCloser // the response's

	// The watchdog's mu guards these.
	waiting    bool
	answered   bool
	ended      bool
	what       string        // the event that the attempt waits for
	bound      time.Duration // of the wait
	until      time.Duration // the end of the wait, on the watchdog's clock
	prev, next *attempt      // in the watchdog's list
}

// waitForAnswer begins a wait for the response.
func (a *attempt) waitForAnswer() { a.wait(a.header, toAnswer) }

// answer returns the results of the transport. The watchdog bounds each wait for a part
// of the response's body.
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

// failure returns the reason why the transport returned err. It is never [io.EOF], which
// is the regular end of a response.
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
		a.stopWaiting()
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

// sentBody is the body of a request. When a transport reads from it, the server has taken
// what the transport read before.
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
