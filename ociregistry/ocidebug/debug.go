// Package ocidebug logs and times every call of a registry.
//
// [New] returns a registry that passes all calls on to another and writes a
// record of each, when it has ended:
//
//	msg=ResolveTag repo=app tag=v1 digest=sha256:2cf2… size=524 mediaType=… duration=1.7ms
//	msg=GetBlob repo=app digest=sha256:9f86… size=31337 duration=210µs
//	msg=BlobReader.Close repo=app digest=sha256:9f86… bytes=31337 duration=45ms
//	msg=Tags repo=app count=3 duration=64µs
//
// The message is the method's name. A call that returns a reader or a writer has
// one more record for the end of that, with the bytes that were moved, and the
// time since the call. The record of a list is written when the loop over it
// ends, with the number of elements; its time includes that of the loop's body.
//
// Records have the level Info, also for errors that have a registry's code: that
// a blob is not there is an answer as good as another. Other errors, those of
// networks, storage and contexts, have the level Warn.
//
// No record has content. Upload ids are as good as passwords while an upload is
// open; records have a hash of them instead. What looks like the query of a URL
// is cut out of error messages.
package ocidebug

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// New returns a registry that does what r does and logs every call by logf: a
// line without a line feed as the argument of the format "%s". The function is
// called by one goroutine at a time. If it is nil, it is [log.Printf].
func New(r ociregistry.Interface, logf func(f string, a ...any)) ociregistry.Interface {
	if logf == nil {
		logf = log.Printf
	}
	return NewWithLogger(r, slog.New(slog.NewTextHandler(lineWriter(logf), &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
				return slog.Attr{} // whoever logs lines has their own
			}
			return a
		},
	})))
}

// lineWriter makes a log function of the writer that [slog.TextHandler] wants.
// The handler makes one call of Write for each record.
type lineWriter func(f string, a ...any)

func (logf lineWriter) Write(line []byte) (int, error) {
	logf("%s", bytes.TrimSuffix(line, []byte("\n")))
	return len(line), nil
}

// NewWithLogger is [New] with a structured logger. Records are written with the
// contexts of their calls. A nil logger is [slog.Default].
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

// call is a call that goes on, or a reader or writer that is open.
type call struct {
	ctx    context.Context
	log    *slog.Logger
	start  time.Time
	attrs  []slog.Attr // of all records
	upload string      // id of the upload session, or empty
}

// begin starts to time a call. Attributes with empty strings are left out.
func (r *registry) begin(ctx context.Context, attrs ...slog.Attr) *call {
	c := &call{ctx: ctx, log: r.log, start: time.Now()}
	for _, a := range attrs {
		if a.Value.Kind() != slog.KindString || a.Value.String() != "" {
			c.attrs = append(c.attrs, a)
		}
	}
	return c
}

// end writes a record of the call. More attributes may be given.
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

// ofUpload adds an upload session to the call. Its records can be told by a part
// of a hash of the id.
func (c *call) ofUpload(id string) {
	c.upload = id
	c.attrs = append(c.attrs, slog.String("upload", hashOf(id)))
}

func hashOf(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:4])
}

// minSecret is the least length of an upload id that is taken out of messages.
// A shorter one is no secret, and could be a part of any word.
const minSecret = 8

// redact returns an error's message without what should not be known.
func (c *call) redact(msg string) string {
	if len(c.upload) >= minSecret {
		msg = strings.ReplaceAll(msg, c.upload, hashOf(c.upload))
	}
	var b strings.Builder
	for {
		before, query, found := strings.Cut(msg, "?")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		end := strings.IndexAny(query, " \t\r\n\"'`<>")
		if end < 0 {
			end = len(query)
		}
		if strings.Contains(query[:end], "=") {
			b.WriteString("?…")
		} else {
			b.WriteString("?" + query[:end])
		}
		msg = query[end:]
	}
}
