package ocitest_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// TestBackend checks the backend of the example, which cannot write: the suite puts
// content into its directory.
func TestBackend(t *testing.T) {
	t.Parallel()
	type backend struct {
		ociregistry.Interface
		below ociregistry.Interface
	}
	newRegistry := func(t testing.TB) ociregistry.Interface {
		dir := t.TempDir()
		find := func(repo string) fs.FS { return os.DirFS(filepath.Join(dir, onDisk(repo))) }
		return backend{newLayouts(find), layoutWriter(dir)}
	}
	ocitest.Run(t, newRegistry, &ocitest.Options{
		Absent: ocitest.Writes | ocitest.Deletes | ocitest.ListRepositories | ocitest.ListTags | ocitest.ListReferrers | ocitest.Allowances,
		Below:  func(r ociregistry.Interface) ociregistry.Interface { return r.(backend).below },
	})
}

// onDisk returns the path of a repository's layout: package ocifs puts a "_" before what
// would be in the way of another layout.
func onDisk(repo string) string {
	dirs := strings.Split(repo, "/")
	for i, dir := range dirs {
		if dir == "blobs" || dir == "index.json" || dir == "oci-layout" {
			dirs[i] = "_" + dir
		}
	}
	return filepath.Join(dirs...)
}

// layoutWriter returns a registry whose layouts in dir are complete after each push.
func layoutWriter(dir string) ociregistry.Interface {
	push := func(f func(w ociregistry.Interface) (ociregistry.Descriptor, error)) (ociregistry.Descriptor, error) {
		w, err := ocifs.New(dir, &ocifs.Options{NoSync: true})
		if err != nil {
			return ociregistry.Descriptor{}, err
		}
		desc, err := f(w)
		return desc, errors.Join(err, w.Close())
	}
	return &ociregistry.Funcs{
		PushBlob_: func(ctx context.Context, repo string, desc ociregistry.Descriptor, r io.Reader) (ociregistry.Descriptor, error) {
			return push(func(w ociregistry.Interface) (ociregistry.Descriptor, error) {
				return w.PushBlob(ctx, repo, desc, r)
			})
		},
		PushManifest_: func(ctx context.Context, repo, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
			return push(func(w ociregistry.Interface) (ociregistry.Descriptor, error) {
				return w.PushManifest(ctx, repo, ref, contents, mediaType, tags...)
			})
		},
	}
}
