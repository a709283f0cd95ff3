package ociserver_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// request makes a request and prints the answer's status and body.
func request(method, url, body string, headers ...string) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		panic(err)
	}
	fmt.Println(strings.TrimSpace(resp.Status + " " + string(answer)))
}

func ExampleNew() {
	srv := httptest.NewServer(ociserver.New(ocimem.New(), nil))
	defer srv.Close()

	request("PUT", srv.URL+"/v2/hello/manifests/latest", "hello world", "Content-Type", "text/plain")
	request("GET", srv.URL+"/v2/hello/manifests/latest", "")
	request("GET", srv.URL+"/v2/hello/tags/list", "")
	// Output:
	// 201 Created
	// 200 OK hello world
	// 200 OK {"name":"hello","tags":["latest"]}
}

func ExampleEvent() {
	opts := &ociserver.Options{
		OnEvent: func(ctx context.Context, e ociserver.Event) {
			fmt.Println("event:", e.Action, e.Repository, e.Tags, e.Bytes, "bytes")
		},
	}
	srv := httptest.NewServer(ociserver.New(ocimem.New(), opts))
	defer srv.Close()

	request("PUT", srv.URL+"/v2/hello/manifests/latest", "hello world")
	request("DELETE", srv.URL+"/v2/hello/manifests/latest", "")
	// Output:
	// event: push hello [latest] 11 bytes
	// 201 Created
	// event: delete hello [latest] 0 bytes
	// 202 Accepted
}

// A registry of functions shows how a client copes with failures.
func ExampleNew_faults() {
	backend := &ociregistry.Funcs{
		GetTag_: func(context.Context, string, string) (ociregistry.BlobReader, error) {
			return nil, ociregistry.ErrTooManyRequests
		},
	}
	srv := httptest.NewServer(ociserver.New(backend, nil))
	defer srv.Close()

	request("GET", srv.URL+"/v2/hello/manifests/latest", "")
	// Output:
	// 429 Too Many Requests {"errors":[{"code":"TOOMANYREQUESTS","message":"too many requests"}]}
}
