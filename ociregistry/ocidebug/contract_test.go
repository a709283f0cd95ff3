package ocidebug_test

import (
	"testing"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocidebug"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

func TestContract(t *testing.T) {
	t.Parallel()
	ocitest.Run(t, func(testing.TB) ociregistry.Interface {
		return ocidebug.New(ocimem.New(), func(string, ...any) {})
	}, &ocitest.Options{AdoptsUploadIDs: true})
}
