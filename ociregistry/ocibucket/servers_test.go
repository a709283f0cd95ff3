package ocibucket

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/servers"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/azurestore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/s3store"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

func TestContract_OnServers(t *testing.T) {
	for name, open := range map[string]func(testing.TB) (objstore.Store, error){
		"versitygw": func(t testing.TB) (objstore.Store, error) {
			return s3store.New(t.Context(), s3store.Options{
				Bucket: "bucket", Endpoint: servers.S3(t, "bucket"), Region: "us-east-1",
				Credentials: credentials.NewStaticCredentialsProvider(servers.S3Access, servers.S3Secret, ""),
			})
		},
		"azurite": func(t testing.TB) (objstore.Store, error) {
			return azurestore.New(azurestore.Options{
				Container: "container", URL: servers.Azure(t, "container"), Account: servers.AzureAccount, Key: servers.AzureKey,
				Transport: servers.AzureClient(t),
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			store, err := open(t)
			qt.Assert(t, qt.IsNil(err))
			var count atomic.Int64
			ocitest.Run(t, func(t testing.TB) ociregistry.Interface {
				return mustOpen(t, store, &Options{Prefix: fmt.Sprintf("%d/", count.Add(1))})
			}, nil)
		})
	}
}
