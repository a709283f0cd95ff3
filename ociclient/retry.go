package ociclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// RetryPolicy says how often, and after which time, the client repeats something that
// failed for a temporary reason: a connection that cannot be made or breaks, or one of
// the statuses 408, 429, 500, 502, 503 and 504. It repeats a request that may have had an
// effect only when that is known to be right.
//
// The waits grow exponentially, with random jitter. A Retry-After header can make a wait
// longer. The end of the context ends a wait.
type RetryPolicy struct {
	// Attempts is the maximum number of consecutive attempts without progress. Zero
	// means DefaultAttempts. A negative value means a single attempt.
	Attempts int

	// Wait is the length of the first wait, before jitter. Zero means 100 ms.
	Wait time.Duration

	// MaxWait is the maximum length of a wait, before jitter. Zero means 10 seconds.
	MaxWait time.Duration

	// MaxRetryAfter is the maximum length of a wait that a Retry-After header asks
	// for. Zero means one minute.
	MaxRetryAfter time.Duration
}

func (p *RetryPolicy) setDefaults() {
	if p.Attempts == 0 {
		p.Attempts = DefaultAttempts
	}
	setDefault(&p.Wait, 100*time.Millisecond)
	setDefault(&p.MaxWait, 10*time.Second)
	setDefault(&p.MaxRetryAfter, time.Minute)
}

// clock is the time, which tests replace.
type clock struct {
	now   func() time.Time
	sleep func(ctx context.Context, d time.Duration) error
}

func (c *clock) setDefaults() {
	if c.now == nil {
		c.now = time.Now
	}
	if c.sleep == nil {
		c.sleep = sleep
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// A retrier counts the consecutive failures of one operation.
type retrier struct {
	c      *client
	failed int
}

func (c *client) newRetrier() retrier { return retrier{c: c} }

// progress resets the count.
func (r *retrier) progress() { r.failed = 0 }

// exhausted counts a failed attempt, and reports whether it was the last.
func (r *retrier) exhausted() bool {
	r.failed++
	return r.failed >= r.c.opts.Retry.Attempts
}

// again waits before an operation that failed with err is repeated, and returns nil. If
// it must not be repeated, again returns the error to give up with.
func (r *retrier) again(ctx context.Context, err error) error {
	if ctx.Err() != nil || r.exhausted() || !transient(err) {
		return withContextErr(ctx, err)
	}
	wait := r.wait(err)
	r.c.opts.Logger.LogAttrs(ctx, slog.LevelInfo, "retrying",
		slog.Duration("wait", wait), slog.Int("failed", r.failed), slog.String("error", err.Error()))
	if r.c.opts.clock.sleep(ctx, wait) != nil {
		return withContextErr(ctx, err)
	}
	return nil
}

// withContextErr returns err, joined with the error of the context if that has ended.
func withContextErr(ctx context.Context, err error) error {
	if ctx.Err() == nil || errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("%w; before that: %w", ctx.Err(), err)
}

func (r *retrier) wait(err error) time.Duration {
	p := &r.c.opts.Retry
	wait := p.MaxWait
	if n := r.failed - 1; n < 30 {
		wait = min(p.Wait<<n, wait)
	}
	wait = wait/2 + rand.N(wait/2+1)
	resp := responseOf(err)
	if foreign := (*foreignError)(nil); errors.As(err, &foreign) {
		resp = foreign.resp
	}
	if resp != nil {
		after := retryAfter(resp.Header.Get("Retry-After"), r.c.opts.clock.now())
		wait = max(wait, min(after, p.MaxRetryAfter))
	}
	return wait
}

// retryAfter returns how long a Retry-After header asks to wait (RFC 9110,
// section 10.2.3). Some registries send a Unix time, which is much larger than a number
// of seconds.
func retryAfter(value string, now time.Time) time.Duration {
	const leastUnix = 1e9 // in 2001; as a number of seconds, more than 30 years
	value = strings.TrimSpace(value)
	if n, err := strconv.ParseInt(value, 10, 64); err == nil {
		if n >= leastUnix {
			n = min(n-now.Unix(), leastUnix)
		}
		return time.Duration(max(n, 0)) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(at.Sub(now), 0)
}

// transient reports whether a request that failed with err may succeed later. The context
// has not ended.
func transient(err error) bool {
	var (
		herr     ociregistry.HTTPError
		coded    ociregistry.Error
		final    *finalError
		foreign  *foreignError
		name     *net.DNSError
		cert     *tls.CertificateVerificationError
		unsigned x509.UnknownAuthorityError
		record   tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &final):
		return false
	case errors.As(err, &foreign):
		return transientStatus(foreign.resp.StatusCode)
	case errors.As(err, &herr):
		return transientStatus(herr.StatusCode())
	case errors.As(err, &coded):
		return false
	case errors.As(err, &name):
		return !name.IsNotFound
	case errors.As(err, &cert), errors.As(err, &unsigned), errors.As(err, &record):
		return false
	}
	return true
}

func transientStatus(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// finalError is an error after which a retry cannot succeed.
type finalError struct{ err error }

func (e *finalError) Error() string { return e.err.Error() }
func (e *finalError) Unwrap() error { return e.err }

func final(err error) error { return &finalError{err} }

func finalf(format string, args ...any) error { return final(fmt.Errorf(format, args...)) }
