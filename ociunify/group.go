package ociunify

import (
	"context"
	"sync"
)

// group lets callers that ask for the same thing at the same time share one
// answer.
type group[T any] struct {
	mu    sync.Mutex
	calls map[key]*call[T]
}

type call[T any] struct {
	done    chan struct{} // closed when v and err are there
	v       T
	err     error
	waiting int
	task    task
}

// do returns what ask returns for k. It is called in a goroutine of its own with
// a task that ends with the cache, or, unless fetches are to be finished, when
// nobody waits for the answer any more. Each caller waits until its own context
// ends.
func (g *group[T]) do(ctx context.Context, c *Cache, k key, ask func(*task) (T, error)) (v T, err error) {
	if err := ctx.Err(); err != nil {
		return v, err
	}
	g.mu.Lock()
	cl := g.calls[k]
	if cl == nil {
		if cl, err = g.begin(ctx, c, k, ask); err != nil {
			g.mu.Unlock()
			return v, err
		}
	}
	cl.waiting++
	g.mu.Unlock()
	select {
	case <-cl.done:
		return cl.v, cl.err
	case <-ctx.Done():
		g.leave(c, k, cl)
		return v, ctx.Err()
	}
}

func (g *group[T]) begin(ctx context.Context, c *Cache, k key, ask func(*task) (T, error)) (*call[T], error) {
	if err := c.begin(); err != nil {
		return nil, err
	}
	cl := &call[T]{done: make(chan struct{})}
	c.watch.detach(ctx, &cl.task)
	if g.calls == nil {
		g.calls = make(map[key]*call[T])
	}
	g.calls[k] = cl
	go func() {
		defer c.working.Done()
		defer cl.task.end()
		cl.v, cl.err = ask(&cl.task)
		if cl.err != nil && c.ctx.Err() != nil {
			cl.err = errClosed
		}
		g.forget(k, cl)
		close(cl.done)
	}()
	return cl, nil
}

// leave is called by who waits no longer.
func (g *group[T]) leave(c *Cache, k key, cl *call[T]) {
	g.mu.Lock()
	cl.waiting--
	abandoned := cl.waiting == 0 && !c.opts.FinishFetches
	if abandoned && g.calls[k] == cl {
		delete(g.calls, k) // who asks now asks anew
	}
	g.mu.Unlock()
	if abandoned {
		cl.task.stop(nil)
	}
}

func (g *group[T]) forget(k key, cl *call[T]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.calls[k] == cl {
		delete(g.calls, k)
	}
}
