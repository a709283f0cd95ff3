package ociserver

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// storeGrace is how long what has come of an upload may take to be stored when
// the request has ended.
const storeGrace = 10 * time.Second

// outlasting is a context that ends somewhat later than a request's. That ends as
// soon as the client's connection breaks, and what came before is worth keeping:
// the client can continue from there. To read more is not tried.
//
// Most uploads do not get that far, so there is nothing but the request's context
// until somebody waits for the end, or it has come.
type outlasting struct {
	request context.Context
	over    atomic.Bool // end was called

	once   sync.Once
	ctx    context.Context
	cancel context.CancelFunc
	stop   func() bool
}

func outlast(request context.Context) *outlasting { return &outlasting{request: request} }

// later returns the context that ends later.
func (c *outlasting) later() context.Context {
	c.once.Do(func() {
		c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(c.request))
		c.stop = context.AfterFunc(c.request, func() { time.AfterFunc(storeGrace, c.cancel) })
	})
	return c.ctx
}

// end ends the context, and frees what it holds.
func (c *outlasting) end() {
	c.over.Store(true) // before Done tells it
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
	if c.request.Err() == nil && !c.over.Load() {
		return nil
	}
	return c.later().Err()
}

// AfterFunc saves package context a goroutine for each context that derives from
// this one.
func (c *outlasting) AfterFunc(f func()) (stop func() bool) { return context.AfterFunc(c.later(), f) }
