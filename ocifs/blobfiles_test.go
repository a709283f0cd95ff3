package ocifs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// pushes are the ways to push a blob.
var pushes = map[string]func(context.Context, ociregistry.Interface, string, []byte) error{"PushBlob": pushBlob, "Commit": upload}

// overwrites are ways for a blob's file to get other bytes.
var overwrites = map[string]func(t *testing.T, name, text string){
	"in place": func(t *testing.T, name, text string) { writeFile(t, name, text) }, // and so in all repositories
	"by another file": func(t *testing.T, name, text string) {
		writeFile(t, name+".tmp", text)
		qt.Assert(t, qt.IsNil(os.Rename(name+".tmp", name)))
	},
}

// A file whose length is not what its manifests say is not a blob, until the blob is
// pushed again.
func TestWrongLength_IsUnknownUntilPushedAgain(t *testing.T) {
	t.Parallel()
	const repo = "app"
	img := image(1)
	artifact := ocitest.NewImage(ocitest.Spec{Seed: 3, ArtifactType: "application/vnd.example", Layers: []int64{50, 30_000}})
	index := ocitest.NewIndex(ocitest.Spec{}, ocitest.NewIndex(ocitest.Spec{}, image(1), image(2)))
	tests := []struct {
		name  string
		a     *ocitest.Artifact
		blobs []ocitest.Blob
	}{
		{"image", img, img.Blobs},
		{"index", index, append(image(1).Blobs, image(2).Blobs...)},
		{"artifact", artifact, artifact.Blobs[1:]}, // its config is the empty object, which others have too
	}
	contents := map[string]func(string) string{
		"shorter": func(s string) string { return s[:len(s)-1] },
		"longer":  func(s string) string { return s + "x" },
		"others":  func(s string) string { return strings.Repeat("other", len(s)) },
		"empty":   func(s string) string { return "" },
	}
	for _, test := range tests {
		for how, overwrite := range overwrites {
			for what, content := range contents {
				t.Run(test.name+"/"+what+" "+how, func(t *testing.T) {
					t.Parallel()
					for pushName, push := range pushes {
						for _, restart := range []bool{false, true} {
							f := newFixture(t, ocifs.Options{})
							must(t, f).MustPush(repo, test.a, "latest")
							f.close()
							if !restart { // what the manifests name is in memory when the files change
								f.open()
								wantArtifact(t, f, repo, test.a, "latest")
							}
							for _, b := range test.blobs {
								text, err := os.ReadFile(f.blobPath(repo, b.Descriptor.Digest))
								qt.Assert(t, qt.IsNil(err))
								overwrite(t, f.blobPath(repo, b.Descriptor.Digest), content(string(text)))
							}
							if restart {
								f.open()
							}
							for _, b := range test.blobs {
								wantNoBlob(t, f, repo, b.Descriptor.Digest)
							}
							wantManifest(t, f, repo, test.a.Manifest, test.a.Descriptor.MediaType, "latest") // is as it was
							for _, b := range test.blobs {
								good, err := read(nopReader{b.NewReader(), b.Descriptor}, nil)
								qt.Assert(t, qt.IsNil(err))
								qt.Assert(t, qt.IsNil(push(t.Context(), f, repo, []byte(good))), qt.Commentf(pushName))
								wantBlob(t, f, repo, []byte(good))
							}
							wantArtifact(t, f, repo, test.a, "latest")
							f.reopen()
							wantArtifact(t, f, repo, test.a, "latest")
							f.layout(repo) // all files have the bytes of their names
						}
					}
				})
			}
		}
	}
}

// A file of the wrong length cannot be mounted, and does not count as content that a
// manifest names.
func TestWrongLength_IsNeitherMountedNorReferenced(t *testing.T) {
	t.Parallel()
	const repo = "app"
	f := newFixture(t, ocifs.Options{})
	a := image(1)
	must(t, f).MustPush(repo, a, "latest")
	f.close()
	layer := a.Blobs[2].Descriptor
	overwrites["by another file"](t, f.blobPath(repo, layer.Digest), "other")
	f.open()
	_, err := f.MountBlob(t.Context(), repo, "new", layer.Digest)
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUnknown)))
	wantRepositories(t, f, repo)
	other := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{100, 40_000}, Annotations: map[string]string{"a": "b"}})
	_, err = f.PushManifest(t.Context(), repo, "new", other.Manifest, other.Descriptor.MediaType)
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrManifestBlobUnknown)))
	wantTags(t, f, repo, "latest")

	// An anonymous mount takes what is good, which the pool still has.
	if _, err := f.MountBlob(t.Context(), "", "new", layer.Digest); err == nil {
		n, err := checkBlobFile(f.blobPath("new", layer.Digest), layer.Digest)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(n, layer.Size))
	}
}

// A manifest that states the wrong size of a blob does not make the blob missing. The
// manifest was accepted because it came first.
func TestWrongLength_InManifestDoesNotHideTheBlob(t *testing.T) {
	t.Parallel()
	const repo = "app"
	contents := [][]byte{data(1, 100), data(2, 40_000)}
	push := func(t *testing.T, r ociregistry.Interface) {
		t.Helper()
		for i, content := range contents {
			desc := describe(content)
			desc.Size += 5
			manifest, err := json.Marshal(map[string]any{
				"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": desc, "layers": []any{desc},
			})
			qt.Assert(t, qt.IsNil(err))
			push := func(ctx context.Context) error {
				_, err := r.PushManifest(ctx, repo, "v"+string(rune('0'+i)), manifest, ocispec.MediaTypeImageManifest)
				return err
			}
			qt.Assert(t, qt.IsNil(push(ociregistry.AllowMissing(t.Context()))))
			must(t, r).MustPushBlob(repo, content)
			qt.Check(t, qt.ErrorIs(push(t.Context()), error(ociregistry.ErrManifestInvalid)))
		}
	}
	check := func(t *testing.T, r ociregistry.Interface) {
		t.Helper()
		for _, content := range contents {
			wantBlob(t, r, repo, content)
			wantInUse(t, r.DeleteBlob(t.Context(), repo, describe(content).Digest), "with a wrong size")
		}
	}
	onBackends(t, func(t *testing.T, r ociregistry.Interface) {
		push(t, r)
		check(t, r)
	})
	f := newFixture(t, ocifs.Options{})
	push(t, f)
	for range 2 {
		f.reopen()
		check(t, f)
	}
	f.close()
	overwrites["in place"](t, f.blobPath(repo, describe(contents[1]).Digest), "damaged")
	f.open()
	wantNoBlob(t, f, repo, describe(contents[1]).Digest)
	must(t, f).MustPushBlob(repo, contents[1])
	check(t, f)
}

// An empty file is a blob only if its digest is that of empty content.
func TestEmptyFile_IsUnknownUntilPushedAgain(t *testing.T) {
	t.Parallel()
	const repo = "app"
	contents := [][]byte{data(1, 10), data(2, 50_000)}
	for how, overwrite := range overwrites {
		for pushName, push := range pushes {
			t.Run(how+"/"+pushName, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, ocifs.Options{})
				for _, content := range contents { // which no manifest names
					must(t, f).MustPushBlob(repo, content)
				}
				must(t, f).MustPushBlob(repo, nil)
				f.reopen()
				for _, content := range contents {
					overwrite(t, f.blobPath(repo, describe(content).Digest), "")
					wantNoBlob(t, f, repo, describe(content).Digest)
					_, err := f.MountBlob(t.Context(), repo, "other", describe(content).Digest)
					qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUnknown)))
					err = f.DeleteBlob(t.Context(), repo, describe(content).Digest)
					qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUnknown)))
				}
				wantRepositories(t, f, repo)
				for _, content := range contents {
					qt.Assert(t, qt.IsNil(push(t.Context(), f, repo, content)))
					wantBlob(t, f, repo, content)
				}
				f.reopen()
				for _, content := range contents {
					wantBlob(t, f, repo, content)
				}
				f.layout(repo)
			})
		}
	}
}

func TestEmptyBlob_IsServed(t *testing.T) {
	t.Parallel()
	const repo = "app"
	check := func(t *testing.T, r ociregistry.Interface) {
		t.Helper()
		for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			d := alg.FromString("")
			desc, err := r.ResolveBlob(t.Context(), repo, d)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(desc.Size, 0))
			got, err := r.GetBlob(t.Context(), repo, d)
			qt.Assert(t, qt.IsNil(err))
			ocitest.CheckContent(t, got, nil, "")
			text, err := read(r.GetBlobRange(t.Context(), repo, d, 0, -1))
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(text, ""))
			_, err = r.GetBlobRange(t.Context(), repo, d, 1, -1)
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrRangeInvalid)))
		}
	}
	onBackends(t, func(t *testing.T, r ociregistry.Interface) {
		for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			_, err := r.PushBlob(t.Context(), repo, ociregistry.Descriptor{Digest: alg.FromString("")}, strings.NewReader(""))
			qt.Assert(t, qt.IsNil(err))
		}
		check(t, r)
		wantRepositories(t, r, repo)
		for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			qt.Check(t, qt.IsNil(r.DeleteBlob(t.Context(), repo, alg.FromString(""))))
		}
		wantRepositories(t, r)
	})
	t.Run("on disk", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, ocifs.Options{})
		newForeign(t, f.path(repo)).blob(nil)
		qt.Assert(t, qt.IsNil(os.Mkdir(f.path(repo, "blobs", "sha512"), 0o777)))
		writeFile(t, f.blobPath(repo, digest.SHA512.FromString("")), "")
		check(t, f)
		wantRepositories(t, f, repo)
		must(t, f).MustPush(repo, image(1), "latest")
		f.reopen()
		check(t, f)
	})
}

// A push replaces wrong bytes, even if the size is right.
func TestPushBlob_ReplacesWrongBytes(t *testing.T) {
	t.Parallel()
	const repo = "app"
	for how, overwrite := range overwrites {
		for pushName, push := range pushes {
			for _, name := range []string{"the repository", "another repository"} {
				t.Run(how+"/"+pushName+" to "+name, func(t *testing.T) {
					t.Parallel()
					for _, size := range []int64{100, 16 << 10, 16<<10 + 1, 300_000} {
						for _, at := range []int64{0, size / 2, size - 1} {
							f := newFixture(t, ocifs.Options{})
							content := data(1, size)
							must(t, f).MustPushBlob(repo, content)
							must(t, f).MustPushBlob("other", content)
							f.reopen()
							path := f.blobPath(repo, describe(content).Digest)
							wrong := bytes.Clone(content)
							wrong[at] ^= 1
							overwrite(t, path, string(wrong))

							to := repo
							if name == "another repository" {
								to = "new" // where there is none; the pool's may be the wrong one
							}
							qt.Assert(t, qt.IsNil(push(t.Context(), f, to, content)))
							wantBlob(t, f, to, content)
							f.reopen()
							wantBlob(t, f, to, content)
							f.layout(to)

							// The pool is repaired with it: what is mounted is good.
							_, err := f.MountBlob(t.Context(), "", "mounted", describe(content).Digest)
							qt.Assert(t, qt.IsNil(err))
							wantBlob(t, f, "mounted", content)
						}
					}
				})
			}
		}
	}
}

// Wrong bytes of a manifest are not served, and a push replaces them.
func TestPushManifest_ReplacesWrongBytes(t *testing.T) {
	t.Parallel()
	const repo = "app"
	for how, overwrite := range overwrites {
		for what, content := range map[string]func(string) string{
			"same length": func(s string) string { return strings.Replace(s, "schemaVersion", "SchemaVersion", 1) },
			"shorter":     func(s string) string { return s[:len(s)-1] },
			"empty":       func(s string) string { return "" },
		} {
			t.Run(what+" "+how, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, ocifs.Options{})
				a := image(1)
				must(t, f).MustPush(repo, a, "v1", "v2")
				f.close()
				overwrite(t, f.blobPath(repo, a.Descriptor.Digest), content(string(a.Manifest)))
				f.open()
				for range 2 {
					_, err := read(f.GetManifest(t.Context(), repo, a.Descriptor.Digest))
					qt.Check(t, qt.IsNotNil(err))
					_, err = read(f.GetTag(t.Context(), repo, "v1"))
					qt.Check(t, qt.IsNotNil(err))
				}
				_, err := f.PushManifest(t.Context(), repo, "v3", a.Manifest, a.Descriptor.MediaType)
				qt.Assert(t, qt.IsNil(err))
				wantArtifact(t, f, repo, a, "v1", "v2", "v3")
				f.reopen()
				wantArtifact(t, f, repo, a, "v1", "v2", "v3")
				wantTags(t, f, repo, "v1", "v2", "v3")
				f.layout(repo)
			})
		}
	}
}

// TestPushManifest_ReplacesWrongSizeInIndex pushes a manifest whose entry in index.json
// has another size than the manifest.
func TestPushManifest_ReplacesWrongSizeInIndex(t *testing.T) {
	t.Parallel()
	f := newFixture(t, ocifs.Options{})
	a := bare(1)
	layout := newForeign(t, f.path("foo"), a)
	wrong := a.Descriptor
	wrong.Size++
	layout.index(named(wrong, "v1"), line(wrong))
	wantNoTag(t, f, "foo", "v1")
	must(t, f).MustPush("foo", a, "v2")
	wantManifest(t, f, "foo", a.Manifest, a.Descriptor.MediaType, "v1", "v2")
	f.reopen()
	wantManifest(t, f, "foo", a.Manifest, a.Descriptor.MediaType, "v1", "v2")
	f.reopen()
	wantManifest(t, f, "foo", a.Manifest, a.Descriptor.MediaType, "v1", "v2")
}
