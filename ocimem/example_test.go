package ocimem_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
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

func ExampleRegistry_GC() {
	ctx := context.Background()
	reg := ocimem.New()
	for _, version := range []string{"one", "two"} {
		if _, err := reg.PushManifest(ctx, "app", "latest", []byte(version), "text/plain"); err != nil {
			fmt.Println(err)
			return
		}
	}

	// As if a day had passed, since "one" is not old enough yet.
	tomorrow := func() time.Time { return time.Now().Add(24 * time.Hour) }
	report, err := reg.GC(ctx, &ocigc.Options{Untagged: true, Now: tomorrow})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range report.Findings {
		fmt.Println(f.Kind, f.Digest == digest.FromString("one"), f.Reason)
	}
	fmt.Println(report.Bytes, "bytes")
	// Output:
	// manifest true no tag, index or subject keeps it
	// 3 bytes
}
