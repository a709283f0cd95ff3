package ociotel

import (
	"context"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Keys of the attributes of metrics that have none in the semantic conventions.
const (
	methodKey  = attribute.Key("oci.method")
	kindKey    = attribute.Key("oci.content.kind")
	outcomeKey = attribute.Key("oci.cache.outcome")
	actionKey  = attribute.Key("oci.action")
	dryRunKey  = attribute.Key("oci.gc.dry_run")
)

// durations are the bounds of histograms of durations, in seconds. Those of the semantic
// conventions begin at 5 ms, which is longer than most calls of a local registry take.
var durations = metric.WithExplicitBucketBoundaries(
	.00001, .000025, .0001, .00025, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

// must returns an instrument, which works as far as it can if there is an error.
func must[T any](instrument T, err error) T {
	if err != nil {
		otel.Handle(err)
	}
	return instrument
}

// callInstruments are the instruments of a registry.
type callInstruments struct {
	settings *settings
	duration metric.Float64Histogram
	read     metric.Int64Counter
	written  metric.Int64Counter
	uploads  metric.Int64UpDownCounter
}

func newCallInstruments(s *settings) *callInstruments {
	return &callInstruments{
		settings: s,
		duration: must(s.meter.Float64Histogram("oci.registry.call.duration", metric.WithUnit("s"), durations,
			metric.WithDescription("Duration of calls of a registry, and of its readers and writers."))),
		read: must(s.meter.Int64Counter("oci.registry.content.read", metric.WithUnit("By"),
			metric.WithDescription("Bytes of blobs and manifests that were read."))),
		written: must(s.meter.Int64Counter("oci.registry.content.written", metric.WithUnit("By"),
			metric.WithDescription("Bytes of blobs and manifests that were written."))),
		uploads: must(s.meter.Int64UpDownCounter("oci.registry.uploads.open", metric.WithUnit("{upload}"),
			metric.WithDescription("Writers of upload sessions that have not ended."))),
	}
}

func (i *callInstruments) call(ctx context.Context, method, repo string, took time.Duration, err error) {
	if i.duration.Enabled(ctx) {
		i.duration.Record(ctx, took.Seconds(), i.settings.attributes(repo, err, methodKey.String(method)))
	}
}

// moved counts bytes that a method has moved.
func (i *callInstruments) moved(ctx context.Context, counter metric.Int64Counter, method, repo string, n int64) {
	if n > 0 && counter.Enabled(ctx) {
		counter.Add(ctx, n, i.settings.attributes(repo, nil, methodKey.String(method)))
	}
}

// opened counts n more writers of upload sessions.
func (i *callInstruments) opened(ctx context.Context, repo string, n int64) {
	if i.uploads.Enabled(ctx) {
		i.uploads.Add(ctx, n, i.settings.attributes(repo, nil))
	}
}
