package ociotel_test

import (
	"bufio"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry/ociotel"
	"github.com/seed-40b21970/oci/ociserver"
	"github.com/seed-40b21970/oci/ociunify"
)

// A cache of a registry that serves its metrics to Prometheus at /metrics.
func Example() {
	collected := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(collected), otelprometheus.WithoutScopeInfo())
	if err != nil {
		log.Fatal(err)
	}
	opts := &ociotel.Options{MeterProvider: metric.NewMeterProvider(metric.WithReader(exporter))}

	origin := ocimem.New() // in real life an ociclient, with an ociotel.Transport
	cache := ociunify.NewCache(ocimem.New(), origin, &ociunify.CacheOptions{OnLookup: ociotel.OnLookup(opts)})
	defer cache.Close()
	registry := ociserver.New(ociotel.New(cache, opts), &ociserver.Options{
		OnEvent:   ociotel.OnEvent(opts),
		OnFailure: ociotel.OnFailure(opts),
	})
	mux := http.NewServeMux()
	mux.Handle("/v2/", ociotel.Handler(registry, opts))
	mux.Handle("/metrics", promhttp.HandlerFor(collected, promhttp.HandlerOpts{}))
	srv := httptest.NewServer(mux)
	defer srv.Close()

	get := func(path string) *http.Response {
		resp, err := http.Get(srv.URL + path)
		if err != nil {
			log.Fatal(err)
		}
		return resp
	}
	get("/v2/app/manifests/v1").Body.Close() // there is none

	resp := get("/metrics")
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if line := lines.Text(); strings.HasPrefix(line, "oci_cache_lookups") || strings.HasPrefix(line, "oci_server_event_duration_seconds_count") {
			fmt.Println(line)
		}
	}
	// Output:
	// oci_cache_lookups_total{error_type="NAME_UNKNOWN",oci_cache_outcome="not_found",oci_content_kind="manifest",oci_method="GetTag"} 1
	// oci_server_event_duration_seconds_count{error_type="NAME_UNKNOWN",oci_action="pull",oci_content_kind="manifest"} 1
}
