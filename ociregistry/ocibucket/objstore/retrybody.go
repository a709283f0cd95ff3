package objstore

import (
	"context"
	"errors"
	"io"
	"time"
)

func (r *retrier) Get(ctx context.Context, key string, rg Range) (*Object, error) {
	var watched *watch
	o, err := again(ctx, r, read, func(context.Context) (o *Object, err error) {
		watched = newWatch(ctx, r.opts.Timeout)
		if o, err = r.s.Get(watched.ctx, key, rg); err != nil {
			err = watched.end(err)
		}
		return o, err
	})
	if err != nil {
		return nil, err
	}
	watched.pause()
	o.Body = &resumed{ctx: ctx, r: r, info: o.Info, body: o.Body, watch: watched, offset: o.Offset, end: o.Offset + o.Length}
	return o, nil
}

// A watch is a context that ends when nothing came for a while.
type watch struct {
	ctx     context.Context
	cancel  context.CancelFunc
	timer   *time.Timer // nil if there is no limit
	timeout time.Duration
}

func newWatch(parent context.Context, timeout time.Duration) *watch {
	w := &watch{timeout: timeout}
	w.ctx, w.cancel = context.WithCancel(parent)
	if timeout > 0 {
		w.timer = time.AfterFunc(timeout, w.cancel)
	}
	return w
}

func (w *watch) pause() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *watch) resume() {
	if w.timer != nil {
		w.timer.Reset(w.timeout)
	}
}

// end ends the watch, and returns err, which is temporary if only the watch ended it.
func (w *watch) end(err error) error {
	w.pause()
	if w.ctx.Err() != nil && !errors.Is(err, ErrTemporary) {
		err = errors.Join(ErrTemporary, err)
	}
	w.cancel()
	return err
}

// resumed is a body that goes on with another Get where one broke off.
type resumed struct {
	ctx         context.Context // of the Get, which bounds the body's life
	r           *retrier
	info        Info
	body        io.ReadCloser
	watch       *watch
	offset, end int64
	err         error
}

func (b *resumed) Read(p []byte) (int, error) {
	for attempt := 1; b.err == nil; attempt++ {
		b.watch.resume()
		n, err := b.body.Read(p)
		b.watch.pause()
		b.offset += int64(n)
		if err == nil || err == io.EOF {
			b.err = err
			return n, err
		}
		b.body.Close()
		err = b.watch.end(err)
		b.err = err
		if attempt < b.r.opts.Attempts && errors.Is(err, ErrTemporary) && b.offset < b.end && b.r.wait(b.ctx, attempt, err) {
			b.err = b.reopen()
		}
		if n > 0 {
			return n, b.err
		}
	}
	return 0, b.err
}

// reopen gets what is missing, if the object is the same one.
func (b *resumed) reopen() error {
	o, err := b.r.Get(b.ctx, b.info.Key, Range{Offset: b.offset, Length: b.end - b.offset})
	if err != nil {
		return err
	}
	if o.ETag != b.info.ETag || o.Size != b.info.Size {
		o.Body.Close()
		return &Error{Op: "Get", Key: b.info.Key, Kind: ErrTemporary, Date: o.Date, Err: errors.New("the object was replaced while it was read")}
	}
	next := o.Body.(*resumed)
	b.body, b.watch = next.body, next.watch
	return nil
}

func (b *resumed) Close() error {
	b.watch.pause()
	b.watch.cancel()
	return b.body.Close()
}
