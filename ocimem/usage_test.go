package ocimem

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

func TestUsage_KeepsItsContract(t *testing.T) {
	t.Parallel()
	ocitest.RunUsage(t, func(t testing.TB) ociregistry.UsageReporter {
		r := New()
		t.Cleanup(func() { checkUsage(t, r) })
		return r
	})
}

// checkUsage compares the usage with a count of what the repositories have.
func checkUsage(t testing.TB, r *Registry) {
	t.Helper()
	want := make(map[string]int64)
	for name, repo := range r.repos {
		var n int64
		for _, b := range repo.blobs {
			n += b.size
		}
		for _, m := range repo.manifests {
			n += m.size()
		}
		if n == 0 {
			continue
		}
		want[""] += n
		for i := range name {
			if name[i] == '/' {
				want[name[:i]] += n
			}
		}
		want[name] += n
	}
	qt.Check(t, qt.DeepEquals(r.usage.below, want))
}
