package ociunify

import (
	"context"
	"io"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// openQuiet opens content of the origin. If that says nothing for too long, before or
// while the content is read, the error is errStalled. Time in which nobody reads does
// not count. The end of the context ends a Read.
func openQuiet(ctx context.Context, at target, open func(context.Context) (ociregistry.BlobReader, error)) (ociregistry.BlobReader, error) {
	ctx, quiet := newSilence(ctx, originIdle)
	rd, err := open(ctx)
	if err != nil {
		defer quiet.end()
		return nil, at.stalledOr(ctx, err)
	}
	quiet.stop()
	return &quietReader{rd, at, ctx, quiet, context.AfterFunc(ctx, func() { rd.Close() })}, nil
}

type quietReader struct {
	ociregistry.BlobReader
	at    target
	ctx   context.Context
	quiet *silence
	still func() bool // the reader is not to be closed when the context ends
}

func (r *quietReader) Read(p []byte) (int, error) {
	r.quiet.begin()
	n, err := r.BlobReader.Read(p)
	r.quiet.stop()
	if err != nil && err != io.EOF {
		err = r.at.stalledOr(r.ctx, err)
	}
	return n, err
}

func (r *quietReader) Close() error {
	r.still()
	r.quiet.end()
	return r.BlobReader.Close()
}

// WriteTo implements [io.WriterTo].
func (r *quietReader) WriteTo(w io.Writer) (int64, error) { return copyBuffered(w, r) }

// Verified implements [verified.Reader].
func (r *quietReader) Verified() verified.State { return verified.By(r.BlobReader) }
