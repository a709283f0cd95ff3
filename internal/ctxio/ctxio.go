// Package ctxio reads until a context ends.
package ctxio

import (
	"context"
	"io"
)

// ReadFull is like [io.ReadFull], but returns io.EOF whenever r ends early, and stops
// when ctx ends. It notices that between two reads.
func ReadFull(ctx context.Context, r io.Reader, p []byte) (n int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
		if err == nil && ctx.Err() != nil {
			err = ctx.Err()
		}
	}
	return n, err
}
