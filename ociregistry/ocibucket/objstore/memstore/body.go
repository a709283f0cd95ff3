package memstore

import (
	"context"
	"io"
)

// body is an object's body that ends with its context, and may break off.
type body struct {
	ctx    context.Context // of the Get, which bounds the body's life
	rc     io.ReadCloser
	breaks bool
	left   int64 // until it breaks off
}

func (b *body) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	if !b.breaks {
		return b.rc.Read(p)
	}
	if b.left <= 0 {
		return 0, errLost
	}
	n, err := b.rc.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

func (b *body) Close() error { return b.rc.Close() }
