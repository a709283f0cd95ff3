package ocifs_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/locked"
	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// damages are ways to make an index.json unreadable.
var damages = []struct {
	name   string
	damage func(t *testing.T, name string)
}{
	{"no permission", func(t *testing.T, name string) {
		if os.Geteuid() == 0 {
			t.Skip("root may read everything")
		}
		qt.Assert(t, qt.IsNil(os.Chmod(name, 0)))
	}},
	{"half", func(t *testing.T, name string) {
		text, err := os.ReadFile(name)
		qt.Assert(t, qt.IsNil(err))
		writeFile(t, name, string(text[:len(text)/2]))
	}},
	{"directory", func(t *testing.T, name string) {
		qt.Assert(t, qt.IsNil(os.Rename(name, name+".saved")))
		qt.Assert(t, qt.IsNil(os.Mkdir(name, 0o777)))
		writeFile(t, filepath.Join(name, "file"), "precious")
	}},
	{"link that leads nowhere", func(t *testing.T, name string) {
		qt.Assert(t, qt.IsNil(os.Rename(name, name+".saved")))
		if err := os.Symlink("nowhere", name); err != nil {
			t.Skip(err)
		}
	}},
	{"empty", func(t *testing.T, name string) { writeFile(t, name, "") }},
	{"zeros", func(t *testing.T, name string) { writeFile(t, name, strings.Repeat("\x00", 500)) }},
	{"null", func(t *testing.T, name string) { writeFile(t, name, "null") }},
	{"array", func(t *testing.T, name string) { writeFile(t, name, "[]") }},
	{"string", func(t *testing.T, name string) { writeFile(t, name, `"{}"`) }},
	{"manifests are no list", func(t *testing.T, name string) { writeFile(t, name, `{"schemaVersion":2,"manifests":{}}`) }},
	{"something after the end", func(t *testing.T, name string) { writeFile(t, name, `{"schemaVersion":2,"manifests":[]}}`) }},
}

// An index.json that cannot be parsed is an error that names the file, and nothing is
// overwritten.
func TestUnreadableIndex_IsAnErrorAndNotOverwritten(t *testing.T) {
	t.Parallel()
	const repo = "team/app"
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, ocifs.Options{})
			a := image(1)
			must(t, f).MustPush(repo, a, "latest")
			must(t, f).MustPush("other", image(2), "latest")
			must(t, f).MustPushBlob("other", data(3, 50_000))
			f.close()
			index := f.path(repo, "index.json")
			good, err := os.ReadFile(index)
			qt.Assert(t, qt.IsNil(err))
			d.damage(t, index)
			before := tree(t, f.path(repo))

			f.open()
			for _, c := range changesOf(repo, a) {
				err := c.call(t.Context(), f)
				qt.Check(t, qt.StringContains(messageOf(err), index), qt.Commentf(c.name))
			}
			for _, c := range readsOf(repo, a) {
				err := c.call(t.Context(), f)
				qt.Check(t, qt.StringContains(messageOf(err), index), qt.Commentf(c.name))
			}
			wantArtifact(t, f, "other", image(2), "latest") // is no worse for it
			qt.Check(t, qt.IsNil(f.Close()))
			after := tree(t, f.path(repo))
			for name, what := range before {
				qt.Check(t, qt.Equals(after[name], what), qt.Commentf(name))
			}

			// When the file is good again, so is the repository, and what was
			// refused is not there.
			f.open()
			_, err = f.ResolveTag(t.Context(), repo, "latest")
			qt.Check(t, qt.IsNotNil(err))
			qt.Assert(t, qt.IsNil(os.RemoveAll(index)))
			writeFile(t, index, string(good))
			wantArtifact(t, f, repo, a, "latest")
			wantTags(t, f, repo, "latest")
			for _, b := range refusedBlobs {
				wantNoBlob(t, f, repo, describe(b).Digest)
			}
		})
	}
}

// refusedBlobs are pushed by changesOf.
var refusedBlobs = [][]byte{data(11, 100), data(12, 50_000), data(13, 100), data(14, 50_000), data(3, 50_000)}

type call struct {
	name string
	call func(ctx context.Context, r ociregistry.Interface) error
}

// changesOf returns calls that change a repository that has a.
func changesOf(repo string, a *ocitest.Artifact) []call {
	other := image(20)
	return []call{
		{"PushBlob small", func(ctx context.Context, r ociregistry.Interface) error {
			return pushBlob(ctx, r, repo, refusedBlobs[0])
		}},
		{"PushBlob large", func(ctx context.Context, r ociregistry.Interface) error {
			return pushBlob(ctx, r, repo, refusedBlobs[1])
		}},
		{"Commit small", func(ctx context.Context, r ociregistry.Interface) error {
			return upload(ctx, r, repo, refusedBlobs[2])
		}},
		{"Commit large", func(ctx context.Context, r ociregistry.Interface) error {
			return upload(ctx, r, repo, refusedBlobs[3])
		}},
		{"MountBlob", func(ctx context.Context, r ociregistry.Interface) error {
			_, err := r.MountBlob(ctx, "other", repo, describe(refusedBlobs[4]).Digest)
			return err
		}},
		{"PushManifest", func(ctx context.Context, r ociregistry.Interface) error {
			_, err := r.PushManifest(ctx, repo, "latest", []byte("text"), "text/plain")
			return err
		}},
		{"PushManifest of an image", func(ctx context.Context, r ociregistry.Interface) error {
			_, err := r.PushManifest(ctx, repo, "latest", other.Manifest, other.Descriptor.MediaType)
			return err
		}},
		{"DeleteTag", func(ctx context.Context, r ociregistry.Interface) error {
			return r.DeleteTag(ctx, repo, "latest")
		}},
		{"DeleteManifest", func(ctx context.Context, r ociregistry.Interface) error {
			return r.DeleteManifest(ctx, repo, a.Descriptor.Digest)
		}},
		{"DeleteBlob", func(ctx context.Context, r ociregistry.Interface) error {
			return r.DeleteBlob(ctx, repo, a.Blobs[1].Descriptor.Digest)
		}},
	}
}

// readsOf returns calls that read a repository that has a.
func readsOf(repo string, a *ocitest.Artifact) []call {
	return []call{
		{"GetTag", func(ctx context.Context, r ociregistry.Interface) error {
			_, err := read(r.GetTag(ctx, repo, "latest"))
			return err
		}},
		{"GetManifest", func(ctx context.Context, r ociregistry.Interface) error {
			_, err := read(r.GetManifest(ctx, repo, a.Descriptor.Digest))
			return err
		}},
		{"GetBlob", func(ctx context.Context, r ociregistry.Interface) error {
			_, err := read(r.GetBlob(ctx, repo, a.Blobs[1].Descriptor.Digest))
			return err
		}},
		{"Tags", func(ctx context.Context, r ociregistry.Interface) error {
			_, err := ociregistry.All(r.Tags(ctx, repo, ""))
			return err
		}},
		{"Referrers", func(ctx context.Context, r ociregistry.Interface) error {
			_, err := ociregistry.All(r.Referrers(ctx, repo, a.Descriptor.Digest, ""))
			return err
		}},
	}
}

func messageOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// An index.json that becomes unreadable while the journal has changes that it lacks
// is not overwritten either, and nothing acknowledged is lost.
func TestUnreadableIndex_WhileOpenLosesNothing(t *testing.T) {
	t.Parallel()
	const repo = "team/app"
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			disktest.Still(t, func(t *testing.T) {
				f := newFixture(t, ocifs.Options{})
				must(t, f).MustPush(repo, image(1), "v1")
				f.reopen()
				index := f.path(repo, "index.json")
				good, err := os.ReadFile(index)
				qt.Assert(t, qt.IsNil(err))
				must(t, f).MustPush(repo, image(2), "v2")
				d.damage(t, index)
				before := tree(t, index)

				qt.Check(t, qt.StringContains(messageOf(f.Close()), index))
				qt.Check(t, qt.DeepEquals(tree(t, index), before))
				f.open()
				_, err = f.ResolveTag(t.Context(), repo, "v2")
				qt.Check(t, qt.StringContains(messageOf(err), index))
				qt.Check(t, qt.IsNotNil(pushBlob(t.Context(), f, repo, data(9, 9))))
				qt.Check(t, qt.DeepEquals(tree(t, index), before))

				qt.Assert(t, qt.IsNil(os.RemoveAll(index)))
				writeFile(t, index, string(good))
				wantArtifact(t, f, repo, image(1), "v1")
				wantArtifact(t, f, repo, image(2), "v2")
				f.reopen()
				wantArtifact(t, f, repo, image(2), "v2")
				wantTags(t, f, repo, "v1", "v2")
			})
		})
	}
}

// A layout without an oci-layout file is opened with a warning, and the next change
// completes it.
func TestNoLayoutFile_IsOpenedAndCompleted(t *testing.T) {
	t.Parallel()
	const repo = "team/app"
	for _, single := range []string{"", repo} {
		for _, private := range []bool{true, false} { // whether there is what this package keeps
			for _, readOnly := range []bool{false, true} {
				log := new(locked.Buffer)
				f := openFixture(t, scratch.Dir(t), single, ocifs.Options{Logger: log.Logger()})
				must(t, f).MustPush(repo, image(1), "v1", "latest")
				must(t, f).MustPush(repo, image(2))
				f.reopen()
				wantTags(t, f, repo, "latest", "v1")
				qt.Check(t, qt.Equals(log.String(), ""))
				f.close()
				qt.Assert(t, qt.IsNil(os.Remove(f.path(repo, "oci-layout"))))
				if !private {
					qt.Assert(t, qt.IsNil(os.RemoveAll(f.path(repo, ".ocifs"))))
				}
				before := tree(t, f.path(repo))

				f.opts.ReadOnly = readOnly
				f.open()
				wantTags(t, f, repo, "latest", "v1")
				wantArtifact(t, f, repo, image(1), "v1", "latest")
				wantArtifact(t, f, repo, image(2))
				wantRepositories(t, f, repo)
				qt.Check(t, qt.StringContains(log.String(), "level=WARN"))
				qt.Check(t, qt.StringContains(log.String(), "oci-layout"))
				qt.Check(t, qt.StringContains(log.String(), repo))
				if readOnly {
					f.close()
					qt.Check(t, qt.DeepEquals(tree(t, f.path(repo)), before))
					continue
				}
				must(t, f).MustPush(repo, image(3), "v3")
				wantTags(t, f, repo, "latest", "v1", "v3")
				f.close()
				l := f.layout(repo) // it is whole
				qt.Check(t, qt.HasLen(l.tags(), 3))
			}
		}
	}
}
