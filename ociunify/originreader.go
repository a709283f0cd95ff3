package ociunify

import (
	"context"
	"io"
	"time"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// originReader reads content from the origin. If the origin sends nothing for
// originIdle, the error is errStalled. Time in which nobody reads does not count.
type originReader struct {
	ociregistry.BlobReader
	at   call.Call
	desc ociregistry.Descriptor
	task task
}

// newOriginReader returns a reader that waits for the origin to open the content. The
// caller opens the content with the task of the reader, and calls opened.
func (c *Cache) newOriginReader(ctx context.Context, at call.Call) *originReader {
	r := &originReader{at: at}
	c.watch.start(ctx, &r.task)
	r.task.wait(originIdle)
	return r
}

// opened returns r with what the origin returned, or an error.
func (r *originReader) opened(rd ociregistry.BlobReader, err error) (*originReader, error) {
	r.task.waited(time.Time{})
	if err != nil {
		defer r.task.end()
		return nil, stalledOr(&r.task, r.at, err)
	}
	r.BlobReader, r.desc = rd, rd.Descriptor()
	r.task.reads(rd)
	return r, nil
}

func (r *originReader) Descriptor() ociregistry.Descriptor { return r.desc }

func (r *originReader) Read(p []byte) (int, error) {
	before := r.task.wait(originIdle)
	n, err := r.BlobReader.Read(p)
	r.task.waited(before)
	if err != nil && err != io.EOF {
		err = stalledOr(&r.task, r.at, err)
	}
	return n, err
}

func (r *originReader) Close() error {
	r.task.end()
	return r.BlobReader.Close()
}

// WriteTo implements [io.WriterTo].
func (r *originReader) WriteTo(w io.Writer) (int64, error) { return copyBuffered(w, r) }

// Verified implements [verified.Reader].
func (r *originReader) Verified() verified.State { return verified.By(r.BlobReader) }
