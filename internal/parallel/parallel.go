// Package parallel does many things at a time.
package parallel

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// Do calls f for all numbers below n, up to concurrency of them at a time, and returns
// when all calls have returned. After an error of f it may leave numbers out; the error
// wraps those of f. If a call panics, so does Do, with the same value, in the goroutine of the
// caller, who may recover.
func Do(concurrency, n int, f func(i int) error) error {
	var wg sync.WaitGroup
	var next atomic.Int64
	var panicked atomic.Pointer[any]
	errs := make([]error, min(concurrency, n))
	for w := range errs {
		wg.Go(func() {
			defer func() {
				if v := recover(); v != nil {
					panicked.Store(&v)
				}
			}()
			for errs[w] == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				errs[w] = f(i)
			}
		})
	}
	wg.Wait()
	if v := panicked.Load(); v != nil {
		panic(*v)
	}
	return errors.Join(errs...)
}

// Each calls f with every element of xs, up to concurrency of them at a time. The first
// error of f ends the context of the other calls. Each returns it, or else the error of
// ctx, when all calls have returned. After an error it may leave elements out.
func Each[T any](ctx context.Context, concurrency int, xs []T, f func(context.Context, T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	Do(concurrency, len(xs), func(i int) error {
		if ctx.Err() == nil {
			if err := f(ctx, xs[i]); err != nil {
				cancel(err)
			}
		}
		return ctx.Err()
	})
	return context.Cause(ctx)
}
