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

// RetryPolicy says how often, and after which time, something is tried again
// that failed for a reason that may pass: a connection that cannot be made or
// breaks, and the statuses 408, 429, 500, 502, 503 and 504. What can have had an
// effect is only repeated when that is known to be right.
//
// The waits grow exponentially and vary at random. A Retry-After header makes a
// wait longer. The end of the context ends a wait.
type RetryPolicy struct {
	// Attempts is how often something is tried at most, without progress. Zero
	// stands for 5; 1 means never again.
	Attempts int

	// Wait is about how long the first wait is. Zero stands for 100 ms.
	Wait time.Duration

	// MaxWait is about how long a wait is at most. Zero stands for 10 s.
	MaxWait time.Duration

	// MaxRetryAfter is how long a Retry-After header can make a wait. Zero
	// stands for a minute.
	MaxRetryAfter time.Duration
}

func (p *RetryPolicy) setDefaults() {
	setDefault(&p.Attempts, 5)
	setDefault(&p.Wait, 100*time.Millisecond)
	setDefault(&p.MaxWait, 10*time.Second)
	setDefault(&p.MaxRetryAfter, time.Minute)
}

// clock is the time, which tests have another of.
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

// retrier counts how often one thing was tried.
type retrier struct {
	c      *client
	failed int
}

func (c *client) newRetrier() retrier { return retrier{c: c} }

// progress makes it count from the beginning.
func (r *retrier) progress() { r.failed = 0 }

// exhausted counts a try that came to nothing, and reports whether it was the
// last.
func (r *retrier) exhausted() bool {
	r.failed++
	return r.failed >= r.c.opts.Retry.Attempts
}

// again waits until what failed with err is to be tried again, and then returns
// nil; or else the error to give up with.
func (r *retrier) again(ctx context.Context, err error) error {
	if ctx.Err() != nil || r.exhausted() || !transient(err) {
		return ended(ctx, err)
	}
	wait := r.wait(err)
	r.c.opts.Logger.LogAttrs(ctx, slog.LevelInfo, "trying again",
		slog.Duration("wait", wait), slog.Int("failed", r.failed), slog.String("error", err.Error()))
	if r.c.opts.clock.sleep(ctx, wait) != nil {
		return ended(ctx, err)
	}
	return nil
}

// ended returns err, and that the context has ended, if it has.
func ended(ctx context.Context, err error) error {
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
// section 10.2.3). Some registries give the time as Unix time, which is told
// from seconds by its size.
func retryAfter(value string, now time.Time) time.Duration {
	const leastUnix = 1e9 // in 2001; as a wait it would be longer than 30 years
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

// transient reports whether what failed with err may succeed when it is tried
// again. The context has not ended.
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

// finalError is an error that is no use to try again after.
type finalError struct{ err error }

func (e *finalError) Error() string { return e.err.Error() }
func (e *finalError) Unwrap() error { return e.err }

func final(err error) error { return &finalError{err} }

func finalf(format string, args ...any) error { return final(fmt.Errorf(format, args...)) }
