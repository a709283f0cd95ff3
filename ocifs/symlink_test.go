package ocifs_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// TestNothingIsWrittenThroughLinks pushes to repositories whose directories, or
// parents of them, are links that lead out of the root.
func TestNothingIsWrittenThroughLinks(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, link string }{
		{"repository", "foo/bar"},
		{"parent", "foo"},
		{"blobs", "foo/bar/blobs"},
		{"algorithm", "foo/bar/blobs/sha256"},
		{"private", "foo/bar/.ocifs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, ocifs.Options{})
			outside := scratch.Kept(t)
			link := filepath.Join(f.dir, filepath.FromSlash(test.link))
			qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(link), 0o777)))
			if err := os.Symlink(outside, link); err != nil {
				t.Skip(err)
			}
			ctx := t.Context()
			large := data(1, 20_000)
			qt.Check(t, qt.IsNotNil(pushBlob(ctx, f, "foo/bar", data(1, 100))))
			qt.Check(t, qt.IsNotNil(pushBlob(ctx, f, "foo/bar", large)))
			qt.Check(t, qt.IsNotNil(upload(ctx, f, "foo/bar", large)))
			qt.Check(t, qt.IsNil(pushBlob(ctx, f, "baz", large)))
			_, err := f.MountBlob(ctx, "baz", "foo/bar", describe(large).Digest)
			qt.Check(t, qt.IsNotNil(err))
			a := ocitest.NewIndex(ocitest.Spec{})
			_, err = f.PushManifest(ctx, "foo/bar", "v1", a.Manifest, a.Descriptor.MediaType)
			qt.Check(t, qt.IsNotNil(err))
			f.Registry.Close()
			entries, err := os.ReadDir(outside)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.HasLen(entries, 0))
		})
	}
}
