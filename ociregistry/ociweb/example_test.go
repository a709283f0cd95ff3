package ociweb_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry/ociweb"
	"github.com/seed-40b21970/oci/ociserver"
)

// A registry with its pages beside its API.
func Example() {
	registry := ocimem.New()
	_, err := registry.PushManifest(context.Background(), "hello", "v1", []byte("hello world"), "text/plain")
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/v2/", ociserver.New(registry, nil))
	mux.Handle("/", ociweb.New(registry, nil))
	srv := httptest.NewServer(mux)
	defer srv.Close()

	resp, err := http.Get(srv.URL + "/r/hello")
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		panic(err)
	}
	fmt.Println(resp.Status, strings.Contains(string(page), `<a href="../r/hello:v1">v1</a>`))
	// Output: 200 OK true
}
