package ociunify

import (
	"context"

	"github.com/seed-40b21970/oci/internal/flight"
)

// group lets callers that ask for the same thing at the same time share one
// answer.
type group[T any] = flight.Group[key, T]

// question is a question that is being asked. Its task ends with the cache, or, unless
// CacheOptions.FinishFetches is set, when no caller waits for the answer any more.
type question[T any] struct {
	flight.Result[T]
	cache *Cache
	task  task
	ask   func(*task) (T, error)
}

// share returns what ask returns for k, or what it returns to another caller that asks
// for the same at the same time. Each caller waits until its own context ends.
func share[T any](ctx context.Context, c *Cache, g *group[T], k key, ask func(*task) (T, error)) (T, error) {
	return g.Join(ctx, k, func() (flight.Call[T], error) {
		if err := c.startWork(); err != nil {
			return nil, err
		}
		q := &question[T]{cache: c, ask: ask}
		c.watch.detach(ctx, &q.task)
		return q, nil
	})
}

// Run implements [flight.Call].
func (q *question[T]) Run() (T, error) {
	defer q.cache.working.Done()
	defer q.task.end()
	v, err := q.ask(&q.task)
	if err != nil && q.cache.ctx.Err() != nil {
		err = errClosed
	}
	return v, err
}

// Abandon implements [flight.Call].
func (q *question[T]) Abandon() { q.task.stop(nil) }
