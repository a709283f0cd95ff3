package ociotel

import (
	"context"
	"net"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed-40b21970/oci/internal/uploadid"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Scope is the name of the instrumentation scope of all spans and metrics, except those of
// package otelhttp.
const Scope = "github.com/seed-40b21970/oci/ociregistry/ociotel"

// Options has the settings of this package. The zero value is ready to use.
type Options struct {
	// TracerProvider has the tracer. Nil means [otel.GetTracerProvider].
	TracerProvider trace.TracerProvider

	// MeterProvider has the meter. Nil means [otel.GetMeterProvider].
	MeterProvider metric.MeterProvider

	// Propagators take contexts of spans from requests and put them there, in [Handler] and
	// [Transport]. Nil means [otel.GetTextMapPropagator].
	Propagators propagation.TextMapPropagator

	// Server is the host of the registry, with or without a port, for server.address and
	// server.port. It tells several registries of one program apart. Empty means none.
	Server string

	// Repositories adds the repository, as container.image.name, to the attributes of
	// metrics. That is one time series for each repository that anyone asks for, whether it
	// exists or not: set it only if the names are few and known.
	Repositories bool
}

// settings are Options in use.
type settings struct {
	tracer       trace.Tracer
	meter        metric.Meter
	common       []attribute.KeyValue // of all spans and metrics
	repositories bool
	sets         attributeSets
}

func newSettings(opts *Options) *settings {
	if opts == nil {
		opts = &Options{}
	}
	tracers, meters := opts.TracerProvider, opts.MeterProvider
	if tracers == nil {
		tracers = otel.GetTracerProvider()
	}
	if meters == nil {
		meters = otel.GetMeterProvider()
	}
	s := &settings{
		tracer:       tracers.Tracer(Scope, trace.WithSchemaURL(semconv.SchemaURL)),
		meter:        meters.Meter(Scope, metric.WithSchemaURL(semconv.SchemaURL)),
		repositories: opts.Repositories,
	}
	if opts.Server != "" {
		host, port, err := net.SplitHostPort(opts.Server)
		if err != nil {
			host = opts.Server
		}
		s.common = append(s.common, semconv.ServerAddress(host))
		if n, err := strconv.Atoi(port); err == nil {
			s.common = append(s.common, semconv.ServerPort(n))
		}
	}
	return s
}

// New returns a registry that passes all calls on to r, with a span and metrics for each. The
// context that r gets has the span. Nil opts are the zero Options.
//
// The registry implements [ocigc.Collector] and [ociregistry.UsageReporter] if r does. What r
// returns is verified through it if it is without it. Other methods of the type of r are those of
// r alone.
func New(r ociregistry.Interface, opts *Options) ociregistry.Interface {
	s := newSettings(opts)
	return wrap(r, s, newCallInstruments(s))
}

type registry struct {
	*ociregistry.Funcs
	r ociregistry.Interface
	*settings
	instruments *callInstruments
}

// call is a call in progress, or an open reader or writer.
type call struct {
	r      *registry
	ctx    context.Context // with the span
	span   trace.Span
	method string
	repo   string
	upload string // id of the upload session, or empty
	start  time.Time
	failed error // of a Commit, while the writer is open
	ended  bool

	returned bool // from the registry
}

// prefix is that of the names of spans, before the name of the method.
const prefix = "ociregistry."

// begin begins a call, whose span has the given name.
func (r *registry) begin(ctx context.Context, name, repo string) *call {
	c := &call{r: r, method: strings.TrimPrefix(name, prefix), repo: repo, start: time.Now()}
	c.ctx, c.span = r.tracer.Start(ctx, name)
	if c.span.IsRecording() {
		c.span.SetAttributes(r.common...)
		if repo != "" {
			c.span.SetAttributes(semconv.ContainerImageName(repo))
		}
	}
	return c
}

// since returns the time since the call began.
func (c *call) since() time.Duration { return time.Since(c.start) }

func (c *call) blob(d ociregistry.Digest) {
	if c.span.IsRecording() {
		c.span.SetAttributes(attribute.String("oci.blob.digest", string(d)))
	}
}

func (c *call) manifest(d ociregistry.Digest) {
	if c.span.IsRecording() {
		c.span.SetAttributes(semconv.OCIManifestDigest(string(d)))
	}
}

func (c *call) tag(tags ...string) {
	if c.span.IsRecording() {
		c.span.SetAttributes(semconv.ContainerImageTags(tags...))
	}
}

// found adds the descriptor that a call for a manifest returned.
func (c *call) found(desc ociregistry.Descriptor) {
	if c.span.IsRecording() {
		c.span.SetAttributes(
			semconv.OCIManifestDigest(string(desc.Digest)),
			attribute.Int64("oci.content.size", desc.Size),
			attribute.String("oci.content.media_type", desc.MediaType))
	}
}

// size adds the size of a blob.
func (c *call) size(n int64) {
	if c.span.IsRecording() {
		c.span.SetAttributes(attribute.Int64("oci.content.size", n))
	}
}

// end ends a call.
func (c *call) end(err error) {
	c.record(c.method, err)
	c.finish(err)
}

// unwound, which must be deferred, ends a call that the registry did not return from.
func (c *call) unwound() {
	if !c.returned {
		c.end(errPanic)
	}
}

// record records how long a method took.
func (c *call) record(method string, err error) {
	c.returned = true
	c.r.instruments.call(c.ctx, method, c.repo, c.since(), err)
}

// finish ends the span.
func (c *call) finish(err error) {
	if err != nil && c.span.IsRecording() {
		c.span.SetAttributes(semconv.ErrorTypeKey.String(errorType(err)))
		if !isAnswer(err) {
			c.span.SetStatus(codes.Error, uploadid.RedactQueries(uploadid.Redact(err.Error(), c.upload)))
		}
	}
	c.span.End()
}
