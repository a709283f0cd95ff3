package ocifs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/ordered"
	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ocifs/internal/layout"
	"github.com/seed-40b21970/oci/ociregistry"
)

// counted is a registry whose calls of the system are counted.
func counted(t *testing.T, fill func(dir string)) (*Registry, *disktest.Hooks) {
	t.Helper()
	dir := scratch.Dir(t)
	fill(dir)
	fsys := new(disktest.Hooks)
	r, err := open(fsys, dir, "", &Options{NoSync: true})
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { r.Close() })
	return r, fsys
}

// writeLayout writes a layout as other programs do.
func writeLayout(t *testing.T, dir string, entries []string, contents ...string) {
	t.Helper()
	blobs := filepath.Join(dir, "blobs", "sha256")
	qt.Assert(t, qt.IsNil(os.MkdirAll(blobs, 0o777)))
	for _, text := range contents {
		qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(blobs, digest.FromString(text).Encoded()), []byte(text), 0o666)))
	}
	for name, text := range map[string]string{
		"oci-layout": layout.FileText,
		"index.json": `{"schemaVersion":2,"manifests":[` + strings.Join(entries, ",\n") + `]}`,
	} {
		qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666)))
	}
}

func entryOf(text, tag string) string {
	entry := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d`, ocispec.MediaTypeImageIndex, digest.FromString(text), len(text))
	if tag != "" {
		entry += fmt.Sprintf(`,"annotations":{%q:%q}`, ocispec.AnnotationRefName, tag)
	}
	return entry + "}"
}

// A list of tags whose manifests are absent looks for each manifest once. A later
// page does not look for all of them again.
func TestAbsentManifests_AreListedInLinearTime(t *testing.T) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		const n = 3000
		present := `{"schemaVersion":2,"manifests":[]}`
		r, fsys := counted(t, func(dir string) {
			var entries []string
			for i := range n {
				entries = append(entries, entryOf(fmt.Sprint(i), fmt.Sprintf("absent%05d", i)))
			}
			entries = append(entries, entryOf(present, "present"))
			writeLayout(t, filepath.Join(dir, "app"), entries, present)
		})
		tags, err := ociregistry.All(r.Tags(t.Context(), "app", ""))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(tags, []string{"present"}))
		qt.Check(t, qt.IsTrue(fsys.Count("Lstat") < 2*n), qt.Commentf("%d", fsys.Count("Lstat")))
		tags, err = ociregistry.All(r.Tags(t.Context(), "app", "present0"))
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(tags, 0))

		// To find out what they name takes one look at each. Then a call about one blob,
		// or a page, looks at no other.
		_, err = r.ResolveBlob(t.Context(), "app", digest.FromString("blob"))
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUnknown)))
		err = r.DeleteBlob(t.Context(), "app", digest.FromString(present)) // which makes a journal: all is read anew
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrInUse)))
		synctest.Wait() // a snapshot is written
		before := fsys.Count("Lstat") + fsys.Count("OpenFile")
		for range 10 {
			_, err = r.ResolveBlob(t.Context(), "app", digest.FromString("blob"))
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUnknown)))
			_, err = ociregistry.All(r.Referrers(t.Context(), "app", digest.FromString("subject"), ""))
			qt.Check(t, qt.IsNil(err))
			err = r.DeleteBlob(t.Context(), "app", digest.FromString(present))
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrInUse)))
		}
		after := fsys.Count("Lstat") + fsys.Count("OpenFile")
		qt.Check(t, qt.IsTrue(after-before < 400), qt.Commentf("%d", after-before))
	})
}

// The first page of many tags looks only for its own manifests.
func TestTags_FirstPageLooksAtItself(t *testing.T) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		r, fsys := counted(t, func(dir string) {
			var entries, contents []string
			for i := range 600 {
				text := fmt.Sprintf(`{"schemaVersion":2,"manifests":[],"i":%d}`, i)
				entries, contents = append(entries, entryOf(text, fmt.Sprintf("v%04d", i))), append(contents, text)
			}
			writeLayout(t, filepath.Join(dir, "app"), entries, contents...)
		})
		n := 0
		for _, err := range r.Tags(t.Context(), "app", "v0199") {
			qt.Assert(t, qt.IsNil(err))
			if n++; n == 100 {
				break
			}
		}
		qt.Check(t, qt.IsTrue(fsys.Count("Lstat") < 2*ordered.BatchSize), qt.Commentf("%d", fsys.Count("Lstat")))
	})
}

// A page of referrers reads only its own referrers.
func TestReferrers_PageBeginsWhereItIsAsked(t *testing.T) {
	t.Parallel()
	subject := digest.FromString("subject")
	var last ociregistry.Digest
	r, fsys := counted(t, func(dir string) {
		var entries, contents []string
		for i := range 250 {
			text := fmt.Sprintf(`{"schemaVersion":2,"manifests":[],"subject":{"mediaType":"a/b","digest":%q,"size":7},"annotations":{"i":"%d","large":%q}}`, subject, i, strings.Repeat("x", 32<<10))
			entries, contents = append(entries, entryOf(text, "")), append(contents, text)
			last = max(last, digest.FromString(text))
		}
		writeLayout(t, filepath.Join(dir, "app"), entries, contents...)
	})
	_, err := ociregistry.All(r.Referrers(t.Context(), "app", digest.FromString("other"), ""))
	qt.Assert(t, qt.IsNil(err)) // what they name is known now, and most texts are not in memory any more
	var read atomic.Int32
	fsys.Set(func(op, name string) error { // a snapshot may be written meanwhile
		if op == "OpenFile" && filepath.Base(filepath.Dir(name)) == "sha256" {
			read.Add(1)
		}
		return nil
	})
	all, err := ociregistry.All(r.Referrers(ociregistry.WithReferrersAfter(t.Context(), last[:len(last)-2]), "app", subject, ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(all, 1))
	qt.Check(t, qt.Equals(all[0].Digest, last))
	qt.Check(t, qt.IsTrue(read.Load() <= 1)) // its text may be in memory
}
