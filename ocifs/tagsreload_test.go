package ocifs

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
)

// TestTagsWhileAnotherFolds lists tags that were read from the journal while another
// Registry makes files of their manifests.
func TestTagsWhileAnotherFolds(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := scratch.Kept(t)
	r1, err := open(disk.OS{}, dir, "", nil)
	qt.Assert(t, qt.IsNil(err))
	defer r1.Close()
	r2, err := open(disk.OS{}, dir, "", &Options{ReadOnly: true})
	qt.Assert(t, qt.IsNil(err))
	defer r2.Close()
	want := []string{"a", "b", "c"}
	for _, tag := range want {
		_, err := r1.PushManifest(ctx, "foo", tag, []byte("text of "+tag), "text/plain")
		qt.Assert(t, qt.IsNil(err))
	}
	var got []string
	for tag, err := range r2.Tags(ctx, "foo", "") {
		qt.Assert(t, qt.IsNil(err))
		got = append(got, tag)
		if tag == "a" {
			qt.Assert(t, qt.IsNil(r1.Close()))
			_, err := r2.ResolveTag(ctx, "foo", "a")
			qt.Assert(t, qt.IsNil(err))
		}
	}
	qt.Check(t, qt.DeepEquals(got, want))
}
