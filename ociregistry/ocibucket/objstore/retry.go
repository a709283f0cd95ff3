package objstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	// DefaultAttempts is the default of RetryOptions.Attempts.
	DefaultAttempts = 6
	// DefaultTimeout is the default of RetryOptions.Timeout.
	DefaultTimeout = 2 * time.Minute
	// DefaultMaxDelay is the default of RetryOptions.MaxDelay.
	DefaultMaxDelay = 5 * time.Second

	firstDelay = 50 * time.Millisecond
)

// RetryOptions are options for [Retry].
type RetryOptions struct {
	// Attempts is the maximum number of consecutive attempts, the first one
	// included. Zero means DefaultAttempts. A negative value means a single attempt.
	Attempts int
	// Timeout bounds each attempt, and each wait for the next bytes of an object's body. Zero means
	// DefaultTimeout. A negative value means no limit.
	Timeout time.Duration
	// MaxDelay bounds the wait between two attempts, also one that the store asks for. Zero means
	// DefaultMaxDelay.
	MaxDelay time.Duration
}

// Retry returns a store that makes a request again when that is safe. Delays are
// random and grow, so that clients that were throttled together do not come back together.
//
//   - What was not carried out ([ErrThrottled], and [ErrConflict] of a write) is made again, whatever it is.
//   - A read that is [ErrTemporary] is made again. A body that breaks off goes on where it was, if
//     the object is still the same one.
//   - A write that is [ErrUnclear] is made again only if twice is the same as once: Put
//     and Delete without a condition, PutPart, CreateMultipart and AbortMultipart. So these
//     may be carried out twice, the first time perhaps after the second: they are for keys at
//     which nobody writes anything else meanwhile. A CreateMultipart that was made
//     again may leave an upload that only ListMultiparts shows; an AbortMultipart that finds
//     nothing after an unclear attempt has succeeded.
//   - A write under a condition that is ErrUnclear is never made again, nor is a
//     CompleteMultipart: the caller has to look.
//
// If the last attempt was refused but one before it was unclear, the error is ErrUnclear as well.
func Retry(s Store, opts *RetryOptions) Store {
	r := &retrier{s: s}
	if opts != nil {
		r.opts = *opts
	}
	if r.opts.Attempts == 0 {
		r.opts.Attempts = DefaultAttempts
	}
	if r.opts.Timeout == 0 {
		r.opts.Timeout = DefaultTimeout
	}
	if r.opts.MaxDelay == 0 {
		r.opts.MaxDelay = DefaultMaxDelay
	}
	return r
}

type retrier struct {
	s    Store
	opts RetryOptions
}

// A kind of request says which errors it is made again for.
type kind int

const (
	read        kind = iota // what is temporary
	idempotent              // what is unclear
	conditional             // only what was not carried out
)

// again makes a request until it succeeds or there is no use in another attempt.
func again[T any](ctx context.Context, r *retrier, k kind, do func(context.Context) (T, error)) (T, error) {
	unclear := false
	for attempt := 1; ; attempt++ {
		v, err := attemptOnce(ctx, r, k, do)
		if err == nil {
			return v, nil
		}
		again := k.repeats(err)
		unclear = unclear || k != read && Unclear(err)
		if attempt >= r.opts.Attempts || !again || !r.wait(ctx, attempt, err) {
			if unclear && !Unclear(err) {
				err = errors.Join(ErrUnclear, err)
			}
			return v, err
		}
	}
}

// attemptOnce makes a request, within the time that it has.
func attemptOnce[T any](ctx context.Context, r *retrier, k kind, do func(context.Context) (T, error)) (T, error) {
	if r.opts.Timeout < 0 {
		return do(ctx)
	}
	limited, cancel := context.WithTimeout(ctx, r.opts.Timeout)
	defer cancel()
	v, err := do(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil && k == read && !errors.Is(err, ErrTemporary) {
		err = errors.Join(ErrTemporary, err)
	}
	return v, err
}

func (k kind) repeats(err error) bool {
	switch {
	case errors.Is(err, ErrThrottled):
		return true
	case k == read:
		return errors.Is(err, ErrTemporary)
	case errors.Is(err, ErrConflict):
		return true
	}
	return k == idempotent && errors.Is(err, ErrUnclear)
}

// wait waits for the next attempt. It reports whether there is to be one.
func (r *retrier) wait(ctx context.Context, attempt int, err error) bool {
	delay := min(firstDelay<<min(attempt-1, 20), r.opts.MaxDelay)
	delay = delay/2 + rand.N(delay/2+1)
	var e *Error
	if errors.As(err, &e) && e.After > delay {
		delay = min(e.After, r.opts.MaxDelay)
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (cond Condition) kind() kind {
	if cond == (Condition{}) {
		return idempotent
	}
	return conditional
}

func (r *retrier) Capabilities() Capabilities { return r.s.Capabilities() }

func (r *retrier) Put(ctx context.Context, key string, body []byte, cond Condition) (Info, error) {
	return again(ctx, r, cond.kind(), func(ctx context.Context) (Info, error) { return r.s.Put(ctx, key, body, cond) })
}

func (r *retrier) Delete(ctx context.Context, key string, cond Condition) (time.Time, error) {
	return again(ctx, r, cond.kind(), func(ctx context.Context) (time.Time, error) { return r.s.Delete(ctx, key, cond) })
}

func (r *retrier) List(ctx context.Context, opts ListOptions) (*Page, error) {
	return again(ctx, r, read, func(ctx context.Context) (*Page, error) { return r.s.List(ctx, opts) })
}

func (r *retrier) CreateMultipart(ctx context.Context, key string) (Multipart, error) {
	return again(ctx, r, idempotent, func(ctx context.Context) (Multipart, error) { return r.s.CreateMultipart(ctx, key) })
}

func (r *retrier) PutPart(ctx context.Context, up Multipart, number int, body []byte) (Part, error) {
	return again(ctx, r, idempotent, func(ctx context.Context) (Part, error) { return r.s.PutPart(ctx, up, number, body) })
}

func (r *retrier) ListParts(ctx context.Context, up Multipart, after int) (*PartPage, error) {
	return again(ctx, r, read, func(ctx context.Context) (*PartPage, error) { return r.s.ListParts(ctx, up, after) })
}

func (r *retrier) CompleteMultipart(ctx context.Context, up Multipart, parts []Part, cond Condition) (Info, error) {
	return again(ctx, r, conditional, func(ctx context.Context) (Info, error) {
		return r.s.CompleteMultipart(ctx, up, parts, cond)
	})
}

func (r *retrier) AbortMultipart(ctx context.Context, up Multipart) (time.Time, error) {
	date, err := again(ctx, r, idempotent, func(ctx context.Context) (time.Time, error) { return r.s.AbortMultipart(ctx, up) })
	if errors.Is(err, ErrNotFound) && errors.Is(err, ErrUnclear) {
		return Date(err), nil
	}
	return date, err
}

func (r *retrier) ListMultiparts(ctx context.Context, opts MultipartOptions) (*MultipartPage, error) {
	return again(ctx, r, read, func(ctx context.Context) (*MultipartPage, error) { return r.s.ListMultiparts(ctx, opts) })
}

func (r *retrier) Presign(ctx context.Context, key string, opts PresignOptions) (string, error) {
	return again(ctx, r, read, func(ctx context.Context) (string, error) { return r.s.Presign(ctx, key, opts) })
}
