package ocimem

import (
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
)

// checkUsage compares the usage with a count of what the repositories have.
func checkUsage(t *testing.T, r *Registry) {
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

func TestUsage_IsThatOfARepositoryAndThoseBelowIt(t *testing.T) {
	t.Parallel()
	r := New()
	a := pushBlob(t, r, "a", []byte("1"))
	pushBlob(t, r, "a", []byte("1")) // again
	pushBlob(t, r, "a/b", []byte("22"))
	pushBlob(t, r, "a/b/c", []byte("333"))
	pushBlob(t, r, "ab", []byte("4444"))
	_, err := r.MountBlob(ctx, "a", "d", a.Digest)
	qt.Assert(t, qt.IsNil(err))
	desc, err := r.PushManifest(ctx, "a/b", "v1", []byte("55555"), "text/plain", "v2")
	qt.Assert(t, qt.IsNil(err))
	_, err = r.PushManifest(ctx, "a/b", "v1", []byte("55555"), "text/html")
	qt.Assert(t, qt.IsNil(err))
	checkUsage(t, r)
	for prefix, want := range map[string]int64{"": 16, "a": 11, "a/b": 10, "a/b/c": 3, "ab": 4, "d": 1, "e": 0, "a/b/c/d": 0} {
		got, err := r.Usage(ctx, prefix)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(got, want), qt.Commentf("%q", prefix))
	}
	qt.Assert(t, qt.IsNil(r.DeleteBlob(ctx, "a", a.Digest)))
	qt.Assert(t, qt.IsNil(r.DeleteManifest(ctx, "a/b", desc.Digest)))
	checkUsage(t, r)
	_, err = r.Usage(ctx, "A")
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameInvalid))
	_, err = r.Usage(ctx, strings.Repeat("a", 1000))
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameInvalid))
}
