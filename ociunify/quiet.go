package ociunify

import (
	"context"
	"io"
	"time"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
)

// quietReader reads content of the origin. If that says nothing for too long, the error
// is errStalled. Time in which nobody reads does not count.
type quietReader struct {
	ociregistry.BlobReader
	at   target
	desc ociregistry.Descriptor
	task task
}

// quiet returns a reader that has begun to wait for the origin to open the content, and
// is to be opened with its task.
func (c *Cache) quiet(ctx context.Context, at target) *quietReader {
	r := &quietReader{at: at}
	c.watch.begin(ctx, &r.task)
	r.task.wait(originIdle)
	return r
}

// opened returns r when the origin has answered, or its error.
func (r *quietReader) opened(rd ociregistry.BlobReader, err error) (*quietReader, error) {
	r.task.waited(time.Time{})
	if err != nil {
		defer r.task.end()
		return nil, r.at.stalledOr(&r.task, err)
	}
	r.BlobReader, r.desc = rd, rd.Descriptor()
	r.task.reads(rd)
	return r, nil
}

func (r *quietReader) Descriptor() ociregistry.Descriptor { return r.desc }

func (r *quietReader) Read(p []byte) (int, error) {
	before := r.task.wait(originIdle)
	n, err := r.BlobReader.Read(p)
	r.task.waited(before)
	if err != nil && err != io.EOF {
		err = r.at.stalledOr(&r.task, err)
	}
	return n, err
}

func (r *quietReader) Close() error {
	r.task.end()
	return r.BlobReader.Close()
}

// WriteTo implements [io.WriterTo].
func (r *quietReader) WriteTo(w io.Writer) (int64, error) { return copyBuffered(w, r) }

// Verified implements [verified.Reader].
func (r *quietReader) Verified() verified.State { return verified.By(r.BlobReader) }
