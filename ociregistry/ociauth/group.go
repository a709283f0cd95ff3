package ociauth

import (
	"context"
	"sync"
)

// group makes those who want the same thing at the same time share one call for
// it.
type group[K comparable, V any] struct {
	mu    sync.Mutex
	calls map[K]*call[V]
}

// call is a call that goes on. It goes on while anybody waits for it.
type call[V any] struct {
	waiters int // guarded by the group's mu
	cancel  context.CancelFunc
	done    chan struct{} // closed when value and err are set
	value   V
	err     error
}

// do returns what fn returns, or what it returned to another who called do with
// the same key in the meantime. If ctx ends first, it returns the cause at once.
// The context that fn is given has the values of the first caller's, and ends
// when nobody waits any more.
func (g *group[K, V]) do(ctx context.Context, key K, fn func(context.Context) (V, error)) (V, error) {
	g.mu.Lock()
	c := g.calls[key]
	if c == nil {
		c = g.start(ctx, key, fn)
	}
	c.waiters++
	g.mu.Unlock()
	select {
	case <-c.done:
		return c.value, c.err
	case <-ctx.Done():
		g.leave(key, c)
		var zero V
		return zero, context.Cause(ctx)
	}
}

// start starts a call. The caller holds g.mu.
func (g *group[K, V]) start(ctx context.Context, key K, fn func(context.Context) (V, error)) *call[V] {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := &call[V]{cancel: cancel, done: make(chan struct{})}
	if g.calls == nil {
		g.calls = make(map[K]*call[V])
	}
	g.calls[key] = c
	go func() {
		defer cancel()
		c.value, c.err = fn(ctx)
		g.mu.Lock()
		g.forget(key, c)
		g.mu.Unlock()
		close(c.done)
	}()
	return c
}

// leave is for a caller that does not wait any more. A call that nobody waits
// for is ended, and nobody can come to wait for it.
func (g *group[K, V]) leave(key K, c *call[V]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.waiters--
	if c.waiters == 0 {
		g.forget(key, c)
		c.cancel()
	}
}

// forget lets the next caller start a new call. The caller holds g.mu.
func (g *group[K, V]) forget(key K, c *call[V]) {
	if g.calls[key] == c {
		delete(g.calls, key)
	}
}
