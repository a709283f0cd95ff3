package ocigc_test

import (
	"context"
	"fmt"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

func ExampleRetain() {
	ctx := context.Background()
	var reg ociregistry.Interface = ocimem.New() // or that of ociclient.New
	if _, err := reg.PushManifest(ctx, "team/app", "", []byte("hello"), "text/plain", "v1.0", "v1.1", "v2.0", "nightly"); err != nil {
		fmt.Println(err)
		return
	}

	policies, err := ocigc.ParsePolicies([]byte(`{"policies": [{
		"repositories": ["team/**"],
		"keep": [{"semver": true, "newest": 2}]
	}]}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	report, err := ocigc.Retain(ctx, reg, &ocigc.Options{Policies: policies, DryRun: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(report.Tags, "of the tags would go")
	if _, err := ocigc.Retain(ctx, reg, &ocigc.Options{Policies: policies}); err != nil {
		fmt.Println(err)
		return
	}
	for tag := range reg.Tags(ctx, "team/app", "") {
		fmt.Println(tag)
	}

	// Output:
	// 2 of the tags would go
	// v1.1
	// v2.0
}
