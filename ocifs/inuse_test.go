package ocifs_test

import (
	"os"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// wantInUse checks that an error is an ErrInUse, and also an ErrDenied.
func wantInUse(t testing.TB, err error, what string) {
	t.Helper()
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrInUse)), qt.Commentf(what))
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrDenied)), qt.Commentf(what))
}

// tower is an index of an index of two images, and of one of the images.
func tower() (outer, inner, a, b *ocitest.Artifact) {
	a, b = image(1), image(2)
	inner = ocitest.NewIndex(ocitest.Spec{Annotations: map[string]string{"level": "inner"}}, a, b, a)
	outer = ocitest.NewIndex(ocitest.Spec{Annotations: map[string]string{"level": "outer"}}, inner, b)
	return outer, inner, a, b
}

// used are registries that have a tower in the repository app.
var used = []backend{
	{"ocimem", func(t testing.TB) ociregistry.Interface {
		r := ocimem.New()
		outer, _, _, _ := tower()
		must(t, r).MustPush("app", outer, "latest")
		return r
	}},
	{"ocifs", func(t testing.TB) ociregistry.Interface {
		f := newFixture(t, ocifs.Options{})
		outer, _, _, _ := tower()
		must(t, f).MustPush("app", outer, "latest")
		return f.Registry
	}},
	{"ocifs reopened", func(t testing.TB) ociregistry.Interface {
		f := newFixture(t, ocifs.Options{})
		outer, _, _, _ := tower()
		must(t, f).MustPush("app", outer, "latest")
		f.reopen()
		return f.Registry
	}},
	{"foreign", func(t testing.TB) ociregistry.Interface {
		f := newFixture(t, ocifs.Options{})
		outer, inner, a, b := tower()
		newForeign(t, f.path("app"), outer).index(named(outer.Descriptor, "latest"), line(inner.Descriptor), line(a.Descriptor), line(b.Descriptor))
		return f.Registry
	}},
	{"foreign, children not listed", func(t testing.TB) ociregistry.Interface {
		f := newFixture(t, ocifs.Options{})
		outer, _, _, _ := tower()
		newForeign(t, f.path("app"), outer).index(named(outer.Descriptor, "latest"))
		return f.Registry
	}},
	{"foreign, children not listed, folded", func(t testing.TB) ociregistry.Interface {
		f := newFixture(t, ocifs.Options{})
		outer, _, _, _ := tower()
		newForeign(t, f.path("app"), outer).index(named(outer.Descriptor, "latest"))
		must(t, f).MustPushBlob("app", []byte("more"))
		f.reopen()
		qt.Assert(t, qt.IsNil(f.DeleteBlob(t.Context(), "app", digest.FromString("more"))))
		return f.Registry
	}},
	{"foreign layout alone", func(t testing.TB) ociregistry.Interface {
		f := openFixture(t, scratch.Dir(t), "app", ocifs.Options{})
		outer, _, _, _ := tower()
		newForeign(t, f.dir, outer).index(named(outer.Descriptor, "example.com/app:latest"))
		return f.Registry
	}},
}

// A manifest that an index names cannot be deleted before the index.
func TestDeleteManifest_RefusesChildOfIndex(t *testing.T) {
	t.Parallel()
	const repo = "app"
	for _, b := range used {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := b.open(t)
			outer, inner, a, b := tower()
			manifests := []*ocitest.Artifact{outer, inner, a, b}
			refused := func(from int) {
				t.Helper()
				for _, m := range manifests[from:] {
					wantInUse(t, r.DeleteManifest(t.Context(), repo, m.Descriptor.Digest), m.Descriptor.Annotations["level"])
				}
				for _, m := range manifests[from-1:] {
					wantArtifact(t, r, repo, m)
				}
			}
			refused(1)
			qt.Assert(t, qt.IsNil(r.DeleteManifest(t.Context(), repo, outer.Descriptor.Digest)))
			wantTags(t, r, repo)
			wantNoManifest(t, r, repo, outer.Descriptor.Digest)
			refused(2)
			qt.Assert(t, qt.IsNil(r.DeleteManifest(t.Context(), repo, inner.Descriptor.Digest)))
			for _, m := range []*ocitest.Artifact{a, b} {
				wantArtifact(t, r, repo, m)
				qt.Assert(t, qt.IsNil(r.DeleteManifest(t.Context(), repo, m.Descriptor.Digest)))
				wantNoManifest(t, r, repo, m.Descriptor.Digest)
			}
		})
	}
}

// A child that is known to be a manifest only through its index remains one after the
// index is deleted, for the next process too.
func TestDeleteManifest_KeepsChildrenAsManifests(t *testing.T) {
	t.Parallel()
	const repo = "app"
	outer, inner, a, b := tower()
	f := newFixture(t, ocifs.Options{})
	newForeign(t, f.path(repo), outer).index(named(outer.Descriptor, "latest"))
	qt.Assert(t, qt.IsNil(f.DeleteManifest(t.Context(), repo, outer.Descriptor.Digest)))
	for range 2 {
		for _, m := range []*ocitest.Artifact{inner, a, b} {
			wantArtifact(t, f, repo, m)
		}
		wantInUse(t, f.DeleteManifest(t.Context(), repo, a.Descriptor.Digest), "a child")
		f.reopen()
	}
	qt.Assert(t, qt.IsNil(f.DeleteManifest(t.Context(), repo, inner.Descriptor.Digest)))
	f.reopen()
	wantArtifact(t, f, repo, a)
	wantArtifact(t, f, repo, b)
	l := f.layout(repo)
	qt.Check(t, qt.HasLen(l.entries, 2))
	qt.Assert(t, qt.IsNil(f.DeleteManifest(t.Context(), repo, a.Descriptor.Digest)))
	qt.Assert(t, qt.IsNil(f.DeleteManifest(t.Context(), repo, b.Descriptor.Digest)))
	f.reopen()
	qt.Check(t, qt.HasLen(f.layout(repo).entries, 0))
}

// A child of two indexes can be deleted once both are gone.
func TestDeleteManifest_RefusesChildUntilBothIndexesAreGone(t *testing.T) {
	t.Parallel()
	const repo = "app"
	one := ocitest.NewIndex(ocitest.Spec{Annotations: map[string]string{"n": "1"}}, image(1))
	two := ocitest.NewIndex(ocitest.Spec{Annotations: map[string]string{"n": "2"}}, image(1))
	onBackends(t, func(t *testing.T, r ociregistry.Interface) {
		must(t, r).MustPush(repo, one, "one")
		must(t, r).MustPush(repo, two, "two")
		d := image(1).Descriptor.Digest
		wantInUse(t, r.DeleteManifest(t.Context(), repo, d), "with two indexes")
		qt.Assert(t, qt.IsNil(r.DeleteTag(t.Context(), repo, "one"))) // changes nothing
		wantInUse(t, r.DeleteManifest(t.Context(), repo, d), "with two indexes")
		qt.Assert(t, qt.IsNil(r.DeleteManifest(t.Context(), repo, one.Descriptor.Digest)))
		wantInUse(t, r.DeleteManifest(t.Context(), repo, d), "with one index")
		qt.Assert(t, qt.IsNil(r.DeleteManifest(t.Context(), repo, two.Descriptor.Digest)))
		qt.Assert(t, qt.IsNil(r.DeleteManifest(t.Context(), repo, d)))
	})
}

// A blob that a manifest names cannot be deleted before the manifest.
func TestDeleteBlob_RefusesBlobOfManifest(t *testing.T) {
	t.Parallel()
	const repo = "app"
	for _, b := range used {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := b.open(t)
			outer, inner, a, b := tower()
			unused := []byte("unused")
			must(t, r).MustPushBlob(repo, unused)
			for _, m := range []*ocitest.Artifact{outer, inner, a, b} {
				wantInUse(t, r.DeleteBlob(t.Context(), repo, m.Descriptor.Digest), "a manifest")
				for _, blob := range m.Blobs {
					wantInUse(t, r.DeleteBlob(t.Context(), repo, blob.Descriptor.Digest), "a blob")
				}
			}
			wantArtifact(t, r, repo, outer, "latest")
			qt.Assert(t, qt.IsNil(r.DeleteBlob(t.Context(), repo, describe(unused).Digest)))
			wantNoBlob(t, r, repo, describe(unused).Digest)
			qt.Check(t, qt.ErrorIs(r.DeleteBlob(t.Context(), repo, describe(unused).Digest), error(ociregistry.ErrBlobUnknown)))

			for _, m := range []*ocitest.Artifact{outer, inner, a, b} {
				qt.Assert(t, qt.IsNil(r.DeleteManifest(t.Context(), repo, m.Descriptor.Digest)))
				if m == a { // has no blob in common with b
					for _, blob := range b.Blobs {
						wantInUse(t, r.DeleteBlob(t.Context(), repo, blob.Descriptor.Digest), "a blob")
					}
				}
				for _, blob := range m.Blobs {
					qt.Assert(t, qt.IsNil(r.DeleteBlob(t.Context(), repo, blob.Descriptor.Digest)))
				}
			}
			wantRepositories(t, r)
		})
	}
}

// A blob that two manifests name, or that is both config and layer, can be deleted
// once all of them are gone.
func TestDeleteBlob_RefusesUntilAllManifestsAreGone(t *testing.T) {
	t.Parallel()
	const repo = "app"
	a := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{40_000}, Annotations: map[string]string{"n": "1"}})
	b := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{40_000}, Annotations: map[string]string{"n": "2"}})
	c := ocitest.NewImage(ocitest.Spec{ArtifactType: "a/b"}) // names the empty object twice
	onBackends(t, func(t *testing.T, r ociregistry.Interface) {
		for _, m := range []*ocitest.Artifact{a, b, c} {
			must(t, r).MustPush(repo, m)
		}
		for _, m := range []*ocitest.Artifact{a, b, c} {
			for _, blob := range m.Blobs {
				wantInUse(t, r.DeleteBlob(t.Context(), repo, blob.Descriptor.Digest), "a blob")
			}
			qt.Assert(t, qt.IsNil(r.DeleteManifest(t.Context(), repo, m.Descriptor.Digest)))
		}
		for _, d := range []digest.Digest{b.Blobs[0].Descriptor.Digest, b.Blobs[1].Descriptor.Digest, c.Blobs[0].Descriptor.Digest} {
			qt.Assert(t, qt.IsNil(r.DeleteBlob(t.Context(), repo, d)))
		}
		wantRepositories(t, r)
	})
}

// ruins are ways for a manifest not to be readable.
var ruins = map[string]func(t *testing.T, name string){
	"no permission": func(t *testing.T, name string) {
		if os.Geteuid() == 0 {
			t.Skip("root may read everything")
		}
		qt.Assert(t, qt.IsNil(os.Chmod(name, 0)))
	},
	"directory": func(t *testing.T, name string) {
		qt.Assert(t, qt.IsNil(os.Remove(name)))
		qt.Assert(t, qt.IsNil(os.Mkdir(name, 0o777)))
	},
	"link": func(t *testing.T, name string) {
		qt.Assert(t, qt.IsNil(os.Rename(name, name+".saved")))
		if err := os.Symlink(name+".saved", name); err != nil {
			t.Skip(err)
		}
	},
	"shorter": func(t *testing.T, name string) { qt.Assert(t, qt.IsNil(os.Truncate(name, 10))) },
	"empty":   func(t *testing.T, name string) { qt.Assert(t, qt.IsNil(os.Truncate(name, 0))) },
	"other bytes": func(t *testing.T, name string) {
		text, err := os.ReadFile(name)
		qt.Assert(t, qt.IsNil(err))
		text[len(text)/2] ^= 1
		writeFile(t, name, string(text))
	},
	"not JSON": func(t *testing.T, name string) {
		text, err := os.ReadFile(name)
		qt.Assert(t, qt.IsNil(err))
		text[0] = '!'
		writeFile(t, name, string(text))
	},
}

// When it is unknown what is in use, nothing can be deleted.
func TestDelete_RefusesWhenUseIsUnknown(t *testing.T) {
	t.Parallel()
	const repo = "app"
	outer, inner, a, b := tower()
	lone := image(3)
	layouts := map[string]func(f *fixture){
		"own": func(f *fixture) {
			must(t, f).MustPush(repo, outer, "latest")
			must(t, f).MustPush(repo, lone)
			must(t, f).MustPushBlob(repo, []byte("unused"))
		},
		"foreign": func(f *fixture) {
			layout := newForeign(t, f.path(repo), outer, lone)
			layout.blob([]byte("unused"))
			layout.index(named(outer.Descriptor, "latest"), line(lone.Descriptor))
		},
	}
	for ruinName, ruin := range ruins {
		for layoutName, fill := range layouts {
			for which, broken := range map[string]*ocitest.Artifact{"outer index": outer, "inner index": inner, "image": a} {
				t.Run(ruinName+"/"+layoutName+"/"+which, func(t *testing.T) {
					t.Parallel()
					f := newFixture(t, ocifs.Options{})
					fill(f)
					f.close()
					path := f.blobPath(repo, broken.Descriptor.Digest)
					ruin(t, path)
					before := tree(t, f.path(repo, "blobs"))
					f.open()
					for range 2 {
						for _, m := range []*ocitest.Artifact{outer, inner, a, b} {
							for _, blob := range m.Blobs {
								err := f.DeleteBlob(t.Context(), repo, blob.Descriptor.Digest)
								qt.Check(t, qt.IsNotNil(err), qt.Commentf("a blob"))
							}
							if m == broken || m == outer {
								continue
							}
							err := f.DeleteManifest(t.Context(), repo, m.Descriptor.Digest)
							qt.Check(t, qt.IsNotNil(err), qt.Commentf("a child"))
						}
						// What nothing names cannot be known to be free.
						wantInUse(t, f.DeleteBlob(t.Context(), repo, digest.FromString("unused")), "a blob")
						if broken != a { // an image names no manifest
							wantInUse(t, f.DeleteManifest(t.Context(), repo, lone.Descriptor.Digest), "a manifest")
						}
						f.reopen()
					}
					f.close()
					qt.Check(t, qt.DeepEquals(tree(t, f.path(repo, "blobs")), before))

					// All else goes on.
					f.open()
					wantArtifact(t, f, repo, lone)
					must(t, f).MustPush(repo, image(9), "new")
					qt.Check(t, qt.IsNil(f.DeleteTag(t.Context(), repo, "new")))

					// When it is whole again, so is the answer.
					qt.Assert(t, qt.IsNil(os.RemoveAll(path)))
					_, err := f.PushManifest(t.Context(), repo, "", broken.Manifest, broken.Descriptor.MediaType)
					qt.Assert(t, qt.IsNil(err))
					f.reopen()
					wantArtifact(t, f, repo, outer, "latest")
					wantInUse(t, f.DeleteManifest(t.Context(), repo, inner.Descriptor.Digest), "the inner index")
					wantInUse(t, f.DeleteBlob(t.Context(), repo, a.Blobs[1].Descriptor.Digest), "a layer")
					qt.Check(t, qt.IsNil(f.DeleteBlob(t.Context(), repo, digest.FromString("unused"))))
					qt.Check(t, qt.IsNil(f.DeleteManifest(t.Context(), repo, lone.Descriptor.Digest)))
				})
			}
		}
	}
}
