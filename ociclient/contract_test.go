package ociclient_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociserver"
)

// serve returns a client of what a server over backend serves.
func serve(t testing.TB, backend ociregistry.Interface, opts ociclient.Options) ociregistry.Interface {
	srv := httptest.NewServer(ociserver.New(backend, nil))
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 100 // the concurrency of the contract
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		srv.Close()
	})
	opts.Insecure, opts.Transport = true, transport
	reg, err := ociclient.New(strings.TrimPrefix(srv.URL, "http://"), &opts)
	qt.Assert(t, qt.IsNil(err))
	return reg
}

// TestContract and its parts are not parallel because they measure memory.
func TestContract(t *testing.T) {
	memory := func(testing.TB) ociregistry.Interface { return ocimem.New() }
	directory := func(t testing.TB) ociregistry.Interface {
		r, err := ocifs.New(scratch.Dir(t), &ocifs.Options{NoSync: true})
		qt.Assert(t, qt.IsNil(err))
		t.Cleanup(func() { r.Close() })
		return r
	}
	tests := []struct {
		name    string
		backend func(testing.TB) ociregistry.Interface
		proxies int
		client  ociclient.Options // of the client before the proxies, whose own have none
		adopts  bool
	}{
		{name: "Memory", backend: memory, adopts: true},
		{name: "Directory", backend: directory},
		{
			name:    "Proxy",
			backend: memory,
			proxies: 1,
			client:  ociclient.Options{Parallel: ociclient.Parallel{Concurrency: 3, PartSize: 4 << 20}, ChunkSize: 1 << 20, Concurrency: 50},
			adopts:  true,
		},
	}
	for _, test := range tests {
		opts := &ocitest.Options{Remote: true, AdoptsUploadIDs: test.adopts}
		t.Run(test.name, func(t *testing.T) {
			ocitest.Run(t, func(t testing.TB) ociregistry.Interface {
				r := test.backend(t)
				for range test.proxies {
					r = serve(t, r, ociclient.Options{})
				}
				return serve(t, r, test.client)
			}, opts)
		})
	}
}
