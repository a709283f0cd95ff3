package ociotel

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed-40b21970/oci/ociserver"
	"github.com/seed-40b21970/oci/ociunify"
)

// OnLookup returns a function for [ociunify.CacheOptions].OnLookup, which counts lookups. It also
// adds the outcome to the span in the context, which is that of the call if the cache is called
// through [New]. Nil opts are the zero Options.
func OnLookup(opts *Options) func(context.Context, ociunify.Lookup) {
	s := newSettings(opts)
	lookups := must(s.meter.Int64Counter("oci.cache.lookups", metric.WithUnit("{lookup}"),
		metric.WithDescription("Blobs, manifests and tags that a cache was asked for.")))
	return func(ctx context.Context, l ociunify.Lookup) {
		outcome := outcomeKey.String(string(l.Outcome))
		if span := trace.SpanFromContext(ctx); span.IsRecording() {
			span.SetAttributes(outcome)
		}
		if lookups.Enabled(ctx) {
			lookups.Add(ctx, 1, s.attributes(l.Repository, l.Err, outcome, kind(l.Manifest), methodKey.String(l.Method)))
		}
	}
}

// OnEvent returns a function for [ociserver.Options].OnEvent, which records how long requests
// took that succeeded, and the bytes of content that they moved. Nil opts are the zero Options.
func OnEvent(opts *Options) func(context.Context, ociserver.Event) {
	s := newSettings(opts)
	i := newEventInstruments(s)
	return func(ctx context.Context, e ociserver.Event) { i.record(ctx, e, nil) }
}

// OnFailure returns a function for [ociserver.Options].OnFailure, which does what that of
// [OnEvent] does for requests that failed. Nil opts are the zero Options.
func OnFailure(opts *Options) func(context.Context, ociserver.Event, error) {
	s := newSettings(opts)
	return newEventInstruments(s).record
}

type eventInstruments struct {
	settings *settings
	duration metric.Float64Histogram
	content  metric.Int64Counter
}

func newEventInstruments(s *settings) *eventInstruments {
	return &eventInstruments{
		settings: s,
		duration: must(s.meter.Float64Histogram("oci.server.event.duration", metric.WithUnit("s"), durations,
			metric.WithDescription("Duration of requests that pull, push, mount or delete."))),
		content: must(s.meter.Int64Counter("oci.server.content", metric.WithUnit("By"),
			metric.WithDescription("Bytes of content that requests moved."))),
	}
}

func (i *eventInstruments) record(ctx context.Context, e ociserver.Event, err error) {
	if !i.duration.Enabled(ctx) && !i.content.Enabled(ctx) {
		return
	}
	attrs := i.settings.attributes(e.Repository, err, actionKey.String(string(e.Action)), kind(e.Manifest))
	i.duration.Record(ctx, e.Duration.Seconds(), attrs)
	if e.Bytes > 0 {
		i.content.Add(ctx, e.Bytes, attrs)
	}
}

// kind returns the kind of content as an attribute.
func kind(manifest bool) attribute.KeyValue {
	if manifest {
		return kindKey.String("manifest")
	}
	return kindKey.String("blob")
}
