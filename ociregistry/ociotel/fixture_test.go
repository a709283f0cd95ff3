package ociotel_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/seed-40b21970/oci/ociregistry/ociotel"
)

// telemetry has what was observed.
type telemetry struct {
	t       testing.TB
	spans   *tracetest.InMemoryExporter
	metrics *metric.ManualReader
	opts    *ociotel.Options
}

func newTelemetry(t testing.TB) *telemetry {
	o := &telemetry{t: t, spans: tracetest.NewInMemoryExporter(), metrics: metric.NewManualReader()}
	o.opts = &ociotel.Options{
		TracerProvider: trace.NewTracerProvider(trace.WithSyncer(o.spans)),
		MeterProvider:  metric.NewMeterProvider(metric.WithReader(o.metrics)),
		Propagators:    propagation.TraceContext{},
	}
	return o
}

// took returns the spans that have ended since the last call of took, one a line: the name, the
// status if the span has failed, and the attributes in order of their keys.
func (o *telemetry) took() string {
	var lines []string
	for _, s := range o.spans.GetSpans() {
		words := []string{s.Name}
		if s.Status.Code.String() != "Unset" {
			words = append(words, s.Status.Code.String())
		}
		lines = append(lines, strings.Join(append(words, texts(attribute.NewSet(s.Attributes...))...), " "))
	}
	o.spans.Reset()
	return strings.Join(lines, "\n")
}

// only returns the only span that has ended since the last call of took.
func (o *telemetry) only() tracetest.SpanStub {
	o.t.Helper()
	spans := o.spans.GetSpans()
	qt.Assert(o.t, qt.HasLen(spans, 1))
	o.spans.Reset()
	return spans[0]
}

// attr returns an attribute of a span as text, or "" if it has none.
func attr(s tracetest.SpanStub, key attribute.Key) string {
	set := attribute.NewSet(s.Attributes...)
	v, _ := set.Value(key)
	return v.String()
}

func texts(set attribute.Set) []string {
	var list []string
	for _, a := range set.ToSlice() {
		list = append(list, fmt.Sprintf("%s=%s", a.Key, a.Value.String()))
	}
	return list
}

// points returns the points of a metric, each as its attributes and its sum or, for a histogram,
// its count.
func (o *telemetry) points(name string) []string {
	o.t.Helper()
	var all metricdata.ResourceMetrics
	qt.Assert(o.t, qt.IsNil(o.metrics.Collect(o.t.Context(), &all)))
	var points []string
	add := func(set attribute.Set, n any) {
		points = append(points, strings.Join(append(texts(set), fmt.Sprint(n)), " "))
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != name {
				continue
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					add(p.Attributes, p.Value)
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					add(p.Attributes, p.Count)
				}
			default:
				o.t.Fatalf("%s is a %T", name, m.Data)
			}
		}
	}
	slices.Sort(points)
	return points
}
