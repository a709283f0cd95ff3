package ociotel

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

// OnGC returns a function that records a collection: its report, which may be nil, how long it
// took, and its error. It is for those that [New] does not see, such as [ocigc.Retain]. Nil opts
// are the zero Options.
func OnGC(opts *Options) func(ctx context.Context, report *ocigc.Report, took time.Duration, err error) {
	s := newSettings(opts)
	return newGCInstruments(s).record
}

type gcInstruments struct {
	settings *settings
	duration metric.Float64Histogram
	removed  metric.Int64Counter
	size     metric.Int64Counter
	problems metric.Int64Counter
}

func newGCInstruments(s *settings) *gcInstruments {
	return &gcInstruments{
		settings: s,
		duration: must(s.meter.Float64Histogram("oci.gc.duration", metric.WithUnit("s"), durations,
			metric.WithDescription("Duration of garbage collections."))),
		removed: must(s.meter.Int64Counter("oci.gc.removed", metric.WithUnit("{object}"),
			metric.WithDescription("Tags, manifests, blobs and upload sessions that collections removed."))),
		size: must(s.meter.Int64Counter("oci.gc.removed.size", metric.WithUnit("By"),
			metric.WithDescription("Bytes of what collections removed, in each repository for itself."))),
		problems: must(s.meter.Int64Counter("oci.gc.problems", metric.WithUnit("{repository}"),
			metric.WithDescription("Repositories, or tags, that collections left alone because of an error."))),
	}
}

func (g *gcInstruments) record(ctx context.Context, report *ocigc.Report, took time.Duration, err error) {
	dryRun := dryRunKey.Bool(report != nil && report.DryRun)
	g.duration.Record(ctx, took.Seconds(), g.settings.attributes("", err, dryRun))
	if report == nil {
		return
	}
	for kind, n := range map[ocigc.Kind]int{
		ocigc.KindTag: report.Tags, ocigc.KindManifest: report.Manifests, ocigc.KindBlob: report.Blobs, ocigc.KindUpload: report.Uploads,
	} {
		g.removed.Add(ctx, int64(n), g.settings.attributes("", nil, dryRun, kindKey.String(string(kind))))
	}
	g.size.Add(ctx, report.Bytes, g.settings.attributes("", nil, dryRun))
	g.problems.Add(ctx, int64(len(report.Problems)), g.settings.attributes("", nil, dryRun))
}
