package ocifs

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// Others read what a collection writes to the journal, and what comes after it.
func TestGC_OthersReadItsJournal(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	image, garbage, later := ocitest.NewImage(ocitest.Spec{}), ocitest.NewBlob(1, 100_000), ocitest.NewBlob(2, 100)
	tests := []struct {
		name    string
		opts    ocigc.Options
		hook    func(op, name string) error
		dropped bool // the tags but the highest
	}{
		{
			name:    "of tags alone",
			opts:    ocigc.Options{Policies: []ocigc.Policy{{Keep: []ocigc.TagRule{{SemVer: true, Newest: 1}}}}},
			dropped: true,
		},
		{
			name: "of a blob whose file stays",
			opts: ocigc.Options{Delay: -1},
			hook: func(op, name string) error {
				if op == "Remove" && filepath.Base(name) == garbage.Descriptor.Digest.Encoded() {
					return syscall.EIO
				}
				return nil
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := scratch.Kept(t)
			r, h := openHooked(t, dir, nil)
			qt.Assert(t, qt.IsNil(image.Push(ctx, r, "a", "1.0", "1.1", "1.2")))
			_, err := r.PushBlob(ctx, "a", garbage.Descriptor, garbage.NewReader())
			qt.Assert(t, qt.IsNil(err))
			h.Set(test.hook)
			_, err = r.GC(ctx, &test.opts)
			qt.Assert(t, qt.IsNil(err))
			h.Set(nil)
			_, err = r.PushBlob(ctx, "a", later.Descriptor, later.NewReader())
			qt.Assert(t, qt.IsNil(err))

			other, err := New(dir, &Options{ReadOnly: true})
			qt.Assert(t, qt.IsNil(err))
			defer other.Close()
			for _, r := range []*Registry{r, other} {
				for _, tag := range []string{"1.0", "1.1", "1.2"} {
					_, err := r.ResolveTag(ctx, "a", tag)
					if test.dropped && tag != "1.2" {
						qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrManifestUnknown)))
					} else {
						qt.Check(t, qt.IsNil(err))
					}
				}
				for _, b := range []ocitest.Blob{garbage, later} {
					_, err := r.ResolveBlob(ctx, "a", b.Descriptor.Digest)
					qt.Check(t, qt.IsNil(err))
				}
			}
		})
	}
}
