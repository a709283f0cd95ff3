package ocifs_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// problems returns the problems that Verify finds.
func problems(t testing.TB, f *fixture) []ocifs.Problem {
	t.Helper()
	var list []ocifs.Problem
	for p, err := range f.Verify(t.Context()) {
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsNotNil(p.Err))
		list = append(list, p)
	}
	return list
}

// An intact registry has no problems, whoever wrote it, and Verify changes nothing.
func TestVerify_FindsNothingInIntactRegistry(t *testing.T) {
	t.Parallel()
	f := newFixture(t, ocifs.Options{})
	qt.Check(t, qt.HasLen(problems(t, f), 0))
	outer, _, _, _ := tower()
	signature := ocitest.NewImage(ocitest.Spec{Seed: 5, ArtifactType: "a/b", Subject: &ociregistry.Descriptor{MediaType: "a/b", Digest: digest.FromString("absent"), Size: 6}})
	must(t, f).MustPush("own", outer, "latest")
	must(t, f).MustPush("own", signature)
	must(t, f).MustPushBlob("own", nil)
	must(t, f).MustPushBlob("blobs/only", data(1, 30_000))
	_, err := f.PushManifest(t.Context(), "own", "text", []byte("text"), "text/plain")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(problems(t, f), 0)) // also while the journal has it all
	newForeign(t, f.path("foreign"), outer).index(named(outer.Descriptor, "example.com/app:latest"), `{}`)
	f.reopen()
	before := tree(t, f.dir)
	qt.Check(t, qt.HasLen(problems(t, f), 0))
	qt.Check(t, qt.DeepEquals(tree(t, f.dir), before))
}

// Wrong bytes are found, whatever their number and location, and pushing the content
// again is enough to repair it.
func TestVerify_FindsDamageThatPushesRepair(t *testing.T) {
	t.Parallel()
	outer, _, a, _ := tower()
	loose, small := data(1, 30_000), data(2, 30)
	flip := func(s string) string { return s[:len(s)/2] + string(s[len(s)/2]^1) + s[len(s)/2+1:] }
	changes := map[string]func(string) string{
		"other bytes": flip,
		"last byte":   func(s string) string { return s[:len(s)-1] + string(s[len(s)-1]^1) },
		"shorter":     func(s string) string { return s[1:] },
		"longer":      func(s string) string { return s + "\n" },
		"empty":       func(string) string { return "" },
	}
	targets := map[string]ociregistry.Digest{
		"config":          a.Blobs[0].Descriptor.Digest,
		"small layer":     a.Blobs[1].Descriptor.Digest,
		"layer":           a.Blobs[2].Descriptor.Digest,
		"blob":            describe(loose).Digest,
		"small blob":      describe(small).Digest,
		"image":           a.Descriptor.Digest,
		"index with tags": outer.Descriptor.Digest,
	}
	push := func(f *fixture) {
		must(t, f).MustPush("team/app", outer, "v1", "v2")
		must(t, f).MustPushBlob("team/app", loose)
		must(t, f).MustPushBlob("team/app", small)
	}
	for what, change := range changes {
		for target, d := range targets {
			t.Run(what+"/"+target, func(t *testing.T) {
				t.Parallel()
				for _, restart := range []bool{false, true} {
					f := newFixture(t, ocifs.Options{})
					push(f)
					must(t, f).MustPush("other", image(7), "latest")
					f.reopen()
					text, err := os.ReadFile(f.blobPath("team/app", d))
					qt.Assert(t, qt.IsNil(err))
					overwrites["by another file"](t, f.blobPath("team/app", d), change(string(text)))
					if restart {
						f.reopen()
					}
					found := problems(t, f)
					qt.Assert(t, qt.IsTrue(len(found) > 0))
					damaged := 0
					for _, p := range found {
						qt.Check(t, qt.Equals(p.Repository, "team/app"))
						qt.Check(t, qt.StringContains(p.String(), "team/app"))
						if p.Digest == d && errors.Is(p.Err, ocifs.ErrDamaged) {
							damaged++
						}
						if target != "image" && target != "index with tags" { // whose children may seem to be missing
							qt.Check(t, qt.Equals(p.Digest, d))
						}
					}
					qt.Check(t, qt.Equals(damaged, 1))

					push(f)
					f.reopen()
					qt.Check(t, qt.HasLen(problems(t, f), 0))
				}
			})
		}
	}
}

// Damage to a shared file is reported for all repositories that have it.
func TestVerify_ReportsSharedDamageInEachRepositoryInOrder(t *testing.T) {
	t.Parallel()
	f := newFixture(t, ocifs.Options{})
	content := data(1, 30_000)
	repos := []string{"a", "a-b", "a/b", "b"}
	for _, repo := range repos {
		must(t, f).MustPushBlob(repo, content)
	}
	path := f.blobPath("a/b", describe(content).Digest)
	writeFile(t, path, strings.Repeat("x", len(content)))
	var found []string
	for _, p := range problems(t, f) {
		found = append(found, p.Repository)
		qt.Check(t, qt.ErrorIs(p.Err, ocifs.ErrDamaged))
		qt.Check(t, qt.Equals(p.Digest, describe(content).Digest))
	}
	qt.Check(t, qt.DeepEquals(found, repos))

	// It stops when the caller does, and when the context ends.
	n := 0
	for range f.Verify(t.Context()) {
		if n++; n == 2 {
			break
		}
	}
	qt.Check(t, qt.Equals(n, 2))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n = 0
	var last error
	for p, err := range f.Verify(ctx) {
		cancel()
		if last = err; err == nil {
			n++
			qt.Check(t, qt.Equals(p.Repository, "a"))
		}
	}
	qt.Check(t, qt.ErrorIs(last, context.Canceled))
	qt.Check(t, qt.Equals(n, 1))
}

// Content that is named but missing is found, with the tags that point at it.
func TestVerify_FindsMissingContentAndItsTags(t *testing.T) {
	t.Parallel()
	const repo = "app"
	outer, inner, a, _ := tower()
	ways := map[string]func(name string) error{
		"removed": os.Remove,
		"directory": func(name string) error {
			return errors.Join(os.Remove(name), os.Mkdir(name, 0o777))
		},
	}
	targets := map[string]struct {
		digest ociregistry.Digest
		tags   []string
	}{
		"layer": {a.Blobs[2].Descriptor.Digest, []string{""}},
		"image": {a.Descriptor.Digest, []string{""}},
		"inner": {inner.Descriptor.Digest, []string{"inner"}},
		"outer": {outer.Descriptor.Digest, []string{"v1", "v2"}},
	}
	for wayName, way := range ways {
		for targetName, target := range targets {
			t.Run(wayName+"/"+targetName, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, ocifs.Options{})
				must(t, f).MustPush(repo, outer, "v1", "v2")
				must(t, f).MustPush(repo, inner, "inner")
				f.close()
				qt.Assert(t, qt.IsNil(way(f.blobPath(repo, target.digest))))
				f.open()
				var tags []string
				for _, p := range problems(t, f) {
					qt.Check(t, qt.Equals(p.Repository, repo))
					if p.Digest == target.digest {
						tags = append(tags, p.Tag)
					}
				}
				slices.Sort(tags)
				for _, tag := range target.tags {
					qt.Check(t, qt.SliceContains(tags, tag))
				}
				qt.Assert(t, qt.IsNil(os.RemoveAll(f.blobPath(repo, target.digest))))
				must(t, f).MustPush(repo, outer)
				f.reopen()
				qt.Check(t, qt.HasLen(problems(t, f), 0))
				wantTags(t, f, repo, "inner", "v1", "v2")
			})
		}
	}
}

// A repository that cannot be read at all is a problem, and the others are checked.
func TestVerify_ReportsUnreadableRepositoryAndContinues(t *testing.T) {
	t.Parallel()
	f := newFixture(t, ocifs.Options{})
	for _, repo := range []string{"a", "b", "c"} {
		must(t, f).MustPush(repo, image(1), "latest")
	}
	f.reopen()
	writeFile(t, f.path("b", "index.json"), "{")
	overwrites["by another file"](t, f.blobPath("c", image(1).Blobs[2].Descriptor.Digest), "other")
	found := problems(t, f)
	qt.Assert(t, qt.IsTrue(len(found) >= 2))
	qt.Check(t, qt.Equals(found[0].Repository, "b"))
	qt.Check(t, qt.StringContains(found[0].String(), f.path("b", "index.json")))
	for _, p := range found[1:] { // it is damaged, and a manifest misses it
		qt.Check(t, qt.Equals(p.Repository, "c"))
	}
	f.Registry.Close()
	_, err := ociregistry.All(f.Verify(t.Context()))
	qt.Check(t, qt.ErrorIs(err, fs.ErrClosed))
}
