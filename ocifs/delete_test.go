package ocifs_test

import (
	"os"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Deleting a tag deletes nothing else.
func TestDeleteTag_DeletesNothingElse(t *testing.T) {
	t.Parallel()
	const repo = "app"
	a := image(1)
	onBackends(t, func(t *testing.T, r ociregistry.Interface) {
		must(t, r).MustPush(repo, a, "v1", "v2", "v3")
		qt.Assert(t, qt.IsNil(r.DeleteTag(t.Context(), repo, "v2")))
		wantTags(t, r, repo, "v1", "v3")
		wantNoTag(t, r, repo, "v2")
		wantArtifact(t, r, repo, a, "v1", "v3")
		qt.Check(t, qt.ErrorIs(r.DeleteTag(t.Context(), repo, "v2"), error(ociregistry.ErrManifestUnknown)))
		qt.Check(t, qt.ErrorIs(r.DeleteTag(t.Context(), repo, "never"), error(ociregistry.ErrManifestUnknown)))
		qt.Assert(t, qt.IsNil(r.DeleteTag(t.Context(), repo, "v1")))
		qt.Assert(t, qt.IsNil(r.DeleteTag(t.Context(), repo, "v3")))
		wantTags(t, r, repo)
		wantArtifact(t, r, repo, a)
		wantRepositories(t, r, repo)
	})
	for _, restart := range []bool{false, true} { // before the deletes
		for _, own := range []bool{true, false} {
			f := newFixture(t, ocifs.Options{})
			if own {
				must(t, f).MustPush(repo, a, "v1", "v2", "v3")
			} else {
				newForeign(t, f.path(repo), a).index(named(a.Descriptor, "v1"), named(a.Descriptor, "example.com/app:v2"), named(a.Descriptor, "app:v3"))
			}
			if restart {
				f.reopen()
			}
			qt.Assert(t, qt.IsNil(f.DeleteTag(t.Context(), repo, "v2")))
			f.reopen()
			wantTags(t, f, repo, "v1", "v3")
			qt.Check(t, qt.HasLen(f.layout(repo).tags(), 2))
			for _, tag := range []string{"v1", "v3"} {
				qt.Assert(t, qt.IsNil(f.DeleteTag(t.Context(), repo, tag)))
			}
			for range 2 {
				wantTags(t, f, repo)
				wantArtifact(t, f, repo, a)
				wantRepositories(t, f, repo)
				f.reopen()
				l := f.layout(repo)
				qt.Check(t, qt.HasLen(l.entries, 1)) // without a name
				qt.Check(t, qt.HasLen(l.tags(), 0))
				qt.Check(t, qt.Equals(l.entry(a.Descriptor.Digest).Size, a.Descriptor.Size))
				qt.Check(t, qt.HasLen(l.blobs, 1+len(a.Blobs)))
			}
		}
	}
}

// Deleting a manifest deletes its tags, and nothing else.
func TestDeleteManifest_DeletesItsTagsAndNothingElse(t *testing.T) {
	t.Parallel()
	const repo = "app"
	a, b := image(1), image(2)
	onBackends(t, func(t *testing.T, r ociregistry.Interface) {
		must(t, r).MustPush(repo, a, "v1", "v2", "v3")
		must(t, r).MustPush(repo, b, "other")
		qt.Assert(t, qt.IsNil(r.DeleteManifest(t.Context(), repo, a.Descriptor.Digest)))
		wantNoManifest(t, r, repo, a.Descriptor.Digest)
		wantNoBlob(t, r, repo, a.Descriptor.Digest)
		for _, tag := range []string{"v1", "v2", "v3"} {
			wantNoTag(t, r, repo, tag)
		}
		wantTags(t, r, repo, "other")
		wantArtifact(t, r, repo, b, "other")
		qt.Check(t, qt.ErrorIs(r.DeleteManifest(t.Context(), repo, a.Descriptor.Digest), error(ociregistry.ErrManifestUnknown)))
		for _, blob := range a.Blobs { // are there until they are deleted
			desc, err := r.ResolveBlob(t.Context(), repo, blob.Descriptor.Digest)
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(desc.Size, blob.Descriptor.Size))
			qt.Check(t, qt.IsNil(r.DeleteBlob(t.Context(), repo, blob.Descriptor.Digest)))
			wantNoBlob(t, r, repo, blob.Descriptor.Digest)
		}
		must(t, r).MustPush(repo, a, "v1")
		wantArtifact(t, r, repo, a, "v1")
		wantTags(t, r, repo, "other", "v1")
	})
	for _, restart := range []bool{false, true} {
		f := newFixture(t, ocifs.Options{})
		must(t, f).MustPush(repo, a, "v1", "v2", "v3")
		must(t, f).MustPush(repo, b, "other")
		if restart {
			f.reopen()
		}
		qt.Assert(t, qt.IsNil(f.DeleteManifest(t.Context(), repo, a.Descriptor.Digest)))
		for range 2 {
			wantNoManifest(t, f, repo, a.Descriptor.Digest)
			wantTags(t, f, repo, "other")
			f.reopen()
			l := f.layout(repo)
			qt.Check(t, qt.Equals(l.count(a.Descriptor.Digest), 0))
			qt.Check(t, qt.HasLen(l.entries, 1))
			qt.Check(t, qt.HasLen(l.blobs, 1+len(a.Blobs)+len(b.Blobs))) // all but the manifest
			_, err := os.Lstat(f.blobPath(repo, a.Descriptor.Digest))
			qt.Check(t, qt.ErrorIs(err, os.ErrNotExist))
		}
	}
}

// When everything in a repository is deleted, the repository is gone.
func TestDelete_OfLastContentRemovesRepository(t *testing.T) {
	t.Parallel()
	const repo = "team/app"
	a := image(1)
	onBackends(t, func(t *testing.T, r ociregistry.Interface) {
		must(t, r).MustPush(repo, a, "v1", "v2")
		qt.Assert(t, qt.IsNil(r.DeleteManifest(t.Context(), repo, a.Descriptor.Digest)))
		for _, blob := range a.Blobs {
			wantRepositories(t, r, repo)
			qt.Assert(t, qt.IsNil(r.DeleteBlob(t.Context(), repo, blob.Descriptor.Digest)))
		}
		wantRepositories(t, r)
		_, err := ociregistry.All(r.Tags(t.Context(), repo, ""))
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrNameUnknown)))
	})
	for _, restart := range []bool{false, true} {
		f := newFixture(t, ocifs.Options{})
		must(t, f).MustPush(repo, a, "v1", "v2")
		if restart {
			f.reopen()
		}
		qt.Assert(t, qt.IsNil(f.DeleteManifest(t.Context(), repo, a.Descriptor.Digest)))
		for _, blob := range a.Blobs {
			qt.Assert(t, qt.IsNil(f.DeleteBlob(t.Context(), repo, blob.Descriptor.Digest)))
		}
		wantRepositories(t, f)
		f.close()
		_, err := os.Lstat(f.path("team"))
		qt.Check(t, qt.ErrorIs(err, os.ErrNotExist))
		f.open()
		must(t, f).MustPush(repo, a, "v3")
		f.reopen()
		wantArtifact(t, f, repo, a, "v3")
		wantTags(t, f, repo, "v3")
	}
}

// With ProtectShared, a manifest with several tags cannot be deleted by its digest.
func TestDeleteManifest_RefusesSharedWithProtectShared(t *testing.T) {
	t.Parallel()
	const repo = "app"
	a := image(1)
	d := a.Descriptor.Digest
	layouts := map[string]func(f *fixture){
		"own": func(f *fixture) { must(t, f).MustPush(repo, a, "v1", "v2", "v3") },
		"own, reopened": func(f *fixture) {
			must(t, f).MustPush(repo, a, "v1", "v2", "v3")
			f.reopen()
		},
		"foreign": func(f *fixture) {
			newForeign(t, f.path(repo), a).index(named(a.Descriptor, "v1"), named(a.Descriptor, "example.com/app:v2"), named(a.Descriptor, "app:v3"), line(a.Descriptor))
		},
	}
	for name, fill := range layouts {
		f := newFixture(t, ocifs.Options{ProtectShared: true})
		fill(f)
		refused := func() {
			t.Helper()
			for range 2 {
				err := f.DeleteManifest(t.Context(), repo, d)
				qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrDenied)), qt.Commentf(name))
				qt.Check(t, qt.Not(qt.ErrorIs(err, error(ociregistry.ErrInUse))), qt.Commentf(name)) // no manifest names it
				f.reopen()
			}
		}
		refused()
		wantTags(t, f, repo, "v1", "v2", "v3")
		qt.Assert(t, qt.IsNil(f.DeleteTag(t.Context(), repo, "v2")))
		refused()
		wantArtifact(t, f, repo, a, "v1", "v3")
		qt.Assert(t, qt.IsNil(f.DeleteTag(t.Context(), repo, "v3")))
		qt.Assert(t, qt.IsNil(f.DeleteManifest(t.Context(), repo, d)), qt.Commentf(name)) // one tag is not shared
		wantNoManifest(t, f, repo, d)
		wantTags(t, f, repo)

		must(t, f).MustPush(repo, a)
		qt.Assert(t, qt.IsNil(f.DeleteManifest(t.Context(), repo, d)), qt.Commentf(name)) // nor is none
		f.reopen()
		wantNoManifest(t, f, repo, d)
	}
}
