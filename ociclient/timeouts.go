package ociclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/internal/wire"
)

// Timeouts bounds how long a client waits for a server that says nothing. Each
// bound is for one wait of one request: what is tried again waits anew, as often
// as the [RetryPolicy] says. A negative bound is none.
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
	// for a token, counts. Zero stands for 30 s.
	Header time.Duration

	// Commit is Header for requests that may make a registry work: PUT, PATCH,
	// DELETE of what it has, and lists. There is storage that copies a blob when
	// its upload ends. Zero stands for 10 minutes.
	Commit time.Duration

	// Idle is how long the next byte of an answer's body is waited for, and how
	// long a server may take none of a request's. Zero stands for 60 s.
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

// attempt is a request that is sent once, and the body of its answer. It ends the
// request when a wait takes too long.
type attempt struct {
	c      *client
	req    http.Request
	values [5]string       // of the header
	ctx    context.Context // ends with the attempt
	cancel context.CancelCauseFunc
	header time.Duration // how long the answer's header may take
	sent   sentBody      // the request's body, when it is sent for the first time
	body   io.ReadCloser // the answer's

	mu       sync.Mutex
	alarm    *alarm // nil before the request is sent, and when all has ended
	answered bool
}

// begin begins to wait for the answer.
func (a *attempt) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	var ok bool
	if a.alarm, ok = a.c.alarms.Get().(*alarm); !ok {
		a.alarm = new(alarm)
	}
	a.alarm.of = a
	a.alarm.set(a.header, toAnswer)
}

// answer returns what the transport has returned, with a body that is waited for
// byte by byte.
func (a *attempt) answer(resp *http.Response, err error) (*http.Response, error) {
	a.mu.Lock()
	a.answered = true
	a.alarm.stop()
	a.mu.Unlock()
	switch {
	case err != nil:
		err = a.failure(err)
		a.end()
		return nil, err
	case resp.Body == http.NoBody:
		a.end()
	default:
		a.body, resp.Body = resp.Body, a
	}
	resp.Request = &a.req
	return resp, nil
}

// failure returns why the attempt has failed, when the transport says err. It is
// never [io.EOF], which is how an answer ends well.
func (a *attempt) failure(err error) error {
	if timeout, ok := context.Cause(a.ctx).(*timeoutError); ok {
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
	a.pause()
	if err == nil {
		return n, nil
	}
	if err != io.EOF {
		err = a.failure(err)
	}
	a.end()
	return n, err
}

func (a *attempt) Close() error {
	err := a.body.Close()
	a.end()
	return err
}

// wait begins to wait for the server.
func (a *attempt) wait(bound time.Duration, what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.alarm.set(bound, what)
}

// pause ends a wait.
func (a *attempt) pause() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.alarm.stop()
}

// end lets go of what the attempt has.
func (a *attempt) end() {
	a.mu.Lock()
	alarm := a.alarm
	a.alarm = nil
	alarm.stop()
	a.mu.Unlock()
	if alarm != nil && !alarm.late {
		alarm.of = nil
		a.c.alarms.Put(alarm)
	}
	a.cancel(nil)
}

// sentBody is the body of a request. A transport reads from it when the server has
// taken what it read before.
type sentBody struct {
	io.ReadCloser
	a    *attempt
	left int64
}

func (b *sentBody) Read(p []byte) (int, error) {
	b.wait(-1, "")
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if b.left <= 0 || err != nil {
		b.wait(b.a.header, toAnswer)
	} else {
		b.wait(b.a.c.opts.Timeouts.Idle, toTake)
	}
	return n, err
}

// wait is that of the attempt, until there is an answer: a transport may go on to
// send after that.
func (b *sentBody) wait(bound time.Duration, what string) {
	b.a.mu.Lock()
	defer b.a.mu.Unlock()
	if !b.a.answered {
		b.a.alarm.set(bound, what)
	}
}

// alarm is a timer that ends an attempt. It serves one after another. A nil alarm
// does nothing.
type alarm struct {
	timer *time.Timer
	of    *attempt
	bound time.Duration // zero if it is not set
	what  string
	late  bool // it may ring although it was stopped, and so cannot serve another
}

// set makes the alarm ring when the bound is over, and not before.
func (l *alarm) set(bound time.Duration, what string) {
	l.stop()
	if l == nil || bound < 0 {
		return
	}
	l.bound, l.what = bound, what
	if l.timer == nil {
		l.timer = time.AfterFunc(bound, l.ring)
	} else {
		l.timer.Reset(bound)
	}
}

func (l *alarm) stop() {
	if l == nil || l.bound == 0 {
		return
	}
	l.bound = 0
	if !l.timer.Stop() {
		l.late = true
	}
}

func (l *alarm) ring() {
	a := l.of
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.alarm == l && l.bound > 0 {
		a.cancel(&timeoutError{a.req.URL.Host, l.what, l.bound})
	}
}
