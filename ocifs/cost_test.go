package ocifs

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
)

// counted is a registry whose calls of the system are counted.
func counted(t *testing.T, fill func(dir string)) (*Registry, *hookFS) {
	t.Helper()
	dir := KeptDir(t)
	fill(dir)
	fsys := new(hookFS)
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
		"oci-layout": emptyLayout,
		"index.json": `{"schemaVersion":2,"manifests":[` + strings.Join(entries, ",\n") + `]}`,
	} {
		qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666)))
	}
}

func entryOf(text, tag string) string {
	m := stored{digest: digest.FromString(text), mediaType: ocispec.MediaTypeImageIndex, size: int64(len(text))}
	return string(appendEntry(nil, &m, tag))
}

// A list of tags whose manifests are absent looks for each of them once, and what
// comes after it not for all again.
func TestAbsentManifests_AreListedInLinearTime(t *testing.T) {
	t.Parallel()
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
	qt.Check(t, qt.IsTrue(fsys.count("Lstat") < 2*n), qt.Commentf("%d", fsys.count("Lstat")))
	tags, err = ociregistry.All(r.Tags(t.Context(), "app", "present0"))
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(tags, 0))

	// To find out what they name takes one look at each. Then a call about one blob,
	// or a page, looks at no other.
	_, err = r.ResolveBlob(t.Context(), "app", digest.FromString("blob"))
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUnknown)))
	err = r.DeleteBlob(t.Context(), "app", digest.FromString(present)) // which makes a journal: all is read anew
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrInUse)))
	before := fsys.count("Lstat") + fsys.count("OpenFile")
	for range 10 {
		_, err = r.ResolveBlob(t.Context(), "app", digest.FromString("blob"))
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUnknown)))
		_, err = ociregistry.All(r.Referrers(t.Context(), "app", digest.FromString("subject"), ""))
		qt.Check(t, qt.IsNil(err))
		err = r.DeleteBlob(t.Context(), "app", digest.FromString(present))
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrInUse)))
	}
	after := fsys.count("Lstat") + fsys.count("OpenFile")
	qt.Check(t, qt.IsTrue(after-before < 400), qt.Commentf("%d", after-before))
}

// The first page of many tags does not look for all manifests.
func TestTags_FirstPageLooksAtItself(t *testing.T) {
	t.Parallel()
	r, fsys := counted(t, func(dir string) {
		var entries, contents []string
		for i := range 2000 {
			text := fmt.Sprintf(`{"schemaVersion":2,"manifests":[],"i":%d}`, i)
			entries, contents = append(entries, entryOf(text, fmt.Sprintf("v%04d", i))), append(contents, text)
		}
		writeLayout(t, filepath.Join(dir, "app"), entries, contents...)
	})
	n := 0
	for _, err := range r.Tags(t.Context(), "app", "v0999") {
		qt.Assert(t, qt.IsNil(err))
		if n++; n == 100 {
			break
		}
	}
	qt.Check(t, qt.IsTrue(fsys.count("Lstat") < 2*batchSize), qt.Commentf("%d", fsys.count("Lstat")))
}

// A page of referrers reads those that it has.
func TestReferrers_PageBeginsWhereItIsAsked(t *testing.T) {
	t.Parallel()
	subject := digest.FromString("subject")
	var last ociregistry.Digest
	r, fsys := counted(t, func(dir string) {
		var entries, contents []string
		for i := range 1000 {
			text := fmt.Sprintf(`{"schemaVersion":2,"manifests":[],"subject":{"mediaType":"a/b","digest":%q,"size":7},"annotations":{"i":"%d"}}`, subject, i)
			entries, contents = append(entries, entryOf(text, "")), append(contents, text)
			last = max(last, digest.FromString(text))
		}
		writeLayout(t, filepath.Join(dir, "app"), entries, contents...)
	})
	_, err := ociregistry.All(r.Referrers(t.Context(), "app", digest.FromString("other"), ""))
	qt.Assert(t, qt.IsNil(err)) // what they name is known now
	r.cache = cache{}
	before := fsys.count("OpenFile")
	all, err := ociregistry.All(r.Referrers(ociregistry.WithReferrersAfter(t.Context(), last[:len(last)-2]), "app", subject, ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(all, 1))
	qt.Check(t, qt.Equals(all[0].Digest, last))
	qt.Check(t, qt.IsTrue(fsys.count("OpenFile")-before < 5))
}

// The cache of manifests has no more memory than it says, of small ones neither, and
// lets go of what is deleted.
func TestCache_CountsWhatAnEntryCosts(t *testing.T) {
	// It looks at all of the memory.
	const size = 40
	live := func() uint64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before := live()
	c := new(cache)
	for i := range 60_000 {
		text := fmt.Sprintf("%0*d", size, i)
		c.add(digest.FromString(text), text)
	}
	qt.Check(t, qt.IsTrue(int64(live())-int64(before) < cacheBytes*5/4), qt.Commentf("%d bytes", int64(live())-int64(before)))
	qt.Check(t, qt.IsTrue(c.bytes <= cacheBytes && len(c.items) == c.bytes/(size+entryBytes)))
	last := fmt.Sprintf("%0*d", size, 59_999)
	_, ok := c.get(digest.FromString(last))
	qt.Check(t, qt.IsTrue(ok))
	c.remove(digest.FromString(last))
	c.remove(digest.FromString(last))
	_, ok = c.get(digest.FromString(last))
	qt.Check(t, qt.IsFalse(ok))
	qt.Check(t, qt.Equals(len(c.items), c.bytes/(size+entryBytes)))
	runtime.KeepAlive(c)

	r, err := New(KeptDir(t), &Options{NoSync: true})
	qt.Assert(t, qt.IsNil(err))
	defer r.Close()
	desc, err := r.PushManifest(t.Context(), "app", "v1", []byte("text"), "text/plain")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(r.cache.items, 1))
	qt.Assert(t, qt.IsNil(r.DeleteManifest(t.Context(), "app", desc.Digest)))
	qt.Check(t, qt.HasLen(r.cache.items, 0))
}
