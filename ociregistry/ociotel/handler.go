package ociotel

import (
	"net/http"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Handler returns a handler that has a span and the metrics of package otelhttp for each request
// that h serves. Nil opts are the zero Options.
//
// The name of a span is made of the method and the pattern of the path, which is also the
// attribute http.route of spans and metrics, such as "GET /v2/{name}/blobs/{digest}". What the
// request names is in the attributes that [New] has. The id of an upload session is not in the
// span. A request whose answer was broken off has failed, with the error.type "aborted".
//
// Set Options.Server for a server that anyone can reach: without it, server.address is what
// the client says in its Host header, of which there can be any number in metrics.
//
// Paths are those of h: put Handler inside of an [http.StripPrefix]. What h sends from a file
// without copying it does not count for http.server.response.body.size; that of [OnEvent] counts
// it.
func Handler(h http.Handler, opts *Options) http.Handler {
	observed := otelhttp.NewHandler(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		x := exchangeOf(req)
		defer x.ended(req)
		req.URL = x.url
		span := trace.SpanFromContext(req.Context())
		if span.IsRecording() {
			span.SetAttributes(x.attributes()...)
			if x.route != "" {
				span.SetAttributes(semconv.HTTPRoute(x.route))
			}
		}
		h.ServeHTTP(w, req)
	}), "registry", httpOptions(opts)...)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		x := newExchange(req.Method, req.URL)
		observed.ServeHTTP(w, x.observed(req))
		if x.aborted {
			panic(http.ErrAbortHandler)
		}
	})
}

// ended, which must be deferred, gives a request back to package otelhttp. That records nothing
// if a handler panics: so ended recovers from the panic by which a handler breaks the connection.
func (x *exchange) ended(req *http.Request) {
	if x.route != "" {
		req.Pattern = x.route
	}
	v := recover()
	switch v {
	case nil:
		return
	case http.ErrAbortHandler:
	default:
		panic(v)
	}
	x.aborted = true
	aborted := semconv.ErrorTypeKey.String("aborted")
	span := trace.SpanFromContext(req.Context())
	span.SetAttributes(aborted)
	span.SetStatus(codes.Error, "the answer was broken off")
	if l, ok := otelhttp.LabelerFromContext(req.Context()); ok {
		l.Add(aborted)
	}
}

func httpOptions(opts *Options) []otelhttp.Option {
	if opts == nil {
		opts = &Options{}
	}
	all := []otelhttp.Option{otelhttp.WithSpanNameFormatter(func(_ string, req *http.Request) string {
		return exchangeOf(req).spanName(req.Method)
	})}
	if opts.Server != "" {
		all = append(all, otelhttp.WithServerName(opts.Server))
	}
	if opts.TracerProvider != nil {
		all = append(all, otelhttp.WithTracerProvider(opts.TracerProvider))
	}
	if opts.MeterProvider != nil {
		all = append(all, otelhttp.WithMeterProvider(opts.MeterProvider))
	}
	if opts.Propagators != nil {
		all = append(all, otelhttp.WithPropagators(opts.Propagators))
	}
	return all
}
