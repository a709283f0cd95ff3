package ocibucket

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// mustOpen opens a registry without a probe.
func mustOpen(t testing.TB, store objstore.Store, opts *Options) *Registry {
	t.Helper()
	r, err := open(t.Context(), store, opts, settings{grace: defaultGrace})
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { r.Close() })
	return r
}

// contractPart is the size of parts where the contract measures what is allocated for 4 MiB, which is a little less:
// when the pool of buffers is empty depends on the speed of the machine, and the limit allows for one of 5 MB.
const contractPart = 4<<20 + 64<<10

// The contract is not checked beside other tests: it measures what the process allocates.
func TestContract(t *testing.T) {
	tests := []struct {
		name string
		opts Options
		test ocitest.Options
	}{{
		name: "Default",
		opts: Options{PartSize: contractPart},
	}, {
		name: "Prefix",
		opts: Options{Prefix: "a/b/", PartSize: minPartSize, ManifestMemory: -1},
	}, {
		name: "Sparse",
		opts: Options{PartSize: contractPart, Sparse: true},
		test: ocitest.Options{Sparse: true},
	}, {
		name: "ImmutableTags",
		opts: Options{PartSize: contractPart, ImmutableTags: true},
		test: ocitest.Options{Denied: ocitest.MoveTags | ocitest.DeleteTags},
	}}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ocitest.Run(t, func(t testing.TB) ociregistry.Interface {
				return mustOpen(t, memstore.New(nil), &test.opts)
			}, &test.test)
		})
	}
}
