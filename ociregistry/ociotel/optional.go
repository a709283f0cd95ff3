package ociotel

import (
	"context"

	"go.opentelemetry.io/otel/attribute"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

// wrap returns a registry that observes r, and implements what r implements.
func wrap(r ociregistry.Interface, s *settings, i *callInstruments) ociregistry.Interface {
	base := &registry{r: r, settings: s, instruments: i}
	collects, canCollect := r.(ocigc.Collector)
	usage, knowsUsage := r.(ociregistry.UsageReporter)
	verifies, canVerify := r.(verified.Registry)
	gc := &collector{base, collects, newGCInstruments(s)}
	reporter := &usageReporter{base, usage}
	view := &verifier{r: base, of: verifies}
	switch {
	case canCollect && knowsUsage && canVerify:
		view.self = struct {
			*registry
			*collector
			*usageReporter
			*verifier
		}{base, gc, reporter, view}
	case canCollect && knowsUsage:
		return struct {
			*registry
			*collector
			*usageReporter
		}{base, gc, reporter}
	case canCollect && canVerify:
		view.self = struct {
			*registry
			*collector
			*verifier
		}{base, gc, view}
	case knowsUsage && canVerify:
		view.self = struct {
			*registry
			*usageReporter
			*verifier
		}{base, reporter, view}
	case canCollect:
		return struct {
			*registry
			*collector
		}{base, gc}
	case knowsUsage:
		return struct {
			*registry
			*usageReporter
		}{base, reporter}
	case canVerify:
		view.self = struct {
			*registry
			*verifier
		}{base, view}
	default:
		return base
	}
	return view.self
}

// collector implements [ocigc.Collector].
type collector struct {
	base     *registry
	collects ocigc.Collector
	gc       *gcInstruments
}

func (g *collector) GC(ctx context.Context, opts *ocigc.Options) (*ocigc.Report, error) {
	c := g.base.begin(ctx, prefix+"GC", "")
	defer c.unwound()
	report, err := g.collects.GC(c.ctx, opts)
	g.gc.record(c.ctx, report, c.since(), err)
	c.end(err)
	return report, err
}

// usageReporter implements [ociregistry.UsageReporter].
type usageReporter struct {
	base  *registry
	usage ociregistry.UsageReporter
}

func (u *usageReporter) Usage(ctx context.Context, below string) (int64, error) {
	c := u.base.begin(ctx, prefix+"Usage", "")
	defer c.unwound()
	if c.span.IsRecording() {
		c.span.SetAttributes(attribute.String("oci.usage.prefix", below))
	}
	n, err := u.usage.Usage(c.ctx, below)
	c.end(err)
	return n, err
}

// verifier implements [verified.Registry].
type verifier struct {
	r    *registry
	of   verified.Registry
	self ociregistry.Interface
}

func (v *verifier) Verified() ociregistry.Interface {
	view := v.of.Verified()
	if view == v.r.r { // which cannot be damaged
		return v.self
	}
	return wrap(view, v.r.settings, v.r.instruments)
}
