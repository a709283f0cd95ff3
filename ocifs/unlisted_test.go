//go:build unix

package ocifs_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
)

// A repository that cannot be read is omitted from the catalog, and no other is.
// Verify reports it.
func TestUnlistedRepository_LeavesOthersListed(t *testing.T) {
	t.Parallel()
	ways := map[string]func(f *fixture) error{
		"link in it": func(f *fixture) error {
			return os.Symlink("elsewhere", f.path("b", "blobs", "sha512"))
		},
		"journal is a directory": func(f *fixture) error {
			name := f.path("b", ".ocifs", "journal")
			return firstError(os.Remove(name), os.Mkdir(name, 0o777))
		},
		"no index.json": func(f *fixture) error { return os.Remove(f.path("b", "index.json")) },
	}
	if os.Geteuid() != 0 { // who may read everything
		ways["directory"] = func(f *fixture) error { return os.Chmod(f.path("b"), 0) }
		ways["directory, but to enter"] = func(f *fixture) error { return os.Chmod(f.path("b"), 0o111) }
		ways["blobs"] = func(f *fixture) error { return os.Chmod(f.path("b", "blobs", "sha256"), 0) }
		ways["private directory"] = func(f *fixture) error { return os.Chmod(f.path("b", ".ocifs"), 0) }
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts, log := logged()
			opts.MaxBytes = 1 << 30 // which counts what all have
			f := newFixture(t, opts)
			for _, repo := range []string{"a", "b", "b/c", "d"} {
				must(t, f).MustPush(repo, image(1), "v1")
			}
			f.close()
			qt.Assert(t, qt.IsNil(way(f)))
			t.Cleanup(func() { // so that it can be removed
				for _, dir := range []string{"b", "b/.ocifs", "b/blobs/sha256"} {
					os.Chmod(filepath.Join(f.dir, dir), 0o777)
				}
			})
			f.open()
			var left []string
			listed := false
			for name, err := range f.Repositories(t.Context(), "") {
				qt.Assert(t, qt.IsNil(err))
				switch name {
				case "b":
					listed = true
				case "b/c":
				default:
					left = append(left, name)
				}
			}
			qt.Check(t, qt.DeepEquals(left, []string{"a", "d"}))
			found := 0
			for p, err := range f.Verify(t.Context()) {
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.Equals(p.Repository, "b"))
				found++
			}
			qt.Check(t, qt.IsTrue(found > 0))
			if !listed {
				qt.Check(t, qt.StringContains(log.String(), "repository=b"))
			}
			wantArtifact(t, f, "d", image(1), "v1")
			must(t, f).MustPush("e", image(1), "v1")
		})
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// No call waits for a named pipe in place of a directory.
func TestNamedPipes_DoNotBlock(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"app/blobs", "app/blobs/sha256", "app/.ocifs", "app", ".ocifs", ".ocifs/blobs", ".ocifs/blobs/sha256", ".ocifs/uploads", ".ocifs/staging", ".ocifs/unfolded", ".ocifs/damaged",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, ocifs.Options{})
			must(t, f).MustPush("app", image(1), "v1")
			must(t, f).MustPush("other", image(2), "v1")
			f.close()
			path := filepath.Join(f.dir, name)
			qt.Assert(t, qt.IsNil(os.RemoveAll(path)))
			qt.Assert(t, qt.IsNil(syscall.Mkfifo(path, 0o666)))
			inTime(t, func() {
				var err error
				if f.Registry, err = ocifs.New(f.dir, &f.opts); err != nil {
					return
				}
				for _, c := range append(readsOf("app", image(1)), changesOf("app", image(1))...) {
					c.call(t.Context(), f)
				}
				for range f.Verify(t.Context()) {
				}
				for range f.Repair(t.Context()) {
				}
				ociregistry.All(f.Repositories(t.Context(), ""))
				wantArtifact(t, f, "other", image(2), "v1")
				f.Registry.Close()
			})
		})
	}
}
