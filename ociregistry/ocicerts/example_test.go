package ocicerts_test

import (
	"fmt"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
	"github.com/seed-40b21970/oci/ociregistry/ocicerts"
)

// A client that uses the certificates and the credentials which Docker and Podman keep.
func ExampleNewTransport() {
	const host = "registry.example:5000"
	connections, err := ocicerts.NewTransport(host, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	credentials, err := ociauth.Load(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = ociclient.New(host, &ociclient.Options{
		Transport: ociauth.NewStdTransport(ociauth.StdTransportParams{Config: credentials, Transport: connections}),
	})
	fmt.Println(err)
	// Output: <nil>
}
