package ocifs_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// repairs returns what Repair finds.
func repairs(t testing.TB, f *fixture) []ocifs.Problem {
	t.Helper()
	var list []ocifs.Problem
	for p, err := range f.Repair(t.Context()) {
		qt.Assert(t, qt.IsNil(err))
		list = append(list, p)
	}
	return list
}

// The loop may be left at any element, whatever its subject, even if the context has
// ended meanwhile.
func TestVerify_MayBeLeftAtAnyPoint(t *testing.T) {
	t.Parallel()
	f := newFixture(t, ocifs.Options{})
	for _, repo := range []string{"a", "b", "c"} {
		must(t, f).MustPush(repo, image(1), "v1", "v2")
	}
	f.close()
	for _, repo := range []string{"a", "c"} {
		writeFile(t, f.blobPath(repo, image(1).Blobs[2].Descriptor.Digest), "x")
		qt.Assert(t, qt.IsNil(os.Remove(f.blobPath(repo, image(1).Descriptor.Digest))))
	}
	writeFile(t, f.path("b", "index.json"), "{")
	f.open()
	all := len(problems(t, f))
	qt.Assert(t, qt.IsTrue(all > 5))
	for _, find := range []func(context.Context) func(func(ocifs.Problem, error) bool){
		func(ctx context.Context) func(func(ocifs.Problem, error) bool) { return f.Verify(ctx) },
		func(ctx context.Context) func(func(ocifs.Problem, error) bool) { return f.Repair(ctx) },
	} {
		for last := range all {
			for _, end := range []bool{true, false} {
				ctx, cancel := context.WithCancel(t.Context())
				n := 0
				for range find(ctx) {
					if n == last {
						if end {
							cancel()
						}
						break
					}
					n++
				}
				cancel()
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, err := range find(ctx) {
			qt.Check(t, qt.ErrorIs(err, context.Canceled))
			break
		}
	}
}

// Files that were moved away can be inspected, and their bytes are released.
func TestRepair_MovesDamage(t *testing.T) {
	t.Parallel()
	const repo = "team/app"
	a := image(1)
	layer := a.Blobs[2]
	f := newFixture(t, ocifs.Options{MaxBytes: 400_000})
	must(t, f).MustPush(repo, a, "v1", "v2")
	must(t, f).MustPush("other", a)
	must(t, f).MustPushBlob(repo, data(5, 100_000))
	f.reopen()
	// The file is that of both repositories and of the pool.
	writeFile(t, f.blobPath(repo, layer.Descriptor.Digest), "damaged in place")
	loose := describe(data(5, 100_000)).Digest
	writeFile(t, f.blobPath(repo, loose), strings.Repeat("x", 100_000))
	writeFile(t, f.blobPath(repo, a.Descriptor.Digest), "damaged, too")
	f.reopen()
	moved := make(map[string]string)
	for _, p := range repairs(t, f) {
		switch {
		case errors.Is(p.Err, ocifs.ErrDamaged):
			qt.Check(t, qt.IsTrue(p.Repaired))
			text, err := os.ReadFile(p.Moved)
			qt.Assert(t, qt.IsNil(err))
			moved[p.Repository+"@"+string(p.Digest)] = string(text[:min(len(text), 16)])
		default:
			qt.Check(t, qt.ErrorIs(p.Err, ocifs.ErrMissing))
			qt.Check(t, qt.IsFalse(p.Repaired))
			qt.Check(t, qt.Equals(p.Moved, ""))
		}
	}
	qt.Check(t, qt.DeepEquals(moved, map[string]string{
		repo + "@" + string(layer.Descriptor.Digest): "damaged in place",
		"other@" + string(layer.Descriptor.Digest):   "damaged in place",
		repo + "@" + string(loose):                   strings.Repeat("x", 16),
		repo + "@" + string(a.Descriptor.Digest):     "damaged, too",
	}))
	wantNoBlob(t, f, repo, loose)
	wantNoBlob(t, f, "other", layer.Descriptor.Digest)
	wantNoManifest(t, f, repo, a.Descriptor.Digest)
	_, err := f.MountBlob(t.Context(), "", "third", loose)
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUnknown)))
	must(t, f).MustPushBlob(repo, data(7, 250_000)) // there is room for it
	for range 2 {
		must(t, f).MustPush(repo, a)
		must(t, f).MustPush("other", a)
		wantArtifact(t, f, repo, a, "v1", "v2")
		qt.Check(t, qt.HasLen(problems(t, f), 0))
		f.reopen()
	}
}

// Damage in the pool is found, and a mount does not bring it back.
func TestRepair_MovesDamageOutOfThePool(t *testing.T) {
	t.Parallel()
	f := newFixture(t, ocifs.Options{})
	content := data(1, 30_000)
	d := describe(content).Digest
	must(t, f).MustPushBlob("a", content)
	f.close()
	pool := filepath.Join(f.dir, ".ocifs", "blobs", "sha256", d.Encoded())
	qt.Assert(t, qt.IsNil(os.Remove(pool)))
	writeFile(t, pool, string(data(2, 30_000)))
	f.open()
	found := problems(t, f)
	qt.Assert(t, qt.HasLen(found, 1))
	qt.Check(t, qt.Equals(found[0].Repository, ""))
	qt.Check(t, qt.Equals(found[0].Digest, d))
	qt.Check(t, qt.ErrorIs(found[0].Err, ocifs.ErrDamaged))
	qt.Assert(t, qt.HasLen(repairs(t, f), 1))
	qt.Check(t, qt.HasLen(problems(t, f), 0))
	_, err := f.MountBlob(t.Context(), "a", "b", d)
	qt.Assert(t, qt.IsNil(err))
	wantBlob(t, f, "b", content)
	qt.Check(t, qt.HasLen(problems(t, f), 0))
}

// An index.json is created from the manifests that exist; only tags are lost.
func TestRepair_MakesIndex(t *testing.T) {
	t.Parallel()
	const repo = "team/app"
	outer, inner, a, _ := tower()
	signature := signatureOf(a, 5)
	text := data(3, 300)
	ways := map[string]func(t *testing.T, name string){"missing": missing}
	for _, d := range damages {
		if d.name != "no permission" {
			ways[d.name] = d.damage
		}
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, ocifs.Options{})
			must(t, f).MustPush(repo, outer, "v1")
			must(t, f).MustPush(repo, signature, "v2")
			must(t, f).MustPushBlob(repo, text)
			must(t, f).MustPushBlob(repo, []byte(`{"schemaVersion":2,"manifests":[]}`)) // which may be a blob
			f.close()
			way(t, f.path(repo, "index.json"))
			f.open()
			list := repairs(t, f)
			qt.Assert(t, qt.HasLen(list, 1), qt.Commentf("%v", list))
			qt.Check(t, qt.Equals(list[0].Repository, repo))
			qt.Check(t, qt.IsTrue(list[0].Repaired))
			qt.Check(t, qt.Equals(list[0].Moved == "", name == "missing"))
			for range 2 {
				qt.Check(t, qt.HasLen(problems(t, f), 0))
				wantTags(t, f, repo)
				wantArtifact(t, f, repo, outer)
				wantArtifact(t, f, repo, inner)
				wantArtifact(t, f, repo, signature)
				wantReferrers(t, f, repo, a.Descriptor.Digest, signature)
				wantBlob(t, f, repo, text)
				wantBlob(t, f, repo, []byte(`{"schemaVersion":2,"manifests":[]}`))
				wantInUse(t, f.DeleteBlob(t.Context(), repo, a.Blobs[1].Descriptor.Digest), "a layer")
				f.reopen()
			}
			must(t, f).MustPush(repo, outer, "v1")
			f.reopen()
			wantArtifact(t, f, repo, outer, "v1")
			f.layout(repo)
		})
	}
}

// Intact files are not moved, and files that must not be changed are not repaired.
func TestRepair_LeavesWhatIsWhole(t *testing.T) {
	t.Parallel()
	f := newFixture(t, ocifs.Options{})
	must(t, f).MustPush("own", ocitest.NewIndex(ocitest.Spec{}, image(1)), "latest")
	must(t, f).MustPushBlob("own", nil)
	newForeign(t, f.path("foreign"), image(2)).index(named(image(2).Descriptor, "example.com/app:latest"), `{}`)
	f.reopen()
	before := tree(t, f.dir)
	qt.Check(t, qt.HasLen(repairs(t, f), 0))
	after := tree(t, f.dir)
	for name, what := range before {
		qt.Check(t, qt.Equals(after[name], what), qt.Commentf(name))
	}
	f.close()
	f.opts.ReadOnly = true
	f.open()
	_, err := ociregistry.All(f.Repair(t.Context()))
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrDenied)))
}
