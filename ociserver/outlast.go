package ociserver

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// storeGrace is the time in which the received part of an upload must be stored after
// its request has ended.
const storeGrace = 10 * time.Second

// outlasting is a context that ends storeGrace after a request's context. The request's
// context ends as soon as the connection to the client breaks. What was received before
// should still be stored, because the client can continue the upload after it. Nothing
// more is read from the client.
//
// Most uploads succeed. So the second context is created only when something waits for
// the end of this one, or when the request has ended.
type outlasting struct {
	request context.Context
	ended   atomic.Bool // end was called

	once   sync.Once
	ctx    context.Context
	cancel context.CancelFunc
	stop   func() bool
}

func outlast(request context.Context) *outlasting { return &outlasting{request: request} }

// later returns the second context.
func (c *outlasting) later() context.Context {
	c.once.Do(func() {
		c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(c.request))
		c.stop = context.AfterFunc(c.request, func() { time.AfterFunc(storeGrace, c.cancel) })
	})
	return c.ctx
}

// end ends the context and releases its resources.
func (c *outlasting) end() {
	c.ended.Store(true) // before the channel of Done is closed
	c.once.Do(func() { c.ctx = ended })
	if c.cancel != nil {
		c.stop()
		c.cancel()
	}
}

// ended is a context that has ended.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

func (c *outlasting) Deadline() (time.Time, bool) { return time.Time{}, false }
func (c *outlasting) Value(key any) any           { return c.request.Value(key) }
func (c *outlasting) Done() <-chan struct{}       { return c.later().Done() }

func (c *outlasting) Err() error {
	if c.request.Err() == nil && !c.ended.Load() {
		return nil
	}
	return c.later().Err()
}

// AfterFunc saves package context a goroutine for each context that is derived from
// this one.
func (c *outlasting) AfterFunc(f func()) (stop func() bool) { return context.AfterFunc(c.later(), f) }
