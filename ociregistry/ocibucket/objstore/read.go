package objstore

import (
	"bytes"
	"context"
	"io"
	"iter"
)

// ReadAll gets a whole object of at most max bytes. Errors: those of Get, and ErrTooLarge, before
// any of its bytes are read. It allocates what the object needs, as it comes.
func ReadAll(ctx context.Context, s Store, key string, max int64) ([]byte, Info, error) {
	o, err := s.Get(ctx, key, Range{})
	if err != nil {
		return nil, Info{}, err
	}
	defer o.Body.Close()
	if o.Size > max {
		return nil, Info{}, &Error{Op: "Get", Key: key, Kind: ErrTooLarge, Date: o.Date}
	}
	var buf bytes.Buffer
	if _, err := io.Copy(&buf, o.Body); err != nil {
		return nil, Info{}, err
	}
	return buf.Bytes(), o.Info, nil
}

// All returns the objects of a list, page after page. It ends with the first error.
// Common prefixes are left out.
func All(ctx context.Context, s Store, opts ListOptions) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		for {
			page, err := s.List(ctx, opts)
			if err != nil {
				yield(Info{}, err)
				return
			}
			for _, o := range page.Objects {
				if !yield(o, nil) {
					return
				}
			}
			if opts.Next = page.Next; opts.Next == "" {
				return
			}
		}
	}
}
