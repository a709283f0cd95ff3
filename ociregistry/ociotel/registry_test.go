package ociotel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	"go.opentelemetry.io/otel/codes"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
	"github.com/seed-40b21970/oci/ociregistry/ociotel"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

func TestContract(t *testing.T) {
	t.Parallel()
	ocitest.Run(t, func(t testing.TB) ociregistry.Interface {
		return ociotel.New(ocimem.New(), newTelemetry(t).opts)
	}, &ocitest.Options{AdoptsUploadIDs: true})
}

const hello = "hello world"

var (
	helloDigest = digest.FromString(hello)
	absent      = digest.FromString("absent")
)

// pushHello pushes the blob hello.
func pushHello(t testing.TB, r ociregistry.Interface, repo string) {
	t.Helper()
	_, err := r.PushBlob(t.Context(), repo, ociregistry.Descriptor{Digest: helloDigest, Size: int64(len(hello))}, strings.NewReader(hello))
	qt.Assert(t, qt.IsNil(err))
}

func TestNew_HasASpanForEachCall(t *testing.T) {
	t.Parallel()
	ctx, o := t.Context(), newTelemetry(t)
	o.opts.Server = "registry.example.com:5000"
	r := ociotel.New(ocimem.New(), o.opts)
	m := "text/plain"
	manifest := digest.FromString("{}")
	read := func(rd ociregistry.BlobReader, err error) error {
		if err == nil {
			io.Copy(io.Discard, rd)
			rd.Close()
		}
		return err
	}
	for _, test := range []struct {
		call func() error
		want string // without what all have
	}{
		{func() error { pushHello(t, r, "foo"); return nil },
			"ociregistry.PushBlob oci.blob.digest=HELLO oci.content.size=11"},
		{func() error { _, err := r.MountBlob(ctx, "foo", "foo", helloDigest); return err },
			"ociregistry.MountBlob oci.blob.digest=HELLO oci.blob.from=foo"},
		{func() error { _, err := r.PushManifest(ctx, "foo", "v1", []byte("{}"), m, "v2"); return err },
			`ociregistry.PushManifest container.image.tags=["v1","v2"] oci.content.media_type=text/plain oci.content.size=2 oci.manifest.digest=MANIFEST`},
		{func() error { _, err := r.ResolveBlob(ctx, "foo", helloDigest); return err },
			"ociregistry.ResolveBlob oci.blob.digest=HELLO oci.content.size=11"},
		{func() error { return read(r.GetBlob(ctx, "foo", helloDigest)) },
			"ociregistry.GetBlob oci.blob.digest=HELLO oci.content.moved=11 oci.content.size=11"},
		{func() error { return read(r.GetBlobRange(ctx, "foo", helloDigest, 1, 3)) },
			"ociregistry.GetBlobRange oci.blob.digest=HELLO oci.content.moved=2 oci.content.size=11"},
		{func() error { return read(r.GetManifest(ctx, "foo", manifest)) },
			"ociregistry.GetManifest oci.content.media_type=text/plain oci.content.moved=2 oci.content.size=2 oci.manifest.digest=MANIFEST"},
		{func() error { return read(r.GetTag(ctx, "foo", "v1")) },
			`ociregistry.GetTag container.image.tags=["v1"] oci.content.media_type=text/plain oci.content.moved=2 oci.content.size=2 oci.manifest.digest=MANIFEST`},
		{func() error { _, err := r.ResolveManifest(ctx, "foo", manifest); return err },
			"ociregistry.ResolveManifest oci.content.media_type=text/plain oci.content.size=2 oci.manifest.digest=MANIFEST"},
		{func() error { _, err := r.ResolveTag(ctx, "foo", "v1"); return err },
			`ociregistry.ResolveTag container.image.tags=["v1"] oci.content.media_type=text/plain oci.content.size=2 oci.manifest.digest=MANIFEST`},
		{func() error { _, err := ociregistry.All(r.Tags(ctx, "foo", "")); return err },
			"ociregistry.Tags oci.list.length=2"},
		{func() error { _, err := ociregistry.All(r.Referrers(ctx, "foo", manifest, "a/b")); return err },
			"ociregistry.Referrers oci.artifact.type=a/b oci.list.length=0 oci.manifest.digest=MANIFEST"},
		{func() error { return r.DeleteTag(ctx, "foo", "v2") },
			`ociregistry.DeleteTag container.image.tags=["v2"]`},
		{func() error { return r.DeleteManifest(ctx, "foo", manifest) },
			"ociregistry.DeleteManifest oci.manifest.digest=MANIFEST"},
		{func() error { return r.DeleteBlob(ctx, "foo", helloDigest) },
			"ociregistry.DeleteBlob oci.blob.digest=HELLO"},
	} {
		qt.Assert(t, qt.IsNil(test.call()), qt.Commentf("%s", test.want))
		got := strings.NewReplacer(string(helloDigest), "HELLO", string(manifest), "MANIFEST",
			" container.image.name=foo", "", " server.address=registry.example.com server.port=5000", "").Replace(o.took())
		qt.Check(t, qt.Equals(got, test.want))
	}
	_, err := ociregistry.All(r.Repositories(ctx, ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(o.took(), "ociregistry.Repositories oci.list.length=0 server.address=registry.example.com server.port=5000"))
}

func TestNew_EndsTheSpanOfAReaderWithIt(t *testing.T) {
	t.Parallel()
	o := newTelemetry(t)
	r := ociotel.New(ocimem.New(), o.opts)
	pushHello(t, r, "foo")
	o.took()
	rd, err := r.GetBlob(t.Context(), "foo", helloDigest)
	qt.Assert(t, qt.IsNil(err))
	_, err = io.CopyN(io.Discard, rd, 4)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(o.took(), ""))
	qt.Check(t, qt.IsNil(rd.Close()))
	qt.Check(t, qt.IsNil(rd.Close()))
	qt.Check(t, qt.Equals(attr(o.only(), "oci.content.moved"), "4"))
	qt.Check(t, qt.DeepEquals(o.points("oci.registry.content.read"), []string{"oci.method=GetBlob 4"}))
}

func TestNew_EndsTheSpanOfAWriterWithIt(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		end  func(ociregistry.BlobWriter) error
		want string // error.type
	}{
		{"commit", func(w ociregistry.BlobWriter) error { _, err := w.Commit(helloDigest); return err }, ""},
		{"close", ociregistry.BlobWriter.Close, ""},
		{"cancel", ociregistry.BlobWriter.Cancel, ""},
		{"commit that fails, and cancel", func(w ociregistry.BlobWriter) error {
			_, err := w.Commit(absent)
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
			return w.Cancel()
		}, "DIGEST_INVALID"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o := newTelemetry(t)
			r := ociotel.New(ocimem.New(), o.opts)
			w, err := r.PushBlobChunked(t.Context(), "foo", 0)
			qt.Assert(t, qt.IsNil(err))
			_, err = io.WriteString(w, hello)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.DeepEquals(o.points("oci.registry.uploads.open"), []string{"1"}))
			qt.Check(t, qt.Equals(o.took(), ""))
			qt.Assert(t, qt.IsNil(test.end(w)))
			qt.Check(t, qt.IsNil(w.Cancel()))
			s := o.only()
			qt.Check(t, qt.Equals(s.Name, "ociregistry.PushBlobChunked"))
			qt.Check(t, qt.Equals(attr(s, "oci.content.moved"), "11"))
			qt.Check(t, qt.Equals(attr(s, "error.type"), test.want))
			qt.Check(t, qt.Equals(s.Status.Code, codes.Unset))
			qt.Check(t, qt.DeepEquals(o.points("oci.registry.uploads.open"), []string{"0"}))
			qt.Check(t, qt.DeepEquals(o.points("oci.registry.content.written"), []string{"oci.method=PushBlobChunked 11"}))
		})
	}
}

func TestNew_EndsTheSpanOfAListWithTheLoop(t *testing.T) {
	t.Parallel()
	o := newTelemetry(t)
	r := ociotel.New(ocimem.New(), o.opts)
	for _, repo := range []string{"a", "b", "c"} {
		pushHello(t, r, repo)
	}
	o.took()
	seq := r.Repositories(t.Context(), "")
	qt.Check(t, qt.Equals(o.took(), ""))
	for range seq {
		break
	}
	qt.Check(t, qt.Equals(attr(o.only(), "oci.list.length"), "1"))
	qt.Check(t, qt.PanicMatches(func() {
		for range seq {
			panic("boom")
		}
	}, "boom"))
	qt.Check(t, qt.Equals(o.took(), "ociregistry.Repositories oci.list.length=1"))
	_, err := ociregistry.All(seq)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(o.took(), "ociregistry.Repositories oci.list.length=3"))
}

type timeoutError struct{ error }

func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

// An answer of a registry is an attribute, and any other error a span that failed.
// A registry without methods panics in each of them.
func TestNew_EndsTheSpansOfCallsThatPanic(t *testing.T) {
	t.Parallel()
	ctx, o := t.Context(), newTelemetry(t)
	r := ociotel.New(struct{ ocigc.Collector }{}, o.opts)
	reporter := ociotel.New(struct{ ociregistry.UsageReporter }{}, o.opts)
	for method, call := range map[string]func(){
		"GetBlob":               func() { r.GetBlob(ctx, "foo", absent) },
		"GetBlobRange":          func() { r.GetBlobRange(ctx, "foo", absent, 0, 1) },
		"GetManifest":           func() { r.GetManifest(ctx, "foo", absent) },
		"GetTag":                func() { r.GetTag(ctx, "foo", "v1") },
		"ResolveBlob":           func() { r.ResolveBlob(ctx, "foo", absent) },
		"ResolveManifest":       func() { r.ResolveManifest(ctx, "foo", absent) },
		"ResolveTag":            func() { r.ResolveTag(ctx, "foo", "v1") },
		"PushBlob":              func() { r.PushBlob(ctx, "foo", ociregistry.Descriptor{}, nil) },
		"PushBlobChunked":       func() { r.PushBlobChunked(ctx, "foo", 0) },
		"PushBlobChunkedResume": func() { r.PushBlobChunkedResume(ctx, "foo", "id", 0, 0) },
		"MountBlob":             func() { r.MountBlob(ctx, "foo", "bar", absent) },
		"PushManifest":          func() { r.PushManifest(ctx, "foo", "v1", nil, "") },
		"DeleteBlob":            func() { r.DeleteBlob(ctx, "foo", absent) },
		"DeleteManifest":        func() { r.DeleteManifest(ctx, "foo", absent) },
		"DeleteTag":             func() { r.DeleteTag(ctx, "foo", "v1") },
		"Repositories":          func() { ociregistry.All(r.Repositories(ctx, "")) },
		"Tags":                  func() { ociregistry.All(r.Tags(ctx, "foo", "")) },
		"Referrers":             func() { ociregistry.All(r.Referrers(ctx, "foo", absent, "")) },
		"GC":                    func() { r.(ocigc.Collector).GC(ctx, nil) },
		"Usage":                 func() { reporter.(ociregistry.UsageReporter).Usage(ctx, "foo") },
	} {
		qt.Check(t, qt.PanicMatches(call, ".*nil pointer.*"), qt.Commentf("%s", method))
		span := o.only()
		qt.Check(t, qt.Equals(span.Name, "ociregistry."+method))
		qt.Check(t, qt.Equals(span.Status.Code, codes.Error))
		qt.Check(t, qt.Equals(attr(span, "error.type"), "panic"))
	}
	qt.Check(t, qt.HasLen(o.points("oci.registry.call.duration"), 20))
}

// What the body of a loop does is not what the registry does.
func TestNew_BlamesNoListForItsLoop(t *testing.T) {
	t.Parallel()
	o, mem := newTelemetry(t), ocimem.New()
	pushHello(t, mem, "foo")
	r := ociotel.New(mem, o.opts)
	qt.Check(t, qt.PanicMatches(func() {
		for range r.Repositories(t.Context(), "") {
			panic("the loop")
		}
	}, "the loop"))
	qt.Check(t, qt.Equals(o.only().Status.Code, codes.Unset))
}

func TestNew_TellsAnswersFromFailures(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err    error
		want   string
		status codes.Code
	}{
		{fmt.Errorf("%w: foo", ociregistry.ErrBlobUnknown), "BLOB_UNKNOWN", codes.Unset},
		{ociregistry.ErrDenied, "DENIED", codes.Unset},
		{ociregistry.NewHTTPError(ociregistry.ErrTooManyRequests, 429, nil, nil), "TOOMANYREQUESTS", codes.Unset},
		{ociregistry.NewHTTPError(ociregistry.NewError("no", "MADE_UP", nil), 418, nil, nil), "418", codes.Unset},
		{ociregistry.NewError("no", "MADE_UP", nil), "_OTHER", codes.Unset},
		{ociregistry.NewHTTPError(errors.New("no"), 502, nil, nil), "502", codes.Error},
		{ociregistry.NewHTTPError(ociregistry.ErrUnsupported, 503, nil, nil), "UNSUPPORTED", codes.Error},
		{fmt.Errorf("read: %w", context.Canceled), "canceled", codes.Error},
		{context.DeadlineExceeded, "timeout", codes.Error},
		{timeoutError{errors.New("slow")}, "timeout", codes.Error},
		{errors.New("disk on fire"), "_OTHER", codes.Error},
	} {
		o := newTelemetry(t)
		r := ociotel.New(&ociregistry.Funcs{ResolveBlob_: func(context.Context, string, ociregistry.Digest) (ociregistry.Descriptor, error) {
			return ociregistry.Descriptor{}, test.err
		}}, o.opts)
		_, err := r.ResolveBlob(t.Context(), "foo", absent)
		qt.Check(t, qt.Equals(err, test.err))
		s := o.only()
		qt.Check(t, qt.Equals(attr(s, "error.type"), test.want), qt.Commentf("%v", test.err))
		qt.Check(t, qt.Equals(s.Status.Code, test.status), qt.Commentf("%v", test.err))
		qt.Check(t, qt.DeepEquals(o.points("oci.registry.call.duration"), []string{"error.type=" + test.want + " oci.method=ResolveBlob 1"}))
	}
}

// Metrics have no values of which there can be any number.
func TestNew_NamesRepositoriesInMetricsIfThatIsWanted(t *testing.T) {
	t.Parallel()
	for _, wanted := range []bool{false, true} {
		o := newTelemetry(t)
		o.opts.Repositories = wanted
		r := ociotel.New(ocimem.New(), o.opts)
		for i := range 20 {
			pushHello(t, r, fmt.Sprint("foo", i))
			rd, err := r.GetBlob(t.Context(), fmt.Sprint("foo", i), helloDigest)
			qt.Assert(t, qt.IsNil(err))
			rd.Close()
		}
		n := 1
		if wanted {
			n = 20
		}
		qt.Check(t, qt.HasLen(o.points("oci.registry.content.written"), n))
		qt.Check(t, qt.HasLen(o.points("oci.registry.call.duration"), 3*n)) // and BlobReader.Close
	}
}

func TestNew_GivesTheSpanToTheRegistryBeneath(t *testing.T) {
	t.Parallel()
	o := newTelemetry(t)
	var seen oteltrace.SpanContext
	r := ociotel.New(&ociregistry.Funcs{DeleteTag_: func(ctx context.Context, _, _ string) error {
		seen = oteltrace.SpanContextFromContext(ctx)
		return nil
	}}, o.opts)
	qt.Assert(t, qt.IsNil(r.DeleteTag(t.Context(), "foo", "v1")))
	qt.Check(t, qt.Equals(seen.SpanID(), o.only().SpanContext.SpanID()))
}

// An id of an upload session is as good as a password, and so is a query.
func TestNew_KeepsSecretsOutOfSpans(t *testing.T) {
	t.Parallel()
	o := newTelemetry(t)
	r := ociotel.New(&ociregistry.Funcs{PushBlobChunkedResume_: func(_ context.Context, _, id string, _ int64, _ int) (ociregistry.BlobWriter, error) {
		return nil, fmt.Errorf("PATCH https://example.com/v2/foo/blobs/uploads/%s?state=secret: broken", id)
	}}, o.opts)
	_, err := r.PushBlobChunkedResume(t.Context(), "foo", "0123456789abcdef", 0, 0)
	qt.Assert(t, qt.IsNotNil(err))
	s := o.only()
	qt.Check(t, qt.IsFalse(strings.Contains(fmt.Sprint(s), "0123456789abcdef")))
	qt.Check(t, qt.IsFalse(strings.Contains(fmt.Sprint(s), "secret")))
	qt.Check(t, qt.StringContains(s.Status.Description, "broken"))
}

func TestNew_ImplementsWhatTheRegistryBeneathDoes(t *testing.T) {
	t.Parallel()
	mem := ocimem.New()
	dir, err := ocifs.New(t.TempDir(), nil)
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { dir.Close() })
	for _, r := range []ociregistry.Interface{mem, dir, &ociregistry.Funcs{}, ocigcOnly{&ociregistry.Funcs{}}, usageOnly{&ociregistry.Funcs{}}} {
		got := ociotel.New(r, newTelemetry(t).opts)
		_, collects := r.(ocigc.Collector)
		_, gotCollects := got.(ocigc.Collector)
		qt.Check(t, qt.Equals(gotCollects, collects), qt.Commentf("%T", r))
		_, knows := r.(ociregistry.UsageReporter)
		_, gotKnows := got.(ociregistry.UsageReporter)
		qt.Check(t, qt.Equals(gotKnows, knows), qt.Commentf("%T", r))
		_, verifies := r.(verified.Registry)
		_, gotVerifies := got.(verified.Registry)
		qt.Check(t, qt.Equals(gotVerifies, verifies), qt.Commentf("%T", r))
	}
	// What cannot be damaged returns itself.
	r := ociotel.New(mem, newTelemetry(t).opts)
	qt.Check(t, qt.IsTrue(r.(verified.Registry).Verified() == r))
	pushHello(t, r, "foo")
	n, err := r.(ociregistry.UsageReporter).Usage(t.Context(), "foo")
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(n, 11))
	// The view of a directory is observed, too.
	o := newTelemetry(t)
	view := ociotel.New(dir, o.opts).(verified.Registry).Verified()
	_, err = view.ResolveBlob(t.Context(), "foo", absent)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameUnknown))
	qt.Check(t, qt.Equals(o.only().Name, "ociregistry.ResolveBlob"))
}

type ocigcOnly struct{ *ociregistry.Funcs }

func (ocigcOnly) GC(context.Context, *ocigc.Options) (*ocigc.Report, error) { return nil, nil }

type usageOnly struct{ *ociregistry.Funcs }

func (usageOnly) Usage(context.Context, string) (int64, error) { return 0, nil }
