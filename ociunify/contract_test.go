package ociunify_test

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociunify"
)

// The contract tests measure memory, and so are not parallel to others.

func TestUnion_KeepsTheContract(t *testing.T) {
	tests := []struct {
		name string
		opts ociunify.Options
	}{
		{"Default", ociunify.Options{}},
		{"ConcurrentFirst", ociunify.Options{ReadPolicy: ociunify.ReadConcurrent, WritePolicy: ociunify.WriteFirst, Failover: true}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ocitest.Run(t, func(testing.TB) ociregistry.Interface {
				return ociunify.New(ocimem.New(), ocimem.New(), &test.opts)
			}, &ocitest.Options{AdoptsUploadIDs: true})
		})
	}
}

// newDirectory returns a registry in a directory that is as fast as possible: in memory,
// if the system has such a directory.
func newDirectory(t testing.TB) *ocifs.Registry {
	r, err := ocifs.New(scratch.Dir(t), &ocifs.Options{NoSync: true})
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { qt.Check(t, qt.IsNil(r.Close())) })
	return r
}
