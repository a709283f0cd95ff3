package ociotel_test

import (
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
	"github.com/seed-40b21970/oci/ociregistry/ociotel"
	"github.com/seed-40b21970/oci/ociserver"
	"github.com/seed-40b21970/oci/ociunify"
)

func TestOnLookup_CountsOutcomes(t *testing.T) {
	t.Parallel()
	o := newTelemetry(t)
	origin := ocimem.New()
	pushHello(t, origin, "foo")
	cache := ociunify.NewCache(ocimem.New(), origin, &ociunify.CacheOptions{OnLookup: ociotel.OnLookup(o.opts)})
	r := ociotel.New(cache, o.opts)
	for range 3 {
		rd, err := r.GetBlob(t.Context(), "foo", helloDigest)
		qt.Assert(t, qt.IsNil(err))
		_, err = io.ReadAll(rd)
		qt.Assert(t, qt.IsNil(err))
		rd.Close()
		qt.Check(t, qt.Not(qt.Equals(attr(o.only(), "oci.cache.outcome"), "")))
	}
	_, err := r.ResolveTag(t.Context(), "foo", "v1")
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrManifestUnknown))
	qt.Check(t, qt.IsNil(cache.Close())) // the blob is kept by now
	rd, err := r.GetBlob(t.Context(), "foo", helloDigest)
	qt.Assert(t, qt.IsNil(err))
	rd.Close()
	counts := strings.Join(o.points("oci.cache.lookups"), "\n")
	qt.Check(t, qt.StringContains(counts, "oci.cache.outcome=fetched oci.content.kind=blob oci.method=GetBlob "))
	qt.Check(t, qt.StringContains(counts, "oci.cache.outcome=hit oci.content.kind=blob oci.method=GetBlob "))
	qt.Check(t, qt.StringContains(counts, "error.type=MANIFEST_UNKNOWN oci.cache.outcome=not_found oci.content.kind=manifest oci.method=ResolveTag 1"))
}

func TestOnEvent_RecordsSuccessesAndFailures(t *testing.T) {
	t.Parallel()
	o := newTelemetry(t)
	h := ociserver.New(ocimem.New(), &ociserver.Options{OnEvent: ociotel.OnEvent(o.opts), OnFailure: ociotel.OnFailure(o.opts)})
	do := func(method, target, body string) {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, target, strings.NewReader(body)))
	}
	do("POST", "/v2/foo/blobs/uploads/?digest="+string(helloDigest), hello)
	do("GET", "/v2/foo/blobs/"+string(helloDigest), "")
	do("GET", "/v2/foo/blobs/"+string(helloDigest), "")
	do("GET", "/v2/foo/blobs/"+string(absent), "")
	do("GET", "/v2/foo/manifests/v1", "")
	qt.Check(t, qt.DeepEquals(o.points("oci.server.event.duration"), []string{
		"error.type=BLOB_UNKNOWN oci.action=pull oci.content.kind=blob 1",
		"error.type=MANIFEST_UNKNOWN oci.action=pull oci.content.kind=manifest 1",
		"oci.action=pull oci.content.kind=blob 2",
		"oci.action=push oci.content.kind=blob 1",
	}))
	qt.Check(t, qt.DeepEquals(o.points("oci.server.content"), []string{
		"oci.action=pull oci.content.kind=blob 22",
		"oci.action=push oci.content.kind=blob 11",
	}))
	ociotel.OnFailure(o.opts)(context.Background(), ociserver.Event{Action: ociserver.ActionPull},
		ociregistry.NewHTTPError(errors.New("gone"), ociserver.StatusClientGone, nil, nil))
	qt.Check(t, qt.StringContains(strings.Join(o.points("oci.server.event.duration"), "\n"), "error.type=499 oci.action=pull"))
}

func TestNew_RecordsCollections(t *testing.T) {
	t.Parallel()
	o := newTelemetry(t)
	r := ociotel.New(ocimem.New(), o.opts)
	pushHello(t, r, "foo")
	o.took()
	for _, dry := range []bool{true, false} {
		report, err := r.(ocigc.Collector).GC(t.Context(), &ocigc.Options{Delay: -1, DryRun: dry})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(report.Blobs, 1))
		qt.Check(t, qt.Equals(o.took(), "ociregistry.GC"))
	}
	qt.Check(t, qt.DeepEquals(o.points("oci.gc.removed.size"), []string{"oci.gc.dry_run=false 11", "oci.gc.dry_run=true 11"}))
	qt.Check(t, qt.StringContains(strings.Join(o.points("oci.gc.removed"), "\n"), "oci.content.kind=blob oci.gc.dry_run=false 1"))
	qt.Check(t, qt.DeepEquals(o.points("oci.gc.duration"), []string{"oci.gc.dry_run=false 1", "oci.gc.dry_run=true 1"}))
}

func TestOnGC_RecordsReports(t *testing.T) {
	t.Parallel()
	o := newTelemetry(t)
	record := ociotel.OnGC(o.opts)
	record(t.Context(), nil, time.Second, context.Canceled)
	record(t.Context(), &ocigc.Report{Summary: ocigc.Summary{Tags: 2, Bytes: 5}, Problems: []ocigc.Problem{{Repository: "foo", Err: errors.New("broken")}}}, time.Second, nil)
	qt.Check(t, qt.DeepEquals(o.points("oci.gc.duration"), []string{"error.type=canceled oci.gc.dry_run=false 1", "oci.gc.dry_run=false 1"}))
	qt.Check(t, qt.DeepEquals(o.points("oci.gc.problems"), []string{"oci.gc.dry_run=false 1"}))
	qt.Check(t, qt.StringContains(strings.Join(o.points("oci.gc.removed"), "\n"), "oci.content.kind=tag oci.gc.dry_run=false 2"))
}
