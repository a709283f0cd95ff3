package ocifs_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/locked"
	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// logged returns options whose logger writes to the buffer.
func logged() (ocifs.Options, *locked.Buffer) {
	log := new(locked.Buffer)
	return ocifs.Options{Logger: log.Logger()}, log
}

// missing is a ruin in which nothing is left.
func missing(t *testing.T, name string) { qt.Assert(t, qt.IsNil(os.Remove(name))) }

// eachRuin runs a test for all that can become of a manifest's file.
func eachRuin(t *testing.T, test func(t *testing.T, ruin func(t *testing.T, name string))) {
	for name, ruin := range ruins {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t, ruin) })
	}
	t.Run("missing", func(t *testing.T) { t.Parallel(); test(t, missing) })
}

// signatureOf returns an artifact whose subject is a.
func signatureOf(a *ocitest.Artifact, seed uint64) *ocitest.Artifact {
	return ocitest.NewImage(ocitest.Spec{Seed: seed, Layers: []int64{10}, ArtifactType: "application/vnd.example.signature", Subject: &a.Descriptor})
}

func wantReferrers(t testing.TB, r ociregistry.Interface, repo string, d ociregistry.Digest, want ...*ocitest.Artifact) {
	t.Helper()
	got, err := ociregistry.All(r.Referrers(t.Context(), repo, d, ""))
	qt.Assert(t, qt.IsNil(err))
	digests := make(map[ociregistry.Digest]bool)
	for _, desc := range got {
		digests[desc.Digest] = true
	}
	qt.Check(t, qt.HasLen(got, len(want)))
	for _, a := range want {
		qt.Check(t, qt.IsTrue(digests[a.Descriptor.Digest]))
	}
}

// An image or a signature that cannot be read affects no other content.
func TestUnreadableManifest_LeavesOthersAlone(t *testing.T) {
	t.Parallel()
	const repo = "app"
	a, b := image(1), image(2)
	good, bad := signatureOf(a, 5), signatureOf(a, 6)
	for name, broken := range map[string]*ocitest.Artifact{"a referrer": bad, "an image": b} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachRuin(t, func(t *testing.T, ruin func(t *testing.T, name string)) {
				opts, log := logged()
				f := newFixture(t, opts)
				for _, x := range []*ocitest.Artifact{a, b, good, bad} {
					must(t, f).MustPush(repo, x)
				}
				must(t, f).MustPush(repo, a, "v1", "v2")
				must(t, f).MustPush(repo, image(3), "gone")
				must(t, f).MustPushBlob(repo, []byte("unused"))
				f.close()
				path := f.blobPath(repo, broken.Descriptor.Digest)
				ruin(t, path)
				f.forget(repo)
				f.open()

				referrers := []*ocitest.Artifact{good}
				if broken == b {
					referrers = append(referrers, bad)
				}
				for range 2 {
					wantReferrers(t, f, repo, a.Descriptor.Digest, referrers...)
					wantArtifact(t, f, repo, a, "v1", "v2")
					wantTags(t, f, repo, "gone", "v1", "v2")
					wantRepositories(t, f, repo)
				}
				qt.Check(t, qt.StringContains(log.String(), string(broken.Descriptor.Digest)))

				// Blobs may be in use; other manifests are not, of an image.
				unused := digest.FromString("unused")
				err := f.DeleteBlob(t.Context(), repo, unused)
				wantInUse(t, err, "a blob")
				qt.Check(t, qt.StringContains(messageOf(err), string(broken.Descriptor.Digest)))
				qt.Check(t, qt.Not(qt.StringContains(messageOf(err), f.dir)))
				qt.Check(t, qt.IsNil(f.DeleteTag(t.Context(), repo, "v2")))
				qt.Check(t, qt.IsNil(f.DeleteManifest(t.Context(), repo, image(3).Descriptor.Digest)))
				qt.Check(t, qt.IsNil(f.DeleteManifest(t.Context(), repo, good.Descriptor.Digest)))
				must(t, f).MustPush(repo, good)
				allowed := ociregistry.AllowInUse(t.Context())
				qt.Check(t, qt.IsNil(f.DeleteBlob(allowed, repo, image(3).Blobs[1].Descriptor.Digest)))
				f.reopen()
				wantTags(t, f, repo, "v1")
				wantInUse(t, f.DeleteBlob(t.Context(), repo, unused), "a blob")
				_, err = read(f.GetManifest(t.Context(), repo, broken.Descriptor.Digest))
				qt.Check(t, qt.IsNotNil(err))

				// It can be repaired, and then deleted; or deleted as it is.
				must(t, f).MustPush(repo, broken)
				wantManifest(t, f, repo, broken.Manifest, broken.Descriptor.MediaType)
				wantReferrers(t, f, repo, a.Descriptor.Digest, good, bad)
				qt.Check(t, qt.IsNil(f.DeleteBlob(t.Context(), repo, unused)))
				f.reopen()
				wantReferrers(t, f, repo, a.Descriptor.Digest, good, bad)
				wantManifest(t, f, repo, broken.Manifest, broken.Descriptor.MediaType)
				f.close()
				ruin(t, path)
				f.forget(repo)
				f.open()
				must(t, f).MustPushBlob(repo, []byte("unused"))
				wantInUse(t, f.DeleteBlob(t.Context(), repo, unused), "a blob")
				qt.Assert(t, qt.IsNil(f.DeleteManifest(t.Context(), repo, broken.Descriptor.Digest)))
				for range 2 {
					wantNoManifest(t, f, repo, broken.Descriptor.Digest)
					f.reopen()
				}
				qt.Check(t, qt.IsNil(f.DeleteBlob(t.Context(), repo, unused)))
				wantReferrers(t, f, repo, a.Descriptor.Digest, referrers...)
			})
		})
	}
}

// As long as the references of an index are unknown, they may be any manifest, so
// none can be deleted. The damaged index itself can be.
func TestUnreadableIndex_KeepsManifests(t *testing.T) {
	t.Parallel()
	const repo = "app"
	a, lone := image(1), image(3)
	index, other := ocitest.NewIndex(ocitest.Spec{}, a), ocitest.NewIndex(ocitest.Spec{Annotations: map[string]string{"a": "b"}}, a)
	eachRuin(t, func(t *testing.T, ruin func(t *testing.T, name string)) {
		f := newFixture(t, ocifs.Options{})
		must(t, f).MustPush(repo, index, "latest")
		must(t, f).MustPush(repo, other, "other")
		must(t, f).MustPush(repo, lone, "lone")
		f.close()
		ruin(t, f.blobPath(repo, index.Descriptor.Digest))
		ruin(t, f.blobPath(repo, other.Descriptor.Digest))
		f.open()
		for range 2 {
			wantInUse(t, f.DeleteManifest(t.Context(), repo, a.Descriptor.Digest), "a child")
			wantInUse(t, f.DeleteManifest(t.Context(), repo, lone.Descriptor.Digest), "another")
			wantArtifact(t, f, repo, lone, "lone")
			wantArtifact(t, f, repo, a)
			f.reopen()
		}
		qt.Assert(t, qt.IsNil(f.DeleteManifest(t.Context(), repo, index.Descriptor.Digest)))
		wantInUse(t, f.DeleteManifest(t.Context(), repo, lone.Descriptor.Digest), "another")
		must(t, f).MustPush(repo, other)
		wantInUse(t, f.DeleteManifest(t.Context(), repo, a.Descriptor.Digest), "a child")
		qt.Check(t, qt.IsNil(f.DeleteManifest(t.Context(), repo, lone.Descriptor.Digest)))
		f.reopen()
		wantArtifact(t, f, repo, other, "other")
		qt.Check(t, qt.IsNil(f.DeleteManifest(t.Context(), repo, other.Descriptor.Digest)))
		qt.Check(t, qt.IsNil(f.DeleteManifest(t.Context(), repo, a.Descriptor.Digest)))
		qt.Check(t, qt.IsNil(f.DeleteBlob(t.Context(), repo, a.Blobs[1].Descriptor.Digest)))
	})
}

// A manifest that was restored by hand counts again, even if nothing else has
// changed.
func TestUnreadableManifest_CountsAgainOnceRestored(t *testing.T) {
	t.Parallel()
	const repo = "app"
	a := image(1)
	signature := signatureOf(a, 5)
	f := newFixture(t, ocifs.Options{})
	must(t, f).MustPush(repo, a, "v1")
	must(t, f).MustPush(repo, signature)
	must(t, f).MustPushBlob(repo, []byte("unused"))
	f.close()
	path := f.blobPath(repo, signature.Descriptor.Digest)
	writeFile(t, path, "damaged")
	f.open()
	wantReferrers(t, f, repo, a.Descriptor.Digest)
	wantInUse(t, f.DeleteBlob(t.Context(), repo, digest.FromString("unused")), "a blob")
	writeFile(t, path, string(signature.Manifest))
	qt.Check(t, qt.IsNil(f.DeleteBlob(t.Context(), repo, digest.FromString("unused"))))
	wantReferrers(t, f, repo, a.Descriptor.Digest, signature)

	f.close()
	writeFile(t, path, "damaged")
	f.open()
	wantReferrers(t, f, repo, a.Descriptor.Digest)
	writeFile(t, path, string(signature.Manifest))
	wantManifest(t, f, repo, signature.Manifest, signature.Descriptor.MediaType)
	wantReferrers(t, f, repo, a.Descriptor.Digest, signature)
}

// An index with a child that was never present is not damage.
func TestSparseIndex_DoesNotKeepBlobs(t *testing.T) {
	t.Parallel()
	const repo = "app"
	a := image(1)
	index := ocitest.NewIndex(ocitest.Spec{}, a, image(2))
	f := newFixture(t, ocifs.Options{})
	layout := newForeign(t, f.path(repo), index)
	layout.index(named(index.Descriptor, "latest"))
	layout.blob([]byte("unused"))
	qt.Assert(t, qt.IsNil(os.Remove(f.blobPath(repo, image(2).Descriptor.Digest))))
	wantInUse(t, f.DeleteBlob(t.Context(), repo, a.Blobs[1].Descriptor.Digest), "a layer")
	qt.Check(t, qt.IsNil(f.DeleteBlob(t.Context(), repo, digest.FromString("unused"))))
}

// A manifest of a type that names nothing need not be read.
func TestUnknownType_NamesNothing(t *testing.T) {
	t.Parallel()
	const repo = "app"
	f := newFixture(t, ocifs.Options{})
	_, err := f.PushManifest(t.Context(), repo, "text", []byte("text"), "text/plain")
	qt.Assert(t, qt.IsNil(err))
	must(t, f).MustPushBlob(repo, []byte("unused"))
	f.close()
	qt.Assert(t, qt.IsNil(os.Remove(f.blobPath(repo, digest.FromString("text")))))
	f.open()
	qt.Check(t, qt.IsNil(f.DeleteBlob(t.Context(), repo, digest.FromString("unused"))))
}

// Content that another program stored as a manifest, but that is not one, cannot be
// parsed, but can be deleted.
func TestMalformedManifest_CanBeDeleted(t *testing.T) {
	t.Parallel()
	const repo = "app"
	a := image(1)
	for _, text := range []string{"{}", "[]", "text", `{"mediaType":"application/vnd.example"}`} {
		f := newFixture(t, ocifs.Options{})
		layout := newForeign(t, f.path(repo), a)
		layout.blob([]byte(text))
		desc := describe([]byte(text))
		desc.MediaType = a.Descriptor.MediaType
		layout.index(named(a.Descriptor, "v1"), named(desc, "none"))
		wantReferrers(t, f, repo, a.Descriptor.Digest)
		wantInUse(t, f.DeleteBlob(t.Context(), repo, a.Blobs[1].Descriptor.Digest), text)
		wantTags(t, f, repo, "none", "v1")
		wantManifest(t, f, repo, []byte(text), desc.MediaType, "none") // it is what it is
		qt.Check(t, qt.IsNil(f.DeleteManifest(t.Context(), repo, desc.Digest)))
		qt.Check(t, qt.IsNil(f.DeleteManifest(t.Context(), repo, a.Descriptor.Digest)))
		qt.Check(t, qt.IsNil(f.DeleteBlob(t.Context(), repo, a.Blobs[1].Descriptor.Digest)))
	}
}

// An artifact manifest with an empty mediaType field has the type that it was stored
// with.
func TestArtifact_WithoutMediaTypeIsWhatItWasStoredAs(t *testing.T) {
	t.Parallel()
	const repo = "app"
	a := image(1)
	for _, mediaType := range []string{manifest.MediaTypeORASArtifact, manifest.MediaTypeOCIArtifact} {
		text := fmt.Sprintf(`{"mediaType":"","artifactType":"text/plain","blobs":[{"mediaType":"text/plain","digest":%q,"size":4}],"subject":{"mediaType":%q,"digest":%q,"size":%d}}`,
			digest.FromString("blob"), a.Descriptor.MediaType, a.Descriptor.Digest, a.Descriptor.Size)
		desc := describe([]byte(text))
		desc.MediaType = mediaType
		check := func(t *testing.T, r ociregistry.Interface) {
			wantManifest(t, r, repo, []byte(text), mediaType)
			list, err := ociregistry.All(r.Referrers(t.Context(), repo, a.Descriptor.Digest, "text/plain"))
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.HasLen(list, 1))
			qt.Check(t, qt.Equals(list[0].MediaType, mediaType))
			wantInUse(t, r.DeleteBlob(t.Context(), repo, digest.FromString("blob")), "its blob")
			qt.Check(t, qt.IsNil(r.DeleteManifest(t.Context(), repo, desc.Digest)))
			qt.Check(t, qt.IsNil(r.DeleteBlob(t.Context(), repo, digest.FromString("blob"))))
		}
		onBackends(t, func(t *testing.T, r ociregistry.Interface) {
			must(t, r).MustPush(repo, a)
			must(t, r).MustPushBlob(repo, []byte("blob"))
			_, err := r.PushManifest(t.Context(), repo, "", []byte(text), mediaType)
			qt.Assert(t, qt.IsNil(err))
			check(t, r)
			// Of an image, an empty type is another than its own.
			wrong := strings.Replace(string(a.Manifest), a.Descriptor.MediaType, "", 1)
			_, err = r.PushManifest(t.Context(), repo, "", []byte(wrong), a.Descriptor.MediaType)
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrManifestInvalid)))
		})
		t.Run("foreign "+mediaType, func(t *testing.T) {
			f := newFixture(t, ocifs.Options{})
			layout := newForeign(t, f.path(repo), a)
			layout.blob([]byte("blob"))
			layout.blob([]byte(text))
			layout.index(named(a.Descriptor, "v1"), line(desc))
			qt.Check(t, qt.HasLen(problems(t, f), 0))
			check(t, f)
		})
	}
}

// Blobs without an index.json belong to somebody, who may be about to write it.
func TestNoIndex_IsAnError(t *testing.T) {
	t.Parallel()
	const repo = "team/app"
	a := image(1)
	for _, own := range []bool{true, false} {
		for _, open := range []bool{true, false} { // while the file goes
			t.Run(fmt.Sprintf("own %v, open %v", own, open), func(t *testing.T) {
				t.Parallel()
				opts, log := logged()
				f := newFixture(t, opts)
				if own {
					must(t, f).MustPush(repo, a, "v1")
					f.reopen()
				} else {
					newForeign(t, f.path(repo), a).index(named(a.Descriptor, "v1"))
				}
				must(t, f).MustPush("other", image(2), "latest")
				must(t, f).MustPushBlob("other", data(3, 50_000))
				f.reopen()
				wantTags(t, f, repo, "v1")
				if !open {
					f.close()
				}
				index := f.path(repo, "index.json")
				good, err := os.ReadFile(index)
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.IsNil(os.Remove(index)))
				before := tree(t, f.path(repo))
				if !open {
					f.open()
				}
				for _, c := range append(changesOf(repo, a), readsOf(repo, a)...) {
					err := c.call(t.Context(), f)
					qt.Check(t, qt.ErrorIs(err, ocifs.ErrNoIndex), qt.Commentf(c.name))
					qt.Check(t, qt.StringContains(messageOf(err), repo), qt.Commentf(c.name))
				}
				wantRepositories(t, f, "other")
				qt.Check(t, qt.StringContains(log.String(), repo))
				found := problems(t, f)
				qt.Assert(t, qt.HasLen(found, 1))
				qt.Check(t, qt.Equals(found[0].Repository, repo))
				qt.Check(t, qt.ErrorIs(found[0].Err, ocifs.ErrNoIndex))
				wantArtifact(t, f, "other", image(2), "latest")
				f.close()
				after := tree(t, f.path(repo))
				for name, what := range before {
					qt.Check(t, qt.Equals(after[name], what), qt.Commentf(name))
				}
				_, err = os.Lstat(index)
				qt.Check(t, qt.ErrorIs(err, os.ErrNotExist))

				// When it comes, all is well.
				f.open()
				qt.Check(t, qt.HasLen(problems(t, f), 1))
				writeFile(t, index, string(good))
				wantArtifact(t, f, repo, a, "v1")
				must(t, f).MustPush(repo, image(4), "v4")
				wantTags(t, f, repo, "v1", "v4")
				qt.Check(t, qt.HasLen(problems(t, f), 0))
			})
		}
	}
}

// A single layout without its index.json is not a new layout.
func TestNoIndex_IsAnErrorForSingleLayout(t *testing.T) {
	t.Parallel()
	const repo = "app"
	f := openFixture(t, scratch.Dir(t), repo, ocifs.Options{})
	must(t, f).MustPush(repo, image(1), "v1")
	f.close()
	qt.Assert(t, qt.IsNil(os.Remove(f.path(repo, "index.json"))))
	f.open()
	qt.Check(t, qt.ErrorIs(pushBlob(t.Context(), f, repo, data(1, 10)), ocifs.ErrNoIndex))
	qt.Check(t, qt.ErrorIs(pushBlob(t.Context(), f, repo, data(1, 50_000)), ocifs.ErrNoIndex))
	wantRepositories(t, f)
}

// Directories that lead to a repository, and those without blobs, are not damage.
func TestNoIndex_WithoutBlobsIsNoError(t *testing.T) {
	t.Parallel()
	f := newFixture(t, ocifs.Options{})
	for _, dir := range []string{"a", "b/blobs/sha256", "c/blobs", "d/.ocifs"} {
		qt.Assert(t, qt.IsNil(os.MkdirAll(f.path(dir), 0o777)))
	}
	writeFile(t, f.path("b/blobs/sha256/partial.tmp"), "half")
	writeFile(t, f.path("d/.ocifs/journal"), "")
	for _, repo := range []string{"a", "b", "c", "d", "d/e"} {
		_, err := f.ResolveTag(t.Context(), repo, "v1")
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrNameUnknown)))
	}
	qt.Check(t, qt.HasLen(problems(t, f), 0))
	for i, repo := range []string{"a", "b", "c", "d"} {
		if i%2 == 0 {
			must(t, f).MustPushBlob(repo, data(1, 50_000))
		} else {
			must(t, f).MustPushBlob(repo, data(2, 10))
		}
		must(t, f).MustPush(repo, image(1), "v1")
	}
	f.reopen()
	for _, repo := range []string{"a", "b", "c", "d"} {
		wantArtifact(t, f, repo, image(1), "v1")
	}
	qt.Check(t, qt.HasLen(problems(t, f), 0))
}

// A repository whose journal has what was pushed continues without its index.json.
func TestNoIndex_WithJournalIsRestored(t *testing.T) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		const repo = "app"
		f := newFixture(t, ocifs.Options{})
		must(t, f).MustPushBlob(repo, data(3, 50_000))
		must(t, f).MustPush(repo, image(1), "v1")
		if err := os.Remove(f.path(repo, "index.json")); errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		must(t, f).MustPush(repo, image(2), "v2")
		f.reopen()
		wantTags(t, f, repo, "v1", "v2")
	})
}
