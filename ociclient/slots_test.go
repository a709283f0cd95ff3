package ociclient_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/faultserver"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
)

func TestConcurrentRequestsAreBounded(t *testing.T) {
	t.Parallel()
	const limit = 3
	release := make(chan struct{})
	arrived := make(chan struct{}, 100)
	srv := faultserver.New(t, nil, rule{On: "HEAD ", Status: 200, Set: header{"Content-Length": "21"}, Do: func(*http.Request) {
		arrived <- struct{}{}
		<-release
	}})
	reg := clientOf(t, srv, ociclient.Options{Concurrency: limit}, newClock())
	results := make(chan error, 10)
	for range 10 {
		go func() { results <- resolveBlob(reg) }()
	}
	for range limit {
		<-arrived
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	_, err := reg.ResolveBlob(ctx, "foo", contentDigest) // waits for a slot
	qt.Assert(t, qt.ErrorIs(err, context.Canceled))
	qt.Assert(t, qt.HasLen(srv.Requests(""), limit))
	close(release)
	for range 10 {
		qt.Assert(t, qt.IsNil(<-results))
	}
}

// A request frees its slot, whatever its outcome: with only one slot, the next request
// would wait for ever.
func TestSlotsAreFreed(t *testing.T) {
	t.Parallel()
	opts := ociclient.Options{Concurrency: 1, ChunkSize: 10, Retry: ociclient.RetryPolicy{Attempts: 2}}
	tests := map[string]struct {
		rules []rule
		call  func(context.Context, ociregistry.Interface) error
	}{
		"read":          {nil, func(_ context.Context, r ociregistry.Interface) error { return second(readAll(getBlob(r))) }},
		"closed unread": {nil, func(_ context.Context, r ociregistry.Interface) error { b, err := getBlob(r); b.Close(); return err }},
		"read to EOF alone": {nil, func(_ context.Context, r ociregistry.Interface) error {
			b, _ := getBlob(r)
			return second(io.ReadAll(b))
		}},
		"sought": {nil, func(_ context.Context, r ociregistry.Interface) error {
			b, err := getBlob(r)
			if err != nil {
				return err
			}
			defer b.Close()
			b.Read(make([]byte, 1))
			b.(io.Seeker).Seek(5, io.SeekStart)
			return second(b.Read(make([]byte, 1)))
		}},
		"broken":       {[]rule{{On: "GET ", Times: 1, Cut: 5}}, func(_ context.Context, r ociregistry.Interface) error { return second(readAll(getBlob(r))) }},
		"error":        {[]rule{{On: "GET ", Times: 1, Status: 403}}, func(_ context.Context, r ociregistry.Interface) error { return second(getBlob(r)) }},
		"reset":        {[]rule{{On: "GET ", Times: 2, LoseAnswer: true}}, func(_ context.Context, r ociregistry.Interface) error { return second(getBlob(r)) }},
		"redirect":     {[]rule{{On: "GET ", Times: 1, Status: 307, Set: header{"Location": blobURL}, Answer: "x"}}, func(_ context.Context, r ociregistry.Interface) error { return second(readAll(getBlob(r))) }},
		"bad redirect": {[]rule{{On: "GET ", Times: 1, Status: 307, Answer: "x"}}, func(_ context.Context, r ociregistry.Interface) error { return second(getBlob(r)) }},
		"wrong header": {[]rule{{On: "GET ", Times: 1, Set: header{"Docker-Content-Digest": string(otherDigest)}}}, func(_ context.Context, r ociregistry.Interface) error { return second(getBlob(r)) }},
		"wrong range": {[]rule{{On: "GET ", Times: 1, Status: 206, Answer: "x"}}, func(_ context.Context, r ociregistry.Interface) error {
			return second(r.GetBlobRange(ctx, "foo", contentDigest, 4, 5))
		}},
		"push":         {nil, func(_ context.Context, r ociregistry.Interface) error { return push(r) }},
		"push refused": {[]rule{{On: "PUT ", Times: 1, Status: 403}}, func(_ context.Context, r ociregistry.Interface) error { return push(r) }},
		"push cut":     {[]rule{{On: "PUT ", Times: 1, CutRequest: 5}}, func(_ context.Context, r ociregistry.Interface) error { return push(r) }},
		"push in chunks": {[]rule{{On: "PATCH ", Every: 2, LoseAnswer: true}}, func(_ context.Context, r ociregistry.Interface) error {
			return second(r.PushBlob(ctx, "foo", blobDesc(content), once(content)))
		}},
		"a list stopped": {nil, func(_ context.Context, r ociregistry.Interface) error {
			for range r.Tags(ctx, "foo", "") {
				break
			}
			return nil
		}},
		"HEAD":         {nil, func(_ context.Context, r ociregistry.Interface) error { return resolveBlob(r) }},
		"HEAD without": {[]rule{{On: "HEAD ", Times: 1, Status: 405}}, func(_ context.Context, r ociregistry.Interface) error { return resolveBlob(r) }},
		"context ends": {nil, func(ctx context.Context, r ociregistry.Interface) error {
			return second(r.GetBlob(ctx, "foo", contentDigest))
		}},
		"warning in vain": {[]rule{{On: "HEAD ", Times: 1, Set: header{"Warning": "x"}}}, func(_ context.Context, r ociregistry.Interface) error { return resolveBlob(r) }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg, srv := faulty(t, opts, test.rules...)
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			if name == "context ends" {
				srv.Script(rule{On: "GET ", Times: 1, Do: func(req *http.Request) {
					cancel()
					<-req.Context().Done()
				}})
			}
			err := test.call(ctx, reg)
			qt.Assert(t, qt.Equals(errors.Is(err, context.Canceled), name == "context ends"))
			wantBlob(t, reg, content)
		})
	}
}
