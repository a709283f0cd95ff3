package ociweb_test

import (
	"context"
	"crypto/subtle"
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

// A registry and its pages for those who know a password. A browser asks for it.
func ExampleOptions_authorize() {
	authorize := func(req *http.Request, want []ociserver.Access) (func(ociserver.Access) bool, error) {
		user, password, _ := req.BasicAuth()
		if user != "ali" || subtle.ConstantTimeCompare([]byte(password), []byte("opensesame")) == 0 {
			return nil, ociserver.Unauthorized(`Basic realm="example"`)
		}
		return func(ociserver.Access) bool { return true }, nil
	}
	registry := ocimem.New()
	mux := http.NewServeMux()
	mux.Handle("/v2/", ociserver.New(registry, &ociserver.Options{Authorize: authorize}))
	mux.Handle("/", ociweb.New(registry, &ociweb.Options{Authorize: authorize}))
	srv := httptest.NewServer(mux)
	defer srv.Close()

	withPassword := strings.Replace(srv.URL, "http://", "http://ali:opensesame@", 1)
	for _, url := range []string{srv.URL, withPassword} {
		for _, path := range []string{"/", "/v2/"} {
			resp, err := http.Get(url + path)
			if err != nil {
				panic(err)
			}
			resp.Body.Close()
			fmt.Println(path, resp.StatusCode)
		}
	}
	// Output:
	// / 401
	// /v2/ 401
	// / 200
	// /v2/ 200
}
