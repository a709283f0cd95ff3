package ociserver_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// The allowances in a request's context do not apply to what its client asks for.
func TestRequestsHaveNoAllowances(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(ociserver.New(ocimem.New(), nil))
	srv.Config.BaseContext = func(net.Listener) context.Context {
		return ociregistry.AllowMissing(ociregistry.AllowInUse(context.Background()))
	}
	srv.Start()
	t.Cleanup(srv.Close)
	s := newSite(t, srv)

	missing := `{"schemaVersion":2,"layers":[],"config":{"digest":"` + string(absent) + `","size":2}}`
	for _, ref := range []string{"latest", string(digest.FromString(missing))} {
		got := s.do("PUT", "/v2/foo/manifests/"+ref, missing, "Content-Type", ocispec.MediaTypeImageManifest).want(t, http.StatusNotFound)
		qt.Check(t, qt.StringContains(got.body, `"code":"MANIFEST_BLOB_UNKNOWN"`))
	}
	s.pushImage("foo", "latest", "", nil)
	s.do("DELETE", "/v2/foo/blobs/"+string(digest.FromString("{}")), "").want(t, http.StatusMethodNotAllowed)
}

// The backend gets the context of a request without allowances itself, and no other.
func TestContextWithoutAllowancesIsTheRequests(t *testing.T) {
	t.Parallel()
	var got context.Context
	h := ociserver.New(&ociregistry.Funcs{
		DeleteTag_: func(ctx context.Context, repo, name string) error {
			got = ctx
			return nil
		},
	}, nil)
	req := httptest.NewRequest("DELETE", "/v2/foo/manifests/latest", nil)
	h.ServeHTTP(httptest.NewRecorder(), req)
	qt.Check(t, qt.Equals(got, req.Context()))
}
