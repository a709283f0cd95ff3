package ocifs_test

// The tests of this file use the exported API and look at the files on disk.

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// Reading and listing unknown content neither finds nor creates anything.
func TestUnknownRepository_IsNotCreatedByReads(t *testing.T) {
	t.Parallel()
	const repo = "team/unknown"
	content := data(1, 10)
	d := describe(content).Digest
	calls := []struct {
		name string
		want error // nil for none
		call func(ctx context.Context, r ociregistry.Interface) error
	}{
		{"GetBlob", ociregistry.ErrNameUnknown, func(ctx context.Context, r ociregistry.Interface) error {
			_, err := r.GetBlob(ctx, repo, d)
			return err
		}},
		{"GetBlobRange", ociregistry.ErrNameUnknown, func(ctx context.Context, r ociregistry.Interface) error {
			_, err := r.GetBlobRange(ctx, repo, d, 0, -1)
			return err
		}},
		{"GetManifest", ociregistry.ErrNameUnknown, func(ctx context.Context, r ociregistry.Interface) error {
			_, err := r.GetManifest(ctx, repo, d)
			return err
		}},
		{"GetTag", ociregistry.ErrNameUnknown, func(ctx context.Context, r ociregistry.Interface) error {
			_, err := r.GetTag(ctx, repo, "latest")
			return err
		}},
		{"ResolveBlob", ociregistry.ErrNameUnknown, func(ctx context.Context, r ociregistry.Interface) error {
			_, err := r.ResolveBlob(ctx, repo, d)
			return err
		}},
		{"ResolveManifest", ociregistry.ErrNameUnknown, func(ctx context.Context, r ociregistry.Interface) error {
			_, err := r.ResolveManifest(ctx, repo, d)
			return err
		}},
		{"ResolveTag", ociregistry.ErrNameUnknown, func(ctx context.Context, r ociregistry.Interface) error {
			_, err := r.ResolveTag(ctx, repo, "latest")
			return err
		}},
		{"Tags", ociregistry.ErrNameUnknown, func(ctx context.Context, r ociregistry.Interface) error {
			_, err := ociregistry.All(r.Tags(ctx, repo, ""))
			return err
		}},
		{"Tags from the middle", ociregistry.ErrNameUnknown, func(ctx context.Context, r ociregistry.Interface) error {
			_, err := ociregistry.All(r.Tags(ctx, repo, "m"))
			return err
		}},
		{"Referrers", nil, func(ctx context.Context, r ociregistry.Interface) error {
			list, err := ociregistry.All(r.Referrers(ctx, repo, d, ""))
			if err == nil && len(list) > 0 {
				return os.ErrExist
			}
			return err
		}},
		{"MountBlob", ociregistry.ErrNameUnknown, func(ctx context.Context, r ociregistry.Interface) error {
			_, err := r.MountBlob(ctx, repo, "known", d)
			return err
		}},
		{"MountBlob to it", ociregistry.ErrBlobUnknown, func(ctx context.Context, r ociregistry.Interface) error {
			_, err := r.MountBlob(ctx, "known", repo, d)
			return err
		}},
		{"MountBlob from anywhere", ociregistry.ErrBlobUnknown, func(ctx context.Context, r ociregistry.Interface) error {
			_, err := r.MountBlob(ctx, "", repo, d)
			return err
		}},
		{"Resume", ociregistry.ErrBlobUploadUnknown, func(ctx context.Context, r ociregistry.Interface) error {
			_, err := r.PushBlobChunkedResume(ctx, repo, strings.Repeat("A", 26), 0, 0)
			return err
		}},
		{"DeleteBlob", ociregistry.ErrNameUnknown, func(ctx context.Context, r ociregistry.Interface) error {
			return r.DeleteBlob(ctx, repo, d)
		}},
		{"DeleteManifest", ociregistry.ErrNameUnknown, func(ctx context.Context, r ociregistry.Interface) error {
			return r.DeleteManifest(ctx, repo, d)
		}},
		{"DeleteTag", ociregistry.ErrNameUnknown, func(ctx context.Context, r ociregistry.Interface) error {
			return r.DeleteTag(ctx, repo, "latest")
		}},
	}

	f := newFixture(t, ocifs.Options{})
	must(t, f).MustPush("known", image(1), "latest")
	f.reopen()
	before := tree(t, f.dir)
	for _, c := range calls {
		t.Run("ocifs/"+c.name, func(t *testing.T) {
			err := c.call(t.Context(), f)
			if c.want == nil {
				qt.Check(t, qt.IsNil(err))
			} else {
				qt.Check(t, qt.ErrorIs(err, c.want))
			}
			qt.Check(t, qt.DeepEquals(tree(t, f.dir), before))
		})
	}
	wantRepositories(t, f, "known")

	mem := ocimem.New()
	must(t, mem).MustPush("known", image(1), "latest")
	for _, c := range calls {
		if c.name == "Resume" {
			continue // ocimem takes ids that were never issued
		}
		t.Run("ocimem/"+c.name, func(t *testing.T) {
			err := c.call(t.Context(), mem)
			if c.want == nil {
				qt.Check(t, qt.IsNil(err))
			} else {
				qt.Check(t, qt.ErrorIs(err, c.want))
			}
			wantRepositories(t, mem, "known")
		})
	}
}

// Reads change nothing in an empty directory.
func TestEmptyDirectory_IsNotChangedByReads(t *testing.T) {
	t.Parallel()
	for _, repo := range []string{"", "team/app"} {
		for _, readOnly := range []bool{false, true} {
			f := openFixture(t, scratch.Dir(t), repo, ocifs.Options{ReadOnly: readOnly})
			before := tree(t, f.dir)
			for _, name := range []string{"team/app", "other", "team"} {
				_, err := f.ResolveTag(t.Context(), name, "latest")
				qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrNameUnknown)))
				_, err = ociregistry.All(f.Tags(t.Context(), name, ""))
				qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrNameUnknown)))
				_, err = f.GetBlob(t.Context(), name, digest.FromString(""))
				qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrNameUnknown)))
			}
			wantRepositories(t, f)
			qt.Check(t, qt.DeepEquals(tree(t, f.dir), before))
			f.close()
			qt.Check(t, qt.DeepEquals(tree(t, f.dir), before))
		}
	}
}

// firstPushes are the ways in which a repository can begin.
var firstPushes = []struct {
	name string
	push func(ctx context.Context, r ociregistry.Interface, repo string) error
}{
	{"small blob", func(ctx context.Context, r ociregistry.Interface, repo string) error {
		return pushBlob(ctx, r, repo, data(1, 100))
	}},
	{"large blob", func(ctx context.Context, r ociregistry.Interface, repo string) error {
		return pushBlob(ctx, r, repo, data(2, 100_000))
	}},
	{"empty blob", func(ctx context.Context, r ociregistry.Interface, repo string) error {
		return pushBlob(ctx, r, repo, nil)
	}},
	{"sha512 blob", func(ctx context.Context, r ociregistry.Interface, repo string) error {
		content := data(3, 50_000)
		_, err := r.PushBlob(ctx, repo, ociregistry.Descriptor{Digest: digest.SHA512.FromBytes(content), Size: int64(len(content))}, bytes.NewReader(content))
		return err
	}},
	{"small upload", func(ctx context.Context, r ociregistry.Interface, repo string) error {
		return upload(ctx, r, repo, data(4, 100))
	}},
	{"large upload", func(ctx context.Context, r ociregistry.Interface, repo string) error {
		return upload(ctx, r, repo, data(5, 100_000))
	}},
	{"mount", func(ctx context.Context, r ociregistry.Interface, repo string) error {
		_, err := r.MountBlob(ctx, "source", repo, describe(data(6, 50_000)).Digest)
		return err
	}},
	{"mount from anywhere", func(ctx context.Context, r ociregistry.Interface, repo string) error {
		_, err := r.MountBlob(ctx, "", repo, describe(data(6, 50_000)).Digest)
		return err
	}},
	{"manifest", func(ctx context.Context, r ociregistry.Interface, repo string) error {
		_, err := r.PushManifest(ctx, repo, "latest", []byte(`{"some":"thing"}`), "application/vnd.example+json")
		return err
	}},
}

// A repository is a layout from the first instant, whatever it begins with, and
// wherever it is.
func TestLayout_IsValidFromTheFirstInstant(t *testing.T) {
	t.Parallel()
	f := newFixture(t, ocifs.Options{})
	qt.Assert(t, qt.IsNil(pushBlob(t.Context(), f, "source", data(6, 50_000))))
	for _, first := range firstPushes {
		for _, place := range []string{"", "deep/er/", "source/"} {
			repo := place + strings.ReplaceAll(first.name, " ", "-")
			t.Run(repo, func(t *testing.T) {
				watcher := watchLayout(f.path(repo))
				err := first.push(t.Context(), f, repo)
				qt.Check(t, qt.IsNil(watcher()))
				qt.Assert(t, qt.IsNil(err))
				_, err = readLayout(f.path(repo)) // also before anything is folded
				qt.Check(t, qt.IsNil(err))
			})
		}
	}
}

// A directory that exists because of repositories below it can become a layout, too.
// It is one as soon as it has an oci-layout file.
func TestLayout_AboveOtherRepositoriesIsValidOnceMarked(t *testing.T) {
	t.Parallel()
	f := newFixture(t, ocifs.Options{})
	qt.Assert(t, qt.IsNil(pushBlob(t.Context(), f, "source", data(6, 50_000))))
	for _, first := range firstPushes {
		repo := strings.ReplaceAll(first.name, " ", "-")
		t.Run(repo, func(t *testing.T) {
			must(t, f).MustPush(repo+"/below", image(1), "latest")
			_, err := os.Lstat(f.path(repo, "oci-layout"))
			qt.Assert(t, qt.ErrorIs(err, os.ErrNotExist))
			watcher := watchLayout(f.path(repo), "oci-layout")
			err = first.push(t.Context(), f, repo)
			qt.Check(t, qt.IsNil(watcher()))
			qt.Assert(t, qt.IsNil(err))
			wantArtifact(t, f, repo+"/below", image(1), "latest")
		})
	}
}

// watchLayout waits for a file below dir, or dir itself, to appear, and then
// immediately checks that dir is a valid layout. The caller calls the result when
// everything should be there. It returns the error that was found.
func watchLayout(dir string, file ...string) (result func() error) {
	begun, done, found := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	name := filepath.Join(dir, filepath.Join(file...))
	go func() {
		close(begun)
		for {
			if _, err := os.Lstat(name); err == nil {
				_, err = readLayout(dir)
				found <- err
				return
			}
			select {
			case <-done:
				_, err := os.Lstat(name)
				found <- err
				return
			default:
				runtime.Gosched()
			}
		}
	}()
	<-begun
	return func() error {
		close(done)
		return <-found
	}
}

// Other programs find what was pushed once the registry is closed, and soon after the
// push if it is not.
func TestLayout_IsCompleteSoonAndAfterClose(t *testing.T) {
	t.Parallel()
	for _, repo := range []string{"", "team/app"} {
		f := openFixture(t, scratch.Dir(t), repo, ocifs.Options{})
		index := ocitest.NewIndex(ocitest.Spec{}, image(1), image(2))
		must(t, f).MustPush("team/app", index, "v1", "latest")
		must(t, f).MustPush("team/app", image(3))
		artifacts := []*ocitest.Artifact{index, image(1), image(2), image(3)}

		check := func(l layout) {
			t.Helper()
			qt.Check(t, qt.DeepEquals(l.tags(), map[string]ociregistry.Digest{"v1": index.Descriptor.Digest, "latest": index.Descriptor.Digest}))
			for _, a := range artifacts {
				e := l.entry(a.Descriptor.Digest)
				qt.Check(t, qt.Equals(e.Size, a.Descriptor.Size))
				qt.Check(t, qt.Equals(e.MediaType, a.Descriptor.MediaType))
				qt.Check(t, qt.Equals(l.blobs[a.Descriptor.Digest], a.Descriptor.Size))
				for _, b := range a.Blobs {
					qt.Check(t, qt.Equals(l.blobs[b.Descriptor.Digest], b.Descriptor.Size))
				}
			}
			qt.Check(t, qt.HasLen(l.entries, 5)) // two tags of the index, and three manifests without
		}
		eventually(t, "the journal is folded", func() bool { return len(f.layout("team/app").entries) == 5 })
		check(f.layout("team/app"))

		must(t, f).MustPush("team/app", image(4))
		artifacts = append(artifacts, image(4))
		f.close()
		l := f.layout("team/app")
		qt.Check(t, qt.HasLen(l.entries, 6))
		l.entries = slices.DeleteFunc(l.entries, func(e entry) bool { return e.Digest == image(4).Descriptor.Digest })
		artifacts = artifacts[:4]
		check(l)
	}
}
