// Package ocidebug logs and times every call of a registry.
//
// [New] returns a registry that passes all calls on to another one, and writes a record
// of each call when it has ended:
//
//	msg=ResolveTag repository=app tag=v1 digest=sha256:2cf2… size=524 mediaType=… duration=1.7ms
//	msg=GetBlob repository=app digest=sha256:9f86… size=31337 duration=210µs
//	msg=BlobReader.Close repository=app digest=sha256:9f86… bytes=31337 duration=45ms
//	msg=Tags repository=app count=3 duration=64µs
//
// The message is the name of the method. A call that returns a reader or a writer has
// another record for the end of that, with the number of bytes and the time since the
// call. The record of a list is written when the loop over it ends, and has the number of
// elements. Its time includes the time in the body of the loop.
//
// Records have the level Info, even for errors with the code of a registry, such as that
// of an unknown blob. Other errors, for instance of networks, storage and contexts, have
// the level Warn.
//
// No record contains content. Records contain a hash in place of an upload id, which is as
// good as a password while the upload is open. Error messages are logged without what looks
// like the query of a URL.
package ocidebug

import (
	"bytes"
	"context"
	"errors"
	"log"
	"log/slog"
	"slices"
	"time"

	"github.com/seed-40b21970/oci/internal/uploadid"
	"github.com/seed-40b21970/oci/ociregistry"
)

// New returns a registry that passes all calls on to r and logs each of them by logf. The
// arguments of logf are the format "%s" and a line without a line feed. It is called by
// one goroutine at a time. A nil logf means [log.Printf].
func New(r ociregistry.Interface, logf func(f string, a ...any)) ociregistry.Interface {
	if logf == nil {
		logf = log.Printf
	}
	return NewWithLogger(r, slog.New(slog.NewTextHandler(lineWriter(logf), &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
				return slog.Attr{} // functions such as log.Printf add their own
			}
			return a
		},
	})))
}

// lineWriter adapts a log function to the writer of a [slog.TextHandler], which calls
// Write once for each record.
type lineWriter func(f string, a ...any)

func (logf lineWriter) Write(line []byte) (int, error) {
	logf("%s", bytes.TrimSuffix(line, []byte("\n")))
	return len(line), nil
}

// NewWithLogger is like [New], with a structured logger. Records are written with the
// contexts of their calls. A nil logger means [slog.Default].
func NewWithLogger(r ociregistry.Interface, logger *slog.Logger) ociregistry.Interface {
	if logger == nil {
		logger = slog.Default()
	}
	return &registry{r: r, log: logger}
}

type registry struct {
	*ociregistry.Funcs
	r   ociregistry.Interface
	log *slog.Logger
}

// call is a call in progress, or an open reader or writer.
type call struct {
	ctx    context.Context
	log    *slog.Logger
	start  time.Time
	attrs  []slog.Attr // of all records
	upload string      // id of the upload session, or empty
}

// begin begins a call. It omits attributes with empty strings.
func (r *registry) begin(ctx context.Context, attrs ...slog.Attr) *call {
	c := &call{ctx: ctx, log: r.log, start: time.Now()}
	for _, a := range attrs {
		if a.Value.Kind() != slog.KindString || a.Value.String() != "" {
			c.attrs = append(c.attrs, a)
		}
	}
	return c
}

// end writes a record of the call, with further attributes.
func (c *call) end(op string, err error, attrs ...slog.Attr) {
	level := slog.LevelInfo
	attrs = append(attrs, slog.Duration("duration", time.Since(c.start)))
	if err != nil {
		attrs = append(attrs, slog.String("error", c.redact(err.Error())))
		if !errors.As(err, new(ociregistry.Error)) {
			level = slog.LevelWarn
		}
	}
	c.log.LogAttrs(c.ctx, level, op, slices.Concat(c.attrs, attrs)...)
}

// endWith writes a record of a call that returned a descriptor.
func (c *call) endWith(op string, err error, desc ociregistry.Descriptor) {
	if err != nil {
		c.end(op, err)
		return
	}
	var attrs []slog.Attr
	for _, a := range []slog.Attr{
		slog.String("digest", string(desc.Digest)),
		slog.Int64("size", desc.Size),
		slog.String("mediaType", desc.MediaType),
	} {
		if !slices.ContainsFunc(c.attrs, func(b slog.Attr) bool { return a.Key == b.Key }) {
			attrs = append(attrs, a)
		}
	}
	c.end(op, nil, attrs...)
}

// ofUpload adds an upload session to the call. A hash of the id identifies the records of
// the session.
func (c *call) ofUpload(id string) {
	c.upload = id
	c.attrs = append(c.attrs, slog.String("upload", uploadid.Hash(id)))
}

// redact returns an error message without the upload id and without queries.
func (c *call) redact(msg string) string {
	return uploadid.RedactQueries(uploadid.Redact(msg, c.upload))
}
