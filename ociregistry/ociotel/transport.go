package ociotel

import (
	"net/http"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Transport returns a transport that has a span and the metrics of package otelhttp for each
// request, and sends them by base, or by [http.DefaultTransport] if that is nil. It belongs
// beneath an ociauth transport, so that it sees each request that is sent. Nil opts are the zero
// Options.
//
// Names and attributes of spans are as those of [Handler]. As the semantic conventions want it, a
// span has failed if the answer has the status 400 or more. The URLs in spans have no ids of
// upload sessions, and no queries of services other than the API, such as those of object storage
// to which a registry redirects.
func Transport(base http.RoundTripper, opts *Options) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return transport{otelhttp.NewTransport(unobserved{base}, httpOptions(opts)...)}
}

// transport gives package otelhttp requests with a URL that may be seen.
type transport struct{ observed http.RoundTripper }

func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	x := newExchange(req.Method, req.URL)
	return t.observed.RoundTrip(x.observed(req))
}

// unobserved sends requests with their own URL.
type unobserved struct{ base http.RoundTripper }

func (t unobserved) RoundTrip(req *http.Request) (*http.Response, error) {
	x := exchangeOf(req)
	if span := trace.SpanFromContext(req.Context()); span.IsRecording() {
		span.SetAttributes(x.attributes()...)
		if x.route != "" {
			span.SetAttributes(semconv.URLTemplate(x.route))
		}
	}
	own := req.WithContext(req.Context()) // that of package otelhttp keeps the URL that it has seen
	own.URL = x.url
	return t.base.RoundTrip(own)
}
