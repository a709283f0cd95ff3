package ocimem_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
)

func Example() {
	ctx := context.Background()
	reg := ocimem.New()

	const content = "hello, registry"
	desc := ociregistry.Descriptor{Digest: digest.FromString(content), Size: int64(len(content))}
	if _, err := reg.PushBlob(ctx, "greetings", desc, strings.NewReader(content)); err != nil {
		fmt.Println(err)
		return
	}
	r, err := reg.GetBlob(ctx, "greetings", desc.Digest)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	fmt.Printf("%s %v\n", data, err)

	_, err = reg.ResolveTag(ctx, "greetings", "latest")
	fmt.Println(errors.Is(err, ociregistry.ErrManifestUnknown), err)
	// Output:
	// hello, registry <nil>
	// true ResolveTag greetings:latest: manifest unknown: manifest unknown to registry
}

func ExampleNewWithConfig() {
	ctx := context.Background()
	reg := ocimem.NewWithConfig(&ocimem.Config{MaxBytes: 10})

	const content = "more than ten bytes"
	desc := ociregistry.Descriptor{Digest: digest.FromString(content), Size: int64(len(content))}
	_, err := reg.PushBlob(ctx, "big", desc, strings.NewReader(content))
	fmt.Println(errors.Is(err, ociregistry.ErrDenied))
	repos, _ := ociregistry.All(reg.Repositories(ctx, ""))
	fmt.Println(len(repos))
	// Output:
	// true
	// 0
}
