package ocibucket

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociserver"
)

// A client pulls from a server that sends it to the bucket for large content.
func TestBlobURL_IsWhereAServerSendsItsClients(t *testing.T) {
	t.Parallel()
	var store *memstore.Store
	var served atomic.Int64
	bucket := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		served.Add(1)
		store.ServeHTTP(w, req)
	}))
	defer bucket.Close()
	store = memstore.New(&memstore.Options{URL: bucket.URL})
	r := mustOpen(t, store, nil)
	server := httptest.NewServer(ociserver.New(r, &ociserver.Options{
		BlobRedirect: func(ctx context.Context, repo string, digest ociregistry.Digest) (string, time.Time, error) {
			expires := time.Now().Add(time.Minute)
			url, err := r.BlobURL(ctx, repo, digest, time.Minute)
			return url, expires, err
		},
	}))
	defer server.Close()
	client, err := ociclient.New(strings.TrimPrefix(server.URL, "http://"), &ociclient.Options{Insecure: true})
	qt.Assert(t, qt.IsNil(err))
	image := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{100, 100_000, 9 << 20}})
	qt.Assert(t, qt.IsNil(image.Push(t.Context(), client, "app", "v1")))
	qt.Assert(t, qt.IsNil(image.Verify(t.Context(), client, "app")))
	qt.Check(t, qt.IsTrue(served.Load() >= 2))
}
