package s3store_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/go-quicktest/qt"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/seed-40b21970/oci/internal/servers"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/s3store"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/storetest"
)

func open(t testing.TB, url string) objstore.Store {
	t.Helper()
	s, err := s3store.New(context.Background(), s3store.Options{
		Bucket: "bucket", Endpoint: url, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider(servers.S3Access, servers.S3Secret, ""),
	})
	qt.Assert(t, qt.IsNil(err))
	return s
}

func TestContract_OnVersitygw(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t testing.TB) objstore.Store { return open(t, servers.S3(t, "bucket")) })
}

// What one gateway wrote under a condition, another one on the same directory keeps.
func TestVersitygw_KeepsConditionsAmongGateways(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	qt.Assert(t, qt.IsNil(mkdir(dir, "bucket")))
	one, two := open(t, servers.Versitygw(t, dir)), open(t, servers.Versitygw(t, dir))
	info, err := one.Put(t.Context(), "a", []byte("one"), objstore.Condition{IfAbsent: true})
	qt.Assert(t, qt.IsNil(err))
	_, err = two.Put(t.Context(), "a", []byte("two"), objstore.Condition{IfAbsent: true})
	qt.Assert(t, qt.ErrorIs(err, objstore.ErrPrecondition))
	_, err = two.Put(t.Context(), "a", []byte("two"), objstore.Condition{IfMatch: info.ETag})
	qt.Assert(t, qt.IsNil(err))
	body, _, err := objstore.ReadAll(t.Context(), one, "a", 10)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(body), "two"))
}

func TestProbe_RefusesServiceThatIgnoresConditions(t *testing.T) {
	t.Parallel()
	backend := s3mem.New()
	qt.Assert(t, qt.IsNil(backend.CreateBucket("bucket")))
	fake := gofakes3.New(backend).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { fake.ServeHTTP(w, req) }))
	t.Cleanup(server.Close)
	err := objstore.Probe(t.Context(), open(t, server.URL), "probe/")
	qt.Check(t, qt.ErrorIs(err, objstore.ErrConditions))
	t.Log(err)
}
