// Package flight lets concurrent callers that want the same thing share one call.
package flight

import (
	"context"
	"sync"
)

// A Group shares calls by key. The zero value is ready to use, and safe for concurrent
// use.
type Group[K comparable, V any] struct {
	// Finish keeps a call running after all callers have left, and lets new ones join
	// it. Otherwise the call is abandoned, and the next caller starts a new one.
	Finish bool

	mu    sync.Mutex
	calls map[K]Call[V]
}

// A Call runs once for all callers that want the same thing. It embeds a [Result].
type Call[V any] interface {
	// Run makes the call, in a goroutine of its own.
	Run() (V, error)

	// Abandon asks Run to return early, since nobody waits for the result. It may
	// be called at any time, also after Run has returned.
	Abandon()

	result() *Result[V]
}

// A Result is the part of a [Call] that its group needs. The zero value is ready to use.
type Result[V any] struct {
	callers int           // that wait; guarded by the group's mu
	done    chan struct{} // closed when value and err are set
	value   V
	err     error
}

func (r *Result[V]) result() *Result[V] { return r }

// Join waits for the call with a key, and returns its result. If there is none, Join
// starts the one that start returns; an error of start is returned to this caller only.
// If ctx ends first, Join returns the cause at once.
func (g *Group[K, V]) Join(ctx context.Context, key K, start func() (Call[V], error)) (V, error) {
	var zero V
	if ctx.Err() != nil {
		return zero, context.Cause(ctx)
	}
	g.mu.Lock()
	c := g.calls[key]
	if c == nil {
		var err error
		if c, err = start(); err != nil {
			g.mu.Unlock()
			return zero, err
		}
		g.run(key, c)
	}
	r := c.result()
	r.callers++
	g.mu.Unlock()
	select {
	case <-r.done:
		return r.value, r.err
	case <-ctx.Done():
		g.leave(key, c)
		return zero, context.Cause(ctx)
	}
}

// run starts a call. The caller holds g.mu.
func (g *Group[K, V]) run(key K, c Call[V]) {
	r := c.result()
	r.done = make(chan struct{})
	if g.calls == nil {
		g.calls = make(map[K]Call[V])
	}
	g.calls[key] = c
	go func() {
		r.value, r.err = c.Run()
		g.mu.Lock()
		g.remove(key, c)
		g.mu.Unlock()
		close(r.done)
	}()
}

// leave counts a caller out, and abandons the call if it was the last one.
func (g *Group[K, V]) leave(key K, c Call[V]) {
	g.mu.Lock()
	r := c.result()
	r.callers--
	abandoned := r.callers == 0 && !g.Finish
	if abandoned {
		g.remove(key, c)
	}
	g.mu.Unlock()
	if abandoned {
		c.Abandon()
	}
}

// remove makes the next caller start a new call. The caller holds g.mu.
func (g *Group[K, V]) remove(key K, c Call[V]) {
	if g.calls[key] == c {
		delete(g.calls, key)
	}
}

// Do is [Group.Join] with a call of fn. The context of fn has the values of the first
// caller's context, and ends when the call is abandoned.
func (g *Group[K, V]) Do(ctx context.Context, key K, fn func(context.Context) (V, error)) (V, error) {
	return g.Join(ctx, key, func() (Call[V], error) {
		c := &funcCall[V]{fn: fn}
		c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
		return c, nil
	})
}

// funcCall is a call of a function.
type funcCall[V any] struct {
	Result[V]
	ctx    context.Context
	cancel context.CancelFunc
	fn     func(context.Context) (V, error)
}

func (c *funcCall[V]) Run() (V, error) {
	defer c.cancel()
	return c.fn(c.ctx)
}

func (c *funcCall[V]) Abandon() { c.cancel() }
