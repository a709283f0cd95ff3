package ocifs

import (
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// TestOpen_IsUpToDateWhileAWriterBegins reads from a repository that this process has
// not loaded yet, while a push to it begins that has not loaded it either.
func TestOpen_IsUpToDateWhileAWriterBegins(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := scratch.Kept(t)
	other, err := New(dir, &Options{NoSync: true})
	qt.Assert(t, qt.IsNil(err))
	a := ocitest.NewIndex(ocitest.Spec{})
	_, err = other.PushManifest(ctx, "foo", "v1", a.Manifest, a.Descriptor.MediaType)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(other.Close())) // or r might fold it

	r, h := openHooked(t, dir, &Options{NoSync: true})
	begun := false
	h.Set(func(op, name string) error {
		if op == "OpenFile" && filepath.Base(name) == "journal" && !begun {
			begun = true
			r.repos.Use("foo").Release()
		}
		return nil
	})
	_, err = r.ResolveTag(ctx, "foo", "v1")
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(begun))
}
