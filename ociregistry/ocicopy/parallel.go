package ocicopy

import (
	"context"
	"sync"
	"sync/atomic"
)

// each calls f with every element of xs, limit of them at a time. The first error
// ends the context of the others; each returns it after all calls have ended.
func each[T any](ctx context.Context, limit int, xs []T, f func(context.Context, T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wait sync.WaitGroup
	for range min(limit, len(xs)) {
		wait.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(xs) {
					return
				}
				if err := f(ctx, xs[i]); err != nil {
					cancel(err)
				}
			}
		})
	}
	wait.Wait()
	return context.Cause(ctx)
}
