package ociotel_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-quicktest/qt"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociotel"
	"github.com/seed-40b21970/oci/ociserver"
)

// variants are a registry in memory with the blob hello: bare, observed by providers that do
// nothing, and by those of the SDK without exporters.
func variants(b *testing.B) map[string]func() (ociregistry.Interface, *ociotel.Options) {
	mem := ocimem.New()
	pushHello(b, mem, "foo")
	observed := func(opts *ociotel.Options) func() (ociregistry.Interface, *ociotel.Options) {
		return func() (ociregistry.Interface, *ociotel.Options) { return ociotel.New(mem, opts), opts }
	}
	return map[string]func() (ociregistry.Interface, *ociotel.Options){
		"bare": func() (ociregistry.Interface, *ociotel.Options) { return mem, nil },
		"noop": observed(&ociotel.Options{TracerProvider: tracenoop.NewTracerProvider(), MeterProvider: metricnoop.NewMeterProvider()}),
		"sdk": observed(&ociotel.Options{
			TracerProvider: trace.NewTracerProvider(),
			MeterProvider:  metric.NewMeterProvider(metric.WithReader(metric.NewManualReader())),
		}),
	}
}

func BenchmarkResolveBlob(b *testing.B) {
	for name, variant := range variants(b) {
		b.Run(name, func(b *testing.B) {
			r, _ := variant()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.ResolveBlob(b.Context(), "foo", helloDigest); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkGetBlob(b *testing.B) {
	for name, variant := range variants(b) {
		b.Run(name, func(b *testing.B) {
			r, _ := variant()
			b.ReportAllocs()
			for b.Loop() {
				rd, err := r.GetBlob(b.Context(), "foo", helloDigest)
				if err != nil {
					b.Fatal(err)
				}
				io.Copy(io.Discard, rd)
				rd.Close()
			}
		})
	}
}

// BenchmarkHandler is a GET of a blob without a network.
func BenchmarkHandler(b *testing.B) {
	for name, variant := range variants(b) {
		b.Run(name, func(b *testing.B) {
			r, opts := variant()
			h := ociserver.New(r, nil)
			if opts != nil {
				h = ociotel.Handler(h, opts)
			}
			req := httptest.NewRequest("GET", "/v2/foo/blobs/"+string(helloDigest), nil)
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, req)
				qt.Assert(b, qt.Equals(w.Code, http.StatusOK))
			}
		})
	}
}
