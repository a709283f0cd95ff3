package ocifs_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// fixture is a directory, and the registry in it.
type fixture struct {
	t    testing.TB
	dir  string
	repo string // if not empty, dir is its layout
	opts ocifs.Options
	*ocifs.Registry
}

// newFixture opens a registry in a new directory. It is closed when the test
// ends.
func newFixture(t testing.TB, opts ocifs.Options) *fixture {
	t.Helper()
	return openFixture(t, scratch.Dir(t), "", opts)
}

// openFixture opens a tree or, if repo is not empty, a layout. Nothing is synced,
// so that tests are fast.
func openFixture(t testing.TB, dir, repo string, opts ocifs.Options) *fixture {
	t.Helper()
	opts.NoSync = true
	f := &fixture{t: t, dir: dir, repo: repo, opts: opts}
	f.open()
	t.Cleanup(func() { f.Registry.Close() })
	return f
}

func (f *fixture) open() {
	f.t.Helper()
	var err error
	if f.repo == "" {
		f.Registry, err = ocifs.New(f.dir, &f.opts)
	} else {
		f.Registry, err = ocifs.NewLayout(f.dir, f.repo, &f.opts)
	}
	qt.Assert(f.t, qt.IsNil(err))
}

// close closes the registry: all is in the layouts then.
func (f *fixture) close() {
	f.t.Helper()
	qt.Assert(f.t, qt.IsNil(f.Registry.Close()))
}

// reopen closes the registry and opens it again.
func (f *fixture) reopen() {
	f.t.Helper()
	f.close()
	f.open()
}

// forget removes the snapshot of a repository: the next registry has to find out again
// what its manifests name.
func (f *fixture) forget(repo string) {
	f.t.Helper()
	if err := os.Remove(f.path(repo, ".ocifs", "snapshot")); !errors.Is(err, fs.ErrNotExist) {
		qt.Assert(f.t, qt.IsNil(err))
	}
}

// path returns a path below the layout of a repository.
func (f *fixture) path(repo string, elems ...string) string {
	dir := f.dir
	if f.repo == "" {
		dir = filepath.Join(dir, filepath.FromSlash(repo))
	}
	return filepath.Join(dir, filepath.Join(elems...))
}

func (f *fixture) blobPath(repo string, d ociregistry.Digest) string {
	return f.path(repo, "blobs", d.Algorithm().String(), d.Encoded())
}

// layout returns the layout of a repository, which must be valid.
func (f *fixture) layout(repo string) layout {
	f.t.Helper()
	l, err := readLayout(f.path(repo))
	qt.Assert(f.t, qt.IsNil(err))
	return l
}

// backend is a kind of registry that a behaviour holds for.
type backend struct {
	name string
	open func(t testing.TB) ociregistry.Interface
}

func backends() []backend {
	return []backend{
		{"ocifs", func(t testing.TB) ociregistry.Interface { return newFixture(t, ocifs.Options{}).Registry }},
		{"ocimem", func(t testing.TB) ociregistry.Interface { return ocimem.New() }},
	}
}

// onBackends runs a test on a new registry of each kind.
func onBackends(t *testing.T, test func(t *testing.T, r ociregistry.Interface)) {
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			test(t, b.open(t))
		})
	}
}

// must returns a registry whose pushes end the test when they fail.
func must(t testing.TB, r ociregistry.Interface) ocitest.Registry { return ocitest.NewRegistry(t, r) }

// image returns an image with a small and a large layer.
func image(seed uint64) *ocitest.Artifact {
	return ocitest.NewImage(ocitest.Spec{Seed: seed, Layers: []int64{100, 40_000}})
}

// data returns n bytes, which are others for each seed.
func data(seed uint64, n int64) []byte {
	a := ocitest.NewImage(ocitest.Spec{Seed: seed, Layers: []int64{n}})
	b, _ := io.ReadAll(a.Blobs[1].NewReader()) // from memory
	return b
}

func describe(data []byte) ociregistry.Descriptor {
	return ociregistry.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromBytes(data), Size: int64(len(data))}
}

func pushBlob(ctx context.Context, r ociregistry.Interface, repo string, data []byte) error {
	_, err := r.PushBlob(ctx, repo, describe(data), bytes.NewReader(data))
	return err
}

// upload pushes a blob by way of a session.
func upload(ctx context.Context, r ociregistry.Interface, repo string, data []byte) error {
	w, err := r.PushBlobChunked(ctx, repo, 0)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(data); err != nil {
		return err
	}
	_, err = w.Commit(describe(data).Digest)
	return err
}

// read returns what a reader has, which it closes.
func read(r ociregistry.BlobReader, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

// wantBlob checks that a blob is there, with these bytes.
func wantBlob(t testing.TB, r ociregistry.Interface, repo string, data []byte) {
	t.Helper()
	got, err := r.GetBlob(t.Context(), repo, describe(data).Digest)
	qt.Assert(t, qt.IsNil(err))
	ocitest.CheckContent(t, got, data, "")
}

// wantNoBlob checks that a blob cannot be had by any method.
func wantNoBlob(t testing.TB, r ociregistry.Interface, repo string, d ociregistry.Digest) {
	t.Helper()
	ctx := t.Context()
	_, err := r.ResolveBlob(ctx, repo, d)
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUnknown)))
	_, err = read(r.GetBlob(ctx, repo, d))
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUnknown)))
	_, err = read(r.GetBlobRange(ctx, repo, d, 0, 1))
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUnknown)))
}

// wantManifest checks that a manifest is there, by digest and by the tags.
func wantManifest(t testing.TB, r ociregistry.Interface, repo string, contents []byte, mediaType string, tags ...string) {
	t.Helper()
	ctx := t.Context()
	want := describe(contents)
	want.MediaType = mediaType
	desc, err := r.ResolveManifest(ctx, repo, want.Digest)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(desc, want))
	got, err := r.GetManifest(ctx, repo, want.Digest)
	qt.Assert(t, qt.IsNil(err))
	ocitest.CheckContent(t, got, contents, mediaType)
	for _, tag := range tags {
		desc, err := r.ResolveTag(ctx, repo, tag)
		qt.Check(t, qt.IsNil(err), qt.Commentf("tag %s", tag))
		qt.Check(t, qt.DeepEquals(desc, want), qt.Commentf("tag %s", tag))
		got, err := r.GetTag(ctx, repo, tag)
		qt.Assert(t, qt.IsNil(err), qt.Commentf("tag %s", tag))
		ocitest.CheckContent(t, got, contents, mediaType)
	}
}

// wantNoManifest checks that a manifest cannot be had.
func wantNoManifest(t testing.TB, r ociregistry.Interface, repo string, d ociregistry.Digest) {
	t.Helper()
	_, err := r.ResolveManifest(t.Context(), repo, d)
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrManifestUnknown)))
	_, err = read(r.GetManifest(t.Context(), repo, d))
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrManifestUnknown)))
}

// wantNoTag checks that a tag does not resolve.
func wantNoTag(t testing.TB, r ociregistry.Interface, repo, tag string) {
	t.Helper()
	_, err := r.ResolveTag(t.Context(), repo, tag)
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrManifestUnknown)), qt.Commentf("tag %s", tag))
	_, err = read(r.GetTag(t.Context(), repo, tag))
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrManifestUnknown)), qt.Commentf("tag %s", tag))
}

// wantTags checks the list of tags.
func wantTags(t testing.TB, r ociregistry.Interface, repo string, want ...string) {
	t.Helper()
	got, err := ociregistry.All(r.Tags(t.Context(), repo, ""))
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(slices.Clip(got), slices.Clip(want)))
}

// wantArtifact checks that all of an artifact is there.
func wantArtifact(t testing.TB, r ociregistry.Interface, repo string, a *ocitest.Artifact, tags ...string) {
	t.Helper()
	qt.Assert(t, qt.IsNil(a.Verify(t.Context(), r, repo)))
	wantManifest(t, r, repo, a.Manifest, a.Descriptor.MediaType, tags...)
}

// wantRepositories checks the catalog.
func wantRepositories(t testing.TB, r ociregistry.Interface, want ...string) {
	t.Helper()
	got, err := ociregistry.All(r.Repositories(t.Context(), ""))
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(slices.Clip(got), slices.Clip(want)))
}
