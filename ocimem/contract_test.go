package ocimem_test

import (
	"testing"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

func TestContract(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		cfg  ocimem.Config
		opts ocitest.Options
	}{{
		name: "Default",
	}, {
		name: "Sparse",
		cfg:  ocimem.Config{Sparse: true},
		opts: ocitest.Options{Sparse: true},
	}, {
		name: "ImmutableTags",
		cfg:  ocimem.Config{ImmutableTags: true},
		opts: ocitest.Options{Denied: ocitest.MoveTags | ocitest.DeleteTags},
	}, {
		name: "MaxBytes",
		cfg:  ocimem.Config{MaxBytes: 1 << 40},
	}}
	for _, test := range tests {
		test.opts.AdoptsUploadIDs = true
		t.Run(test.name, func(t *testing.T) {
			ocitest.Run(t, func(testing.TB) ociregistry.Interface { return ocimem.NewWithConfig(&test.cfg) }, &test.opts)
		})
	}
}
