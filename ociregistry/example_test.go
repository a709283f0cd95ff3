package ociregistry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Compare errors with errors.Is. It works for every backend and across any number of HTTP
// hops.
func Example_errors() {
	// An error of a remote registry.
	err := error(&ociregistry.OpError{
		Op:         "ResolveTag",
		Registry:   "registry.example.com",
		Repository: "app",
		Ref:        "v1",
		Err:        ociregistry.NewHTTPError(ociregistry.ErrManifestUnknown, 404, nil, nil),
	})

	switch {
	case errors.Is(err, ociregistry.ErrManifestUnknown), errors.Is(err, ociregistry.ErrNameUnknown):
		fmt.Println("not there yet")
	case errors.Is(err, ociregistry.ErrUnauthorized), errors.Is(err, ociregistry.ErrDenied):
		fmt.Println("log in first")
	}
	fmt.Println(err)

	// The details of the registry.
	var code ociregistry.Error
	if errors.As(err, &code) {
		fmt.Println(code.Code())
	}

	// Output:
	// not there yet
	// ResolveTag registry.example.com/app:v1: 404 Not Found: manifest unknown: manifest unknown to registry
	// MANIFEST_UNKNOWN
}

// A Funcs is a fault injector for tests. Its methods call the functions that are set, which
// can pass the call on to a registry or fail. All other methods are unsupported.
func ExampleFuncs() {
	backend := newBackend()

	var pushes atomic.Int64
	r := &ociregistry.Funcs{
		ResolveBlob_: backend.ResolveBlob,
		PushBlob_: func(ctx context.Context, repo string, desc ociregistry.Descriptor, content io.Reader) (ociregistry.Descriptor, error) {
			if pushes.Add(1) == 1 {
				return ociregistry.Descriptor{}, &ociregistry.OpError{Op: "PushBlob", Repository: repo, Err: ociregistry.ErrTooManyRequests}
			}
			return backend.PushBlob(ctx, repo, desc, content)
		},
	}

	ctx := context.Background()
	content := "hello"
	desc := ociregistry.Descriptor{Digest: digest.FromString(content), Size: int64(len(content))}
	for range 2 {
		_, err := r.PushBlob(ctx, "app", desc, strings.NewReader(content))
		fmt.Println(err)
	}
	fmt.Println(r.DeleteTag(ctx, "app", "v1"))

	// Output:
	// PushBlob app: toomanyrequests: too many requests
	// <nil>
	// DeleteTag app: unsupported: the operation is unsupported
}

// newBackend stands for any registry. This one takes every blob.
func newBackend() ociregistry.Interface {
	return &ociregistry.Funcs{
		PushBlob_: func(_ context.Context, _ string, desc ociregistry.Descriptor, content io.Reader) (ociregistry.Descriptor, error) {
			_, err := io.Copy(io.Discard, content)
			return desc, err
		},
	}
}
