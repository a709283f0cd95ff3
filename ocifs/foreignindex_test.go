package ocifs_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// If two entries name exactly the same tag, the tag is always that of the same entry.
func TestForeignIndex_TagOfTwoEntriesIsAlwaysTheSame(t *testing.T) {
	t.Parallel()
	const repo = "app"
	a, b := image(1), image(2)
	f := newFixture(t, ocifs.Options{})
	entries := []string{named(a.Descriptor, "v1"), named(b.Descriptor, "v1"), line(a.Descriptor, `"x":1`)}
	newForeign(t, f.path(repo), a, b).index(entries...)
	first, err := f.ResolveTag(t.Context(), repo, "v1")
	qt.Assert(t, qt.IsNil(err))
	for i := range 4 {
		must(t, f).MustPushManifest(repo, map[string]any{"mediaType": "text/x", "n": i}, "")
		f.reopen()
		now, err := f.ResolveTag(t.Context(), repo, "v1")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(now, first), qt.Commentf("after %d pushes", i+1))
		wantArtifact(t, f, repo, a)
		wantArtifact(t, f, repo, b)
		for _, e := range entries {
			qt.Check(t, qt.SliceContains(rawEntries(t, f.path(repo)), e))
		}
	}
}

// Entries that the registry changes, or that conflict with a change, do not come
// back.
func TestForeignEntries_DoNotComeBackOnceChanged(t *testing.T) {
	t.Parallel()
	const repo = "app"
	a, b := image(1), image(2)
	other := named(b.Descriptor, "example.com/app:other")
	tests := []struct {
		name    string
		entries []string
		change  func(f *fixture) error
		gone    bool // whether no entry for a is to be left
		check   func(t *testing.T, f *fixture)
	}{
		{
			"delete a tag that two entries name",
			[]string{named(a.Descriptor, "v1"), named(b.Descriptor, "app:v1"), other},
			func(f *fixture) error { return f.DeleteTag(t.Context(), repo, "v1") },
			false,
			func(t *testing.T, f *fixture) {
				wantTags(t, f, repo, "other")
				wantNoTag(t, f, repo, "v1")
				wantArtifact(t, f, repo, a)
				wantArtifact(t, f, repo, b, "other")
			},
		},
		{
			"delete a tag that is in a reference",
			[]string{named(a.Descriptor, "example.com/app:v1"), other},
			func(f *fixture) error { return f.DeleteTag(t.Context(), repo, "v1") },
			false,
			func(t *testing.T, f *fixture) {
				wantTags(t, f, repo, "other")
				wantArtifact(t, f, repo, a)
			},
		},
		{
			"move a tag that two entries name",
			[]string{named(a.Descriptor, "example.com/app:v1"), named(b.Descriptor, "app:v1"), other},
			func(f *fixture) error { return image(3).Push(t.Context(), f, repo, "v1") },
			false,
			func(t *testing.T, f *fixture) {
				wantTags(t, f, repo, "other", "v1")
				wantArtifact(t, f, repo, image(3), "v1")
				wantArtifact(t, f, repo, a)
				wantArtifact(t, f, repo, b, "other")
			},
		},
		{
			"delete the manifest of an entry that does not count",
			[]string{named(b.Descriptor, "v1"), named(a.Descriptor, "app:v1"), other},
			func(f *fixture) error { return f.DeleteManifest(t.Context(), repo, a.Descriptor.Digest) },
			true,
			func(t *testing.T, f *fixture) {
				wantTags(t, f, repo, "other", "v1")
				wantArtifact(t, f, repo, b, "v1", "other")
				wantNoManifest(t, f, repo, a.Descriptor.Digest)
			},
		},
		{
			"delete the manifest of the entry that counts",
			[]string{named(a.Descriptor, "v1"), named(b.Descriptor, "app:v1"), other},
			func(f *fixture) error { return f.DeleteManifest(t.Context(), repo, a.Descriptor.Digest) },
			true,
			func(t *testing.T, f *fixture) {
				wantTags(t, f, repo, "other")
				wantNoTag(t, f, repo, "v1")
				wantArtifact(t, f, repo, b, "other")
				wantNoManifest(t, f, repo, a.Descriptor.Digest)
			},
		},
		{
			"delete a manifest with many entries",
			[]string{named(a.Descriptor, "v1"), named(a.Descriptor, "app:v2"), line(a.Descriptor), line(a.Descriptor, `"x":1`), named(a.Descriptor, "feature/x"), other},
			func(f *fixture) error { return f.DeleteManifest(t.Context(), repo, a.Descriptor.Digest) },
			true,
			func(t *testing.T, f *fixture) {
				wantTags(t, f, repo, "other")
				wantNoManifest(t, f, repo, a.Descriptor.Digest)
			},
		},
		{
			"push a manifest that was absent",
			[]string{named(image(3).Descriptor, "v1"), other},
			func(f *fixture) error { return image(3).Push(t.Context(), f, repo) },
			false,
			func(t *testing.T, f *fixture) {
				wantTags(t, f, repo, "other", "v1")
				wantArtifact(t, f, repo, image(3), "v1")
			},
		},
		{
			"delete a manifest that is absent",
			[]string{named(image(3).Descriptor, "v1"), other},
			func(f *fixture) error {
				// Whether it can be deleted or is unknown, nothing else is harmed.
				f.DeleteManifest(t.Context(), repo, image(3).Descriptor.Digest)
				return nil
			},
			false,
			func(t *testing.T, f *fixture) {
				wantTags(t, f, repo, "other")
				wantNoManifest(t, f, repo, image(3).Descriptor.Digest)
			},
		},
		{
			"delete a tag beside an absent manifest",
			[]string{named(image(3).Descriptor, "v1"), named(a.Descriptor, "v2"), other},
			func(f *fixture) error { return f.DeleteTag(t.Context(), repo, "v2") },
			false,
			func(t *testing.T, f *fixture) {
				wantTags(t, f, repo, "other")
				wantArtifact(t, f, repo, a)
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, ocifs.Options{})
			newForeign(t, f.path(repo), a, b).index(test.entries...)
			qt.Assert(t, qt.IsNil(test.change(f)))
			for range 3 {
				test.check(t, f)
				f.reopen()
				qt.Check(t, qt.SliceContains(rawEntries(t, f.path(repo)), other))
				if test.gone {
					qt.Check(t, qt.Equals(f.layout(repo).count(a.Descriptor.Digest), 0))
				}
				_, desc := must(t, f).MustPushManifest(repo, map[string]any{"mediaType": "text/x"}, "")
				qt.Assert(t, qt.IsNil(f.DeleteManifest(t.Context(), repo, desc.Digest)))
			}
			test.check(t, f)
		})
	}
}

// Content that was pushed as a manifest and as a blob stays both, whichever entry says so.
func TestForeignEntries_LeaveBlobWhenAnotherEntryGoes(t *testing.T) {
	t.Parallel()
	const repo = "app"
	a := image(1)
	f := newFixture(t, ocifs.Options{})
	must(t, f).MustPush(repo, a, "v1")
	qt.Assert(t, qt.IsNil(pushBlob(t.Context(), f, repo, a.Manifest)))
	f.close()
	foreign := named(a.Descriptor, "v2")
	entries := append(rawEntries(t, f.path(repo)), foreign)
	newForeign(t, f.path(repo)).index(entries...)
	f.open()
	qt.Assert(t, qt.IsNil(f.DeleteTag(t.Context(), repo, "v1")))
	for range 2 {
		f.reopen()
		wantBlob(t, f, repo, a.Manifest)
		wantArtifact(t, f, repo, a, "v2")
		qt.Check(t, qt.SliceContains(rawEntries(t, f.path(repo)), foreign))
	}
}

// The registry keeps unknown fields of index.json, and files that it did not write.
func TestForeignIndex_KeepsFieldsAndFilesOfOthers(t *testing.T) {
	t.Parallel()
	const repo = "app"
	a := image(1)
	f := newFixture(t, ocifs.Options{})
	layout := newForeign(t, f.path(repo), a)
	layout.indexText(`{
  "annotations": {"who": "another <program>"},
  "mediaType": "application/vnd.oci.image.index.v1+json",
  "x-new": [1, 2.50, {"deep": "\u00e9"}],
  "manifests": [
    ` + strings.ReplaceAll(named(a.Descriptor, "v1"), ",", ",\n    ") + `
  ],
  "artifactType": "application/vnd.example",
  "schemaVersion": 2
}
`)
	others := map[string]string{
		"manifest.json": `[{"Config":"x"}]`, "repositories": `{}`, "index.json.bak": "old", "README": "text",
		filepath.Join("blobs", "md5", "900150983cd24fb0d6963f7d28e17f72"): "abc",
		filepath.Join("blobs", "sha256", "partial.tmp"):                   "half",
		filepath.Join(".uploads", "3b4f"):                                 "zot",
	}
	for name, text := range others {
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(f.path(repo, name)), 0o777)))
		writeFile(t, f.path(repo, name), text)
	}
	for i := range 2 {
		must(t, f).MustPush(repo, image(uint64(10+i)), fmt.Sprint("new-", i))
		f.reopen()
		wantArtifact(t, f, repo, a, "v1")
	}
	qt.Assert(t, qt.IsNil(f.DeleteManifest(t.Context(), repo, image(10).Descriptor.Digest)))
	f.close()
	for name, text := range others {
		got, err := os.ReadFile(f.path(repo, name))
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(string(got), text))
	}
	text, err := os.ReadFile(f.path(repo, "index.json"))
	qt.Assert(t, qt.IsNil(err))
	var index map[string]json.RawMessage
	qt.Assert(t, qt.IsNil(json.Unmarshal(text, &index)))
	qt.Check(t, qt.Equals(string(index["annotations"]), `{"who": "another <program>"}`))
	qt.Check(t, qt.Equals(string(index["x-new"]), `[1, 2.50, {"deep": "\u00e9"}]`))
	qt.Check(t, qt.Equals(string(index["artifactType"]), `"application/vnd.example"`))
	qt.Check(t, qt.Equals(string(index["schemaVersion"]), `2`))
	qt.Check(t, qt.Equals(string(index["mediaType"]), `"application/vnd.oci.image.index.v1+json"`))
}

// A repository with files of other programs is not removed with its last content.
func TestForeignFiles_KeepDirectoryOfEmptyRepository(t *testing.T) {
	t.Parallel()
	const repo = "app"
	f := newFixture(t, ocifs.Options{})
	must(t, f).MustPushBlob(repo, data(1, 100))
	f.reopen()
	writeFile(t, f.path(repo, "README"), "text")
	qt.Assert(t, qt.IsNil(f.DeleteBlob(t.Context(), repo, describe(data(1, 100)).Digest)))
	wantRepositories(t, f)
	f.close()
	text, err := os.ReadFile(f.path(repo, "README"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(text), "text"))
}

// The registry notices changes that other programs make while it is open.
func TestForeignIndex_ChangesAreNoticedWhileOpen(t *testing.T) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		const repo = "app"
		a, b, c := image(1), image(2), image(3)
		f := newFixture(t, ocifs.Options{})
		layout := newForeign(t, f.path(repo), a)
		layout.index(named(a.Descriptor, "v1"))
		wantTags(t, f, repo, "v1")

		layout.add(b)
		layout.index(named(a.Descriptor, "v1"), named(b.Descriptor, "v2"))
		wantTags(t, f, repo, "v1", "v2")
		wantArtifact(t, f, repo, b, "v2")

		// It does not know of what is in the journal alone; both are kept.
		must(t, f).MustPush(repo, c, "v3")
		layout.index(named(a.Descriptor, "v1"), named(b.Descriptor, "v2"), named(b.Descriptor, "v4"), line(a.Descriptor, `"x":1`))
		wantTags(t, f, repo, "v1", "v2", "v3", "v4")
		f.reopen()
		wantTags(t, f, repo, "v1", "v2", "v3", "v4")
		wantArtifact(t, f, repo, c, "v3")
		qt.Check(t, qt.SliceContains(rawEntries(t, f.path(repo)), line(a.Descriptor, `"x":1`)))

		// It writes in place, and deletes.
		writeFile(t, f.path(repo, "index.json"), `{"schemaVersion":2,"manifests":[`+named(c.Descriptor, "v9")+`]}`)
		wantTags(t, f, repo, "v9")
		wantArtifact(t, f, repo, c, "v9")
		wantNoManifest(t, f, repo, a.Descriptor.Digest)
		f.reopen()
		wantTags(t, f, repo, "v9")

		// It makes a repository, and removes one.
		newForeign(t, f.path("made"), a).index(named(a.Descriptor, "v1"))
		wantArtifact(t, f, "made", a, "v1")
		wantRepositories(t, f, repo, "made")
		qt.Assert(t, qt.IsNil(os.RemoveAll(f.path("made"))))
		wantRepositories(t, f, repo)
		_, err := f.ResolveTag(t.Context(), "made", "v1")
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrNameUnknown)))
		must(t, f).MustPush("made", b, "v2")
		f.reopen()
		wantTags(t, f, "made", "v2")
	})
}

// A root that zot wrote is served as it is.
func TestForeignRoot_OfZotIsServed(t *testing.T) {
	t.Parallel()
	f := &fixture{t: t, dir: scratch.Dir(t), opts: ocifs.Options{NoSync: true}}
	index := ocitest.NewIndex(ocitest.Spec{}, image(1), image(2))
	signature := ocitest.NewImage(ocitest.Spec{Seed: 5, ArtifactType: "application/vnd.example.signature", Subject: &index.Descriptor})
	newForeign(t, f.path("app"), index, signature).index(named(index.Descriptor, "latest"), line(image(1).Descriptor), line(image(2).Descriptor), line(signature.Descriptor))
	newForeign(t, f.path("team/app"), image(1)).index(named(image(1).Descriptor, "v1"))
	newForeign(t, f.path("team/empty"))
	for _, name := range []string{"app/.uploads", "team/app/.uploads", "_trivy", ".sync"} {
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Join(f.dir, name), 0o777)))
	}
	writeFile(t, filepath.Join(f.dir, "cache.db"), "database")
	before := tree(t, f.dir)

	f.opts.ReadOnly = true
	f.open()
	wantRepositories(t, f, "app", "team/app")
	wantArtifact(t, f, "app", index, "latest")
	wantArtifact(t, f, "app", signature)
	wantArtifact(t, f, "team/app", image(1), "v1")
	referrers, err := ociregistry.All(f.Referrers(t.Context(), "app", index.Descriptor.Digest, ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(referrers, 1))
	qt.Check(t, qt.Equals(referrers[0].Digest, signature.Descriptor.Digest))
	qt.Check(t, qt.Equals(referrers[0].ArtifactType, "application/vnd.example.signature"))
	f.close()
	qt.Check(t, qt.DeepEquals(tree(t, f.dir), before))

	f.opts.ReadOnly = false
	f.open()
	must(t, f).MustPush("app", image(3), "v3")
	f.close()
	l := f.layout("app")
	qt.Check(t, qt.DeepEquals(l.tags(), map[string]digest.Digest{"latest": index.Descriptor.Digest, "v3": image(3).Descriptor.Digest}))
	qt.Check(t, qt.HasLen(l.entries, 5))
}
