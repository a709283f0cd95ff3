package ocifs_test

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// TestAllowancesOutlastTheProcess checks that content pushed with an allowance is
// served by every registry of the directory, from the journal as well as from
// index.json.
func TestAllowancesOutlastTheProcess(t *testing.T) {
	t.Parallel()
	a := image(1)
	index := ocitest.NewIndex(ocitest.Spec{}, a)
	push := func(r ociregistry.Interface, allow bool, a *ocitest.Artifact) error {
		ctx := t.Context()
		if allow {
			ctx = ociregistry.AllowMissing(ctx)
		}
		_, err := r.PushManifest(ctx, "foo", "v1", a.Manifest, a.Descriptor.MediaType)
		return err
	}
	for _, folded := range []bool{false, true} {
		f := newFixture(t, ocifs.Options{})
		other := openFixture(t, f.dir, "", ocifs.Options{})
		fold := func() {
			if folded {
				f.reopen()
			}
		}
		unknown := error(ociregistry.ErrManifestBlobUnknown)
		qt.Assert(t, qt.IsNil(push(f, true, index)))
		fold()
		wantManifest(t, other, "foo", index.Manifest, index.Descriptor.MediaType, "v1")
		qt.Check(t, qt.ErrorIs(push(other, false, index), unknown))
		qt.Assert(t, qt.IsNil(push(other, true, a)))
		fold()
		qt.Check(t, qt.IsNil(push(f, false, index)))
		qt.Check(t, qt.ErrorIs(push(f, false, a), unknown))

		must(t, other).MustPush("foo", index, "v1")
		fold()
		wantInUse(t, f.DeleteManifest(t.Context(), "foo", a.Descriptor.Digest), "what came after the index that names it")
		allowed := ociregistry.AllowInUse(t.Context())
		for _, b := range a.Blobs {
			wantInUse(t, f.DeleteBlob(t.Context(), "foo", b.Descriptor.Digest), "what came after the image that names it")
			qt.Assert(t, qt.IsNil(f.DeleteBlob(allowed, "foo", b.Descriptor.Digest)))
			wantNoBlob(t, other, "foo", b.Descriptor.Digest)
		}
		qt.Check(t, qt.ErrorIs(push(other, false, a), unknown))
		qt.Assert(t, qt.IsNil(f.DeleteManifest(allowed, "foo", a.Descriptor.Digest)))
		fold()
		wantNoManifest(t, other, "foo", a.Descriptor.Digest)
		wantManifest(t, other, "foo", index.Manifest, index.Descriptor.MediaType, "v1")
		qt.Check(t, qt.ErrorIs(push(other, false, index), unknown))
		other.close()
		f.reopen()
		wantNoManifest(t, f, "foo", a.Descriptor.Digest)
		wantManifest(t, f, "foo", index.Manifest, index.Descriptor.MediaType, "v1")
	}
}

// TestVerifyReportsWhatWasAllowedToBeMissing checks that Verify reports missing
// content whether or not it was allowed to be missing.
func TestVerifyReportsWhatWasAllowedToBeMissing(t *testing.T) {
	t.Parallel()
	for _, sparse := range []bool{false, true} {
		f := newFixture(t, ocifs.Options{Sparse: sparse})
		a := image(1)
		must(t, f).MustPush("foo", a, "v1")
		layer := a.Blobs[1].Descriptor.Digest
		qt.Assert(t, qt.IsNil(f.DeleteBlob(ociregistry.AllowInUse(t.Context()), "foo", layer)))
		for range 2 {
			var found []ociregistry.Digest
			for p, err := range f.Verify(t.Context()) {
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.ErrorIs(p.Err, ocifs.ErrMissing))
				found = append(found, p.Digest)
			}
			if sparse {
				qt.Check(t, qt.HasLen(found, 0))
			} else {
				qt.Check(t, qt.DeepEquals(found, []ociregistry.Digest{layer}))
			}
			f.reopen()
		}
	}
}
