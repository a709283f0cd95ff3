package ocifs_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// Entries that other programs write have the meaning that their authors intend.
func TestForeignEntries_HaveTheirMeaning(t *testing.T) {
	t.Parallel()
	a, b, c := image(1), image(2), bare(3)
	da, db := a.Descriptor, b.Descriptor
	inner := ocitest.NewIndex(ocitest.Spec{Annotations: map[string]string{"level": "inner"}}, b)
	outer := ocitest.NewIndex(ocitest.Spec{Annotations: map[string]string{"level": "outer"}}, inner, a)
	signature := ocitest.NewImage(ocitest.Spec{Seed: 5, ArtifactType: "application/vnd.example.signature", Layers: []int64{10}, Subject: &da})
	absent := image(6).Descriptor
	untyped := func(desc ociregistry.Descriptor, name string) string {
		return fmt.Sprintf(`{"digest":%q,"size":%d,"annotations":{"org.opencontainers.image.ref.name":%q}}`, desc.Digest, desc.Size, name)
	}
	docker := dockerImage(t, a)
	tests := []struct {
		name    string
		has     []*ocitest.Artifact
		entries []string
		tags    map[string]*ocitest.Artifact
	}{
		{
			name:    "tag",
			has:     []*ocitest.Artifact{a, b},
			entries: []string{named(da, "v1"), named(db, "v2")},
			tags:    map[string]*ocitest.Artifact{"v1": a, "v2": b},
		},
		{
			name:    "repository and tag",
			has:     []*ocitest.Artifact{a},
			entries: []string{named(da, "app:v1")},
			tags:    map[string]*ocitest.Artifact{"v1": a},
		},
		{
			name: "references",
			has:  []*ocitest.Artifact{a, b},
			entries: []string{
				named(da, "registry.example.com:5000/team/app:v1"),
				named(db, "docker.io/library/app:v2@"+string(db.Digest)),
				named(db, "localhost/app:V_3.x-y"),
			},
			tags: map[string]*ocitest.Artifact{"v1": a, "v2": b, "V_3.x-y": b},
		},
		{
			name:    "no name",
			has:     []*ocitest.Artifact{a, b},
			entries: []string{line(da), line(db, `"annotations":{"some":"thing"}`)},
		},
		{
			name: "names that end in no tag",
			has:  []*ocitest.Artifact{a, b},
			entries: []string{
				named(da, ""), named(da, "registry.example.com:5000/team/app"), named(da, "feature/x"), named(da, "feature/y"),
				named(db, "not a tag"), named(db, "app@"+string(db.Digest)), named(db, "app:"), named(db, strings.Repeat("long", 33)), named(db, ":-v1"),
				named(db, "../../../etc/passwd"),
			},
		},
		{
			name: "fields that are not known",
			has:  []*ocitest.Artifact{a, b},
			entries: []string{
				line(da, `"annotations":{"org.opencontainers.image.ref.name":"v1","other":"\u00e9\/<&>"}`, `"x-new":{"list":[1, 2.50, 1e3, null],"text":"\ud83d\ude00"}`),
				line(da, `"platform":{"architecture":"amd64","os":"linux","os.features":["a"]}`, `"annotations":{"org.opencontainers.image.ref.name":"v2"}`, `"urls":[]`),
				line(db, `"x-new" :  true`, `"artifactType":"application/vnd.example"`),
			},
			tags: map[string]*ocitest.Artifact{"v1": a, "v2": a},
		},
		{
			name: "several of one digest",
			has:  []*ocitest.Artifact{a},
			entries: []string{
				named(da, "v1"), named(da, "v2"), named(da, "example.com/app:v3"), line(da),
				line(da, `"platform":{"architecture":"amd64","os":"linux"}`),
				line(da, `"platform":{"architecture":"arm64","os":"linux"}`),
			},
			tags: map[string]*ocitest.Artifact{"v1": a, "v2": a, "v3": a},
		},
		{
			name:    "one tag twice, the exact name first",
			has:     []*ocitest.Artifact{a, b},
			entries: []string{named(da, "v1"), named(db, "app:v1")},
			tags:    map[string]*ocitest.Artifact{"v1": a},
		},
		{
			name:    "one tag twice, the exact name last",
			has:     []*ocitest.Artifact{a, b},
			entries: []string{named(db, "app:v1"), named(db, "b.example.com/app:v1"), named(da, "v1")},
			tags:    map[string]*ocitest.Artifact{"v1": a},
		},
		{
			name:    "one tag twice, never exactly",
			has:     []*ocitest.Artifact{a, b},
			entries: []string{named(da, "a.example.com/app:v1"), named(db, "b.example.com/app:v1")},
			tags:    map[string]*ocitest.Artifact{"v1": a},
		},
		{
			name:    "one tag twice, of one digest",
			has:     []*ocitest.Artifact{a},
			entries: []string{named(da, "app:v1"), named(da, "v1"), named(da, "example.com/app:v1")},
			tags:    map[string]*ocitest.Artifact{"v1": a},
		},
		{
			name:    "nested indexes",
			has:     []*ocitest.Artifact{outer},
			entries: []string{named(outer.Descriptor, "multi")},
			tags:    map[string]*ocitest.Artifact{"multi": outer},
		},
		{
			name:    "nested indexes whose children are listed",
			has:     []*ocitest.Artifact{outer},
			entries: []string{named(outer.Descriptor, "multi"), line(inner.Descriptor), named(da, "amd64"), line(db, `"x":1`)},
			tags:    map[string]*ocitest.Artifact{"multi": outer, "amd64": a},
		},
		{
			name:    "referrer",
			has:     []*ocitest.Artifact{a, signature},
			entries: []string{named(da, "v1"), line(signature.Descriptor)},
			tags:    map[string]*ocitest.Artifact{"v1": a},
		},
		{
			name:    "absent",
			has:     []*ocitest.Artifact{a},
			entries: []string{named(absent, "gone"), named(da, "v1"), line(absent, `"x":1`), named(absent, "example.com/app:lost")},
			tags:    map[string]*ocitest.Artifact{"v1": a},
		},
		{
			name:    "nothing but absent",
			has:     nil,
			entries: []string{named(absent, "gone")},
		},
		{
			name:    "no media type",
			has:     []*ocitest.Artifact{a, c, outer},
			entries: []string{untyped(da, "v1"), untyped(c.Descriptor, "bare"), untyped(outer.Descriptor, "multi")},
			tags:    map[string]*ocitest.Artifact{"v1": a, "bare": c, "multi": outer},
		},
		{
			name:    "docker",
			has:     []*ocitest.Artifact{docker},
			entries: []string{named(docker.Descriptor, "docker.io/library/app:latest")},
			tags:    map[string]*ocitest.Artifact{"latest": docker},
		},
		{
			name: "what is no descriptor",
			has:  []*ocitest.Artifact{a},
			entries: []string{
				named(da, "v1"),
				`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"blake3:` + strings.Repeat("0", 64) + `","size":1}`,
				`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:short","size":1,"annotations":{"org.opencontainers.image.ref.name":"bad"}}`,
				`{}`, `null`, `"text"`, `[1,2]`, `{"digest":5}`,
			},
			tags: map[string]*ocitest.Artifact{"v1": a},
		},
	}
	for _, test := range tests {
		for _, single := range []string{"", "team/app"} {
			t.Run(test.name+"/"+map[bool]string{true: "tree", false: "layout"}[single == ""], func(t *testing.T) {
				t.Parallel()
				const repo = "team/app"
				f := &fixture{t: t, dir: scratch.Dir(t), repo: single, opts: ocifs.Options{NoSync: true}}
				newForeign(t, f.path(repo), test.has...).index(test.entries...)
				before := tree(t, f.path(repo))

				// It is served as it is, also where nothing can be written.
				check := func(also ...string) {
					t.Helper()
					var tags []string
					for tag, a := range test.tags {
						tags = append(tags, tag)
						wantArtifact(t, f, repo, a, tag)
					}
					tags = append(tags, also...)
					slices.Sort(tags)
					if len(tags) > 0 {
						wantTags(t, f, repo, tags...)
					}
					for _, a := range test.has {
						wantArtifact(t, f, repo, a)
					}
					wantNoTag(t, f, repo, "gone")
					wantNoTag(t, f, repo, "lost")
				}
				f.opts.ReadOnly = true
				f.open()
				if len(test.has) > 0 {
					check()
					wantNoManifest(t, f, repo, absent.Digest)
					wantRepositories(t, f, repo)
				}
				f.close()
				qt.Check(t, qt.DeepEquals(tree(t, f.path(repo)), before))

				// Later pushes leave the entries as they are, and their meaning.
				f.opts.ReadOnly = false
				f.open()
				t.Cleanup(func() { f.Registry.Close() })
				var also []string
				for i := range 3 {
					tag := fmt.Sprint("new-", i)
					also = append(also, tag)
					must(t, f).MustPush(repo, image(100+uint64(i)), tag)
					check(also...)
					f.reopen()
					check(also...)
					entries := rawEntries(t, f.path(repo))
					for _, e := range test.entries {
						qt.Check(t, qt.IsTrue(slices.Contains(entries, e)), qt.Commentf("after %d pushes index.json lacks %s", i+1, e))
					}
					for _, e := range entries {
						known := slices.Contains(test.entries, e) || strings.Contains(e, `"new-`)
						qt.Check(t, qt.IsTrue(known), qt.Commentf("after %d pushes index.json has %s", i+1, e))
					}
				}
				for i := range 3 {
					wantArtifact(t, f, repo, image(100+uint64(i)), also[i])
				}
			})
		}
	}
}

// dockerImage returns a with a Docker manifest.
func dockerImage(t testing.TB, a *ocitest.Artifact) *ocitest.Artifact {
	const mediaType = "application/vnd.docker.distribution.manifest.v2+json"
	var m map[string]any
	qt.Assert(t, qt.IsNil(json.Unmarshal(a.Manifest, &m)))
	m["mediaType"] = mediaType
	contents, err := json.MarshalIndent(m, "", "   ")
	qt.Assert(t, qt.IsNil(err))
	docker := *a
	docker.Manifest = contents
	docker.Descriptor = describe(contents)
	docker.Descriptor.MediaType = mediaType
	return &docker
}
