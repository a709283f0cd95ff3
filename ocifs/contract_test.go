package ocifs_test

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// The contract is not checked beside other tests: it measures what the process allocates.
func TestContract(t *testing.T) {
	tests := []struct {
		name     string
		opts     ocifs.Options
		test     ocitest.Options
		verified bool
	}{
		{name: "default"},
		{name: "sparse", opts: ocifs.Options{NoSync: true, Sparse: true}, test: ocitest.Options{Sparse: true}},
		{name: "immutable", opts: ocifs.Options{NoSync: true, ImmutableTags: true}, test: ocitest.Options{Denied: ocitest.MoveTags | ocitest.DeleteTags}},
		{name: "limited and verified", opts: ocifs.Options{NoSync: true, MaxBytes: 1 << 30}, verified: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ocitest.Run(t, func(t testing.TB) ociregistry.Interface {
				r := newRegistry(t, &test.opts)
				if test.verified {
					return r.Verified()
				}
				return r
			}, &test.test)
		})
	}
}

func newRegistry(t testing.TB, opts *ocifs.Options) *ocifs.Registry {
	r, err := ocifs.New(scratch.Dir(t), opts)
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { qt.Check(t, qt.IsNil(r.Close())) })
	return r
}
