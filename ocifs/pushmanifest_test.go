package ocifs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// Media types that are known, beside those of OCI.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	orasManifest   = "application/vnd.cncf.oras.artifact.manifest.v1+json"
)

// push is a manifest on its way.
type push struct {
	name      string
	ref       string
	contents  string
	mediaType string
	tags      []string
	want      error
}

func (p push) do(ctx context.Context, r ociregistry.Interface, repo string) error {
	_, err := r.PushManifest(ctx, repo, p.ref, []byte(p.contents), p.mediaType, p.tags...)
	return err
}

// badPushes are of manifests that a repository which has a's blobs refuses.
func badPushes(t testing.TB, a *ocitest.Artifact) []push {
	config, layer := a.Blobs[0].Descriptor, a.Blobs[1].Descriptor
	missing := describe([]byte("missing"))
	manifest := func(mediaType string, config ociregistry.Descriptor, layers ...ociregistry.Descriptor) string {
		return mustJSON(t, map[string]any{"schemaVersion": 2, "mediaType": mediaType, "config": config, "layers": layers})
	}
	index := func(mediaType string, children ...ociregistry.Descriptor) string {
		return mustJSON(t, map[string]any{"schemaVersion": 2, "mediaType": mediaType, "manifests": children})
	}
	child := missing
	child.MediaType = ocispec.MediaTypeImageManifest
	const image, imageIndex = ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex
	good := manifest(image, config, layer)
	text := string(a.Manifest)
	invalid, unknown := error(ociregistry.ErrManifestInvalid), error(ociregistry.ErrManifestBlobUnknown)
	return []push{
		{"empty body", "new", "", image, nil, invalid},
		{"empty body of an index", "new", "", imageIndex, nil, invalid},
		{"empty body of an unknown type", "new", "", "text/plain", nil, invalid},
		{"no media type", "new", text, "", nil, invalid},
		{"not JSON", "new", "not JSON", image, nil, invalid},
		{"half", "new", text[:len(text)/2], image, nil, invalid},
		{"more than one", "new", text + text, image, nil, invalid},
		{"an array", "new", "[]", image, nil, invalid},
		{"null", "new", "null", image, nil, invalid},
		{"not UTF-8 JSON", "new", "\xff\xfe{\x00}\x00", imageIndex, nil, invalid},
		{"an index as an image", "new", index(imageIndex), image, nil, invalid},
		{"an image as an index", "new", good, imageIndex, nil, invalid},
		{"an OCI image as a Docker image", "new", good, dockerManifest, nil, invalid},
		{"another digest", digest.FromString("other").String(), good, image, nil, ociregistry.ErrDigestInvalid},
		{"another SHA-512 digest", digest.SHA512.FromString("other").String(), good, image, nil, ociregistry.ErrDigestInvalid},
		{"a malformed digest", "sha256:abc", good, image, nil, ociregistry.ErrDigestInvalid},
		{"a digest that is a path", "sha256:../../../../../../etc/passwd", good, image, nil, ociregistry.ErrDigestInvalid},
		{"another digest and a tag", digest.FromString("other").String(), good, image, []string{"new"}, ociregistry.ErrDigestInvalid},
		{"a malformed tag", "-new", good, image, nil, invalid},
		{"a tag that is a path", "../new", good, image, nil, invalid},
		{"one malformed tag", "new", good, image, []string{"new2", "not a tag"}, invalid},
		{"missing config", "new", manifest(image, missing, layer), image, nil, unknown},
		{"missing layer", "new", manifest(image, config, layer, missing), image, nil, unknown},
		{"missing layer of a Docker image", "new", manifest(dockerManifest, config, missing), dockerManifest, nil, unknown},
		{"missing child", "new", index(imageIndex, a.Descriptor, child), imageIndex, nil, unknown},
		{"missing child of a Docker list", "new", index(dockerList, child), dockerList, nil, unknown},
		{"missing child beside the subject", "new", mustJSON(t, map[string]any{"schemaVersion": 2, "mediaType": imageIndex, "manifests": []any{child}, "subject": child}), imageIndex, nil, unknown},
		{"missing blob of an ORAS artifact", "new", mustJSON(t, map[string]any{"mediaType": orasManifest, "artifactType": "a/b", "blobs": []any{missing}}), orasManifest, nil, unknown},
	}
}

func mustJSON(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	qt.Assert(t, qt.IsNil(err))
	return string(text)
}

// Nothing of a refused push is stored.
func TestPushManifest_StoresNothingWhenRefused(t *testing.T) {
	t.Parallel()
	const repo = "app"
	a := image(1)
	for _, p := range badPushes(t, a) {
		t.Run("ocifs/"+p.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, ocifs.Options{})
			if !errors.Is(p.want, ociregistry.ErrManifestBlobUnknown) { // in a new repository, that is the error of all
				before := tree(t, f.dir)
				qt.Check(t, qt.ErrorIs(p.do(t.Context(), f, repo), p.want))
				qt.Check(t, qt.DeepEquals(tree(t, f.dir), before))
				wantRepositories(t, f)
			}
			must(t, f).MustPush(repo, a, "old")
			f.reopen()
			before := tree(t, f.path(repo))
			qt.Check(t, qt.ErrorIs(p.do(t.Context(), f, repo), p.want))
			wantRefused(t, f, repo, p, a)
			f.close()
			after := tree(t, f.path(repo))
			journal := filepath.Join(".ocifs", "journal") // may begin anew
			delete(before, journal)
			delete(after, journal)
			qt.Check(t, qt.DeepEquals(after, before))
		})
		t.Run("ocimem/"+p.name, func(t *testing.T) {
			t.Parallel()
			r := ocimem.New()
			qt.Check(t, qt.IsNotNil(p.do(t.Context(), r, repo)))
			wantRepositories(t, r)
			must(t, r).MustPush(repo, a, "old")
			qt.Check(t, qt.ErrorIs(p.do(t.Context(), r, repo), p.want))
			wantRefused(t, r, repo, p, a)
		})
	}
}

func wantRefused(t *testing.T, r ociregistry.Interface, repo string, p push, a *ocitest.Artifact) {
	t.Helper()
	wantTags(t, r, repo, "old")
	wantNoTag(t, r, repo, "new")
	if p.contents != string(a.Manifest) {
		wantNoManifest(t, r, repo, digest.FromString(p.contents))
		wantNoBlob(t, r, repo, digest.FromString(p.contents))
	}
	wantArtifact(t, r, repo, a, "old")
}

// Pushing the same bytes again changes nothing.
func TestPushManifest_SameAgainChangesNothing(t *testing.T) {
	t.Parallel()
	const repo = "app"
	f := newFixture(t, ocifs.Options{})
	a := image(1)
	again := func(ref string, tags ...string) {
		t.Helper()
		desc, err := f.PushManifest(t.Context(), repo, ref, a.Manifest, a.Descriptor.MediaType, tags...)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(desc, a.Descriptor))
	}
	steps := []struct {
		name string
		push func()
		tags int // afterwards
	}{
		{"by digest", func() { again(string(a.Descriptor.Digest)) }, 0},
		{"under a tag", func() { again("v1") }, 1},
		{"under three tags", func() { again("v1"); again("v2"); again("v3") }, 3},
		{"under three tags at once", func() { again("v1", "v2", "v3") }, 3},
		{"without a ref", func() { again("") }, 3},
	}
	must(t, f).MustPush(repo, a)
	for _, step := range steps {
		step.push()
		f.reopen()
		l := f.layout(repo)
		qt.Check(t, qt.Equals(l.count(a.Descriptor.Digest), max(step.tags, 1)), qt.Commentf(step.name))
		qt.Check(t, qt.HasLen(l.entries, max(step.tags, 1)), qt.Commentf(step.name))
		qt.Check(t, qt.HasLen(l.tags(), step.tags), qt.Commentf(step.name))
		qt.Check(t, qt.HasLen(l.blobs, 1+len(a.Blobs)), qt.Commentf(step.name))

		before := tree(t, f.path(repo))
		index := inode(t, f.path(repo, "index.json"))
		step.push()
		f.reopen()
		qt.Check(t, qt.DeepEquals(tree(t, f.path(repo)), before), qt.Commentf("%s twice", step.name))
		qt.Check(t, qt.IsTrue(os.SameFile(index, inode(t, f.path(repo, "index.json")))), qt.Commentf("%s twice", step.name))
	}
	wantTags(t, f, repo, "v1", "v2", "v3")
	wantArtifact(t, f, repo, a, "v1", "v2", "v3")
}

func TestPushManifest_SameUnderSeveralTagsIsOneManifest(t *testing.T) {
	t.Parallel()
	const repo = "app"
	onBackends(t, func(t *testing.T, r ociregistry.Interface) {
		a := image(1)
		must(t, r).MustPush(repo, a, "v1")
		for range 2 {
			for _, ref := range []string{"v1", "v2", "v3", "", string(a.Descriptor.Digest)} {
				desc, err := r.PushManifest(t.Context(), repo, ref, a.Manifest, a.Descriptor.MediaType)
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.DeepEquals(desc, a.Descriptor))
			}
		}
		wantTags(t, r, repo, "v1", "v2", "v3")
		wantArtifact(t, r, repo, a, "v1", "v2", "v3")
		qt.Assert(t, qt.IsNil(r.DeleteManifest(t.Context(), repo, a.Descriptor.Digest))) // there was only one
		wantNoManifest(t, r, repo, a.Descriptor.Digest)
		wantTags(t, r, repo)
	})
}

// Moving a tag keeps the manifest that it pointed at.
func TestPushManifest_MovesTagAndKeepsOldManifest(t *testing.T) {
	t.Parallel()
	const repo = "app"
	a, b := image(1), image(2)
	onBackends(t, func(t *testing.T, r ociregistry.Interface) {
		must(t, r).MustPush(repo, a, "latest", "v1")
		must(t, r).MustPush(repo, b, "latest")
		wantArtifact(t, r, repo, b, "latest")
		wantArtifact(t, r, repo, a, "v1")
		must(t, r).MustPush(repo, b, "v1")
		wantArtifact(t, r, repo, a)
		wantArtifact(t, r, repo, b, "latest", "v1")
		wantTags(t, r, repo, "latest", "v1")
	})
	for _, restart := range []bool{false, true} {
		f := newFixture(t, ocifs.Options{})
		must(t, f).MustPush(repo, a, "latest")
		if restart {
			f.reopen()
		}
		must(t, f).MustPush(repo, b, "latest")
		f.reopen()
		wantArtifact(t, f, repo, a)
		wantArtifact(t, f, repo, b, "latest")
		l := f.layout(repo)
		qt.Check(t, qt.DeepEquals(l.tags(), map[string]ociregistry.Digest{"latest": b.Descriptor.Digest}))
		qt.Check(t, qt.HasLen(l.entries, 2))
		qt.Check(t, qt.Equals(l.blobs[a.Descriptor.Digest], a.Descriptor.Size))
	}
}

// Manifests of all kinds are read byte for byte, with their media type.
func TestPushManifest_IsReadByteForByte(t *testing.T) {
	t.Parallel()
	const repo = "app"
	a := image(1)
	config, layer := mustJSON(t, a.Blobs[0].Descriptor), mustJSON(t, a.Blobs[1].Descriptor)
	docker := fmt.Sprintf("{\n   \"schemaVersion\": 2,\n   \"mediaType\": %q,\n   \"config\": %s,\n   \"layers\": [\n      %s\n   ]\n}", dockerManifest, config, layer)
	dockerDesc := describe([]byte(docker))
	dockerDesc.MediaType = dockerManifest
	manifests := []struct{ name, mediaType, contents string }{
		{"Docker", dockerManifest, docker},
		{"Docker without mediaType", dockerManifest, strings.Replace(docker, fmt.Sprintf("\n   \"mediaType\": %q,", dockerManifest), "", 1)},
		{"Docker list", dockerList, fmt.Sprintf("{\n   \"schemaVersion\": 2,\n   \"mediaType\": %q,\n   \"manifests\": [\n      %s\n   ]\n}\n", dockerList, mustJSON(t, dockerDesc))},
		{"empty Docker list", dockerList, `{"schemaVersion":2,"manifests":[ ]}`},
		{"ORAS", orasManifest, fmt.Sprintf(`{"mediaType":%q,"artifactType":"application/vnd.example","blobs":[%s],"subject":%s,"annotations":{"a":"b"}}`, orasManifest, layer, mustJSON(t, a.Descriptor))},
		{"OCI artifact", "application/vnd.oci.artifact.manifest.v1+json", fmt.Sprintf(`{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","artifactType":"x/y","blobs":[%s]}`, layer)},
		{"OCI without mediaType", ocispec.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[%s]}`, config, layer)},
		{"OCI index without mediaType", ocispec.MediaTypeImageIndex, `{"schemaVersion":2,"manifests":[]}`},
		{"OCI with spaces", ocispec.MediaTypeImageManifest, fmt.Sprintf(" \r\n\t{\"layers\" : [ ] , \"config\":%s,\"x\":1e400,\"y\":\"\\u00e9\\/<&>\"}\r\n ", config)},
		{"Docker schema 1", "application/vnd.docker.distribution.manifest.v1+prettyjws", `{"schemaVersion":1,"fsLayers":[{"blobSum":"sha256:abc"}]}`},
		{"text", "text/plain; charset=utf-8", "hello"},
		{"one byte", "text/x-one", "x"},
		{"zeros", "application/octet-stream", strings.Repeat("\x00", 1000)},
		{"not UTF-8", "application/x-binary", "\xff\xfe\x00\x01"},
		{"type with signs", `application/x-'signs'+&; a="<b>\c"`, "signs"},
		{"large", "application/vnd.example.large", string(data(9, 3<<20))},
		{"JSON of another type", "application/vnd.example+json", `{"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"digest":"none"}}`},
	}
	put := func(t *testing.T, r ociregistry.Interface) {
		t.Helper()
		must(t, r).MustPush(repo, a)
		for i, m := range manifests {
			desc, err := r.PushManifest(t.Context(), repo, fmt.Sprint("tag-", i), []byte(m.contents), m.mediaType)
			qt.Assert(t, qt.IsNil(err), qt.Commentf(m.name))
			qt.Check(t, qt.Equals(desc.MediaType, m.mediaType))
			sha512 := digest.SHA512.FromString(m.contents)
			_, err = r.PushManifest(t.Context(), repo, string(sha512), []byte(m.contents), m.mediaType)
			qt.Assert(t, qt.IsNil(err), qt.Commentf(m.name))
		}
	}
	check := func(t *testing.T, r ociregistry.Interface) {
		t.Helper()
		for i, m := range manifests {
			wantManifest(t, r, repo, []byte(m.contents), m.mediaType, fmt.Sprint("tag-", i))
			text, err := read(r.GetManifest(t.Context(), repo, digest.SHA512.FromString(m.contents)))
			qt.Check(t, qt.IsNil(err), qt.Commentf(m.name))
			qt.Check(t, qt.IsTrue(text == m.contents), qt.Commentf(m.name))
		}
	}
	onBackends(t, func(t *testing.T, r ociregistry.Interface) {
		put(t, r)
		check(t, r)
	})
	t.Run("on disk", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, ocifs.Options{})
		put(t, f)
		for range 2 {
			f.reopen()
			check(t, f)
			l := f.layout(repo)
			for i, m := range manifests {
				e := l.entry(l.tags()[fmt.Sprint("tag-", i)])
				qt.Check(t, qt.Equals(e.MediaType, m.mediaType))
				qt.Check(t, qt.Equals(e.Digest, digest.FromString(m.contents)))
			}
			must(t, f).MustPush(repo, image(99)) // so that index.json is written again
		}
	})
}

// Contents that do not state their media type have the one that was pushed last.
func TestPushManifest_LastMediaTypeWins(t *testing.T) {
	t.Parallel()
	const repo, contents = "app", `{"schemaVersion":2,"manifests":[]}`
	push := func(t *testing.T, r ociregistry.Interface, mediaType, tag string) {
		t.Helper()
		_, err := r.PushManifest(t.Context(), repo, tag, []byte(contents), mediaType)
		qt.Assert(t, qt.IsNil(err))
	}
	onBackends(t, func(t *testing.T, r ociregistry.Interface) {
		push(t, r, dockerList, "v1")
		push(t, r, ocispec.MediaTypeImageIndex, "v2")
		wantManifest(t, r, repo, []byte(contents), ocispec.MediaTypeImageIndex, "v1", "v2")
	})
	f := newFixture(t, ocifs.Options{})
	for i, mediaType := range []string{dockerList, ocispec.MediaTypeImageIndex, "application/vnd.example", dockerList} {
		push(t, f, mediaType, fmt.Sprint("v", i))
		for range 2 {
			wantManifest(t, f, repo, []byte(contents), mediaType, "v0", fmt.Sprint("v", i))
			f.reopen()
		}
		qt.Check(t, qt.HasLen(f.layout(repo).entries, i+1))
	}
}

// The tags of one push are set together, or not at all.
func TestPushManifest_SetsAllTagsOrNone(t *testing.T) {
	t.Parallel()
	const repo = "app"
	a, b := image(1), image(2)
	onBackends(t, func(t *testing.T, r ociregistry.Interface) {
		must(t, r).MustPush(repo, a, "old")
		must(t, r).MustPush(repo, b)
		push := func(ref string, tags ...string) error {
			_, err := r.PushManifest(t.Context(), repo, ref, b.Manifest, b.Descriptor.MediaType, tags...)
			return err
		}
		for _, tags := range [][]string{{"n1", "n2", "bad tag"}, {"bad tag", "n1"}, {"old", "n1", ""}, {"n1", strings.Repeat("x", 129)}, {"n1", string(b.Descriptor.Digest)}} {
			qt.Check(t, qt.ErrorIs(push("n0", tags...), error(ociregistry.ErrManifestInvalid)), qt.Commentf("%q", tags))
			qt.Check(t, qt.ErrorIs(push("", tags...), error(ociregistry.ErrManifestInvalid)), qt.Commentf("%q", tags))
			wantTags(t, r, repo, "old")
			wantArtifact(t, r, repo, a, "old")
		}
		ctx := ociregistry.WithPushCondition(t.Context(), ociregistry.PushCondition{IfNoneMatch: []ociregistry.Digest{ociregistry.AnyManifest}})
		_, err := r.PushManifest(ctx, repo, "old", b.Manifest, b.Descriptor.MediaType, "n1", "n2")
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrPreconditionFailed)))
		wantTags(t, r, repo, "old")

		qt.Assert(t, qt.IsNil(push("n1", "n2", "n3", "n2", "old")))
		wantTags(t, r, repo, "n1", "n2", "n3", "old")
		wantArtifact(t, r, repo, b, "n1", "n2", "n3", "old")
		qt.Assert(t, qt.IsNil(push(string(b.Descriptor.Digest), "n4", "n5")))
		wantTags(t, r, repo, "n1", "n2", "n3", "n4", "n5", "old")
	})
}

func TestPushManifest_SetsNoTagWhenOneIsImmutable(t *testing.T) {
	t.Parallel()
	const repo = "app"
	a, b := image(1), image(2)
	registries := []backend{
		{"ocifs", func(t testing.TB) ociregistry.Interface {
			return newFixture(t, ocifs.Options{ImmutableTags: true}).Registry
		}},
		{"ocifs reopened", func(t testing.TB) ociregistry.Interface {
			f := newFixture(t, ocifs.Options{ImmutableTags: true})
			must(t, f).MustPush(repo, a, "old")
			f.reopen()
			return f.Registry
		}},
		{"ocifs on a foreign layout", func(t testing.TB) ociregistry.Interface {
			f := newFixture(t, ocifs.Options{ImmutableTags: true})
			newForeign(t, f.path(repo), a).index(named(a.Descriptor, "docker.io/library/app:old"))
			return f.Registry
		}},
		{"ocimem", func(t testing.TB) ociregistry.Interface {
			return ocimem.NewWithConfig(&ocimem.Config{ImmutableTags: true})
		}},
	}
	for _, b2 := range registries {
		t.Run(b2.name, func(t *testing.T) {
			t.Parallel()
			r := b2.open(t)
			must(t, r).MustPush(repo, a, "old")
			must(t, r).MustPush(repo, b)
			for _, refs := range [][]string{{"old"}, {"n1", "old"}, {"n1", "n2", "old", "n3"}, {"old", "n1"}, {string(b.Descriptor.Digest), "n1", "old"}, {"", "n1", "old"}} {
				_, err := r.PushManifest(t.Context(), repo, refs[0], b.Manifest, b.Descriptor.MediaType, refs[1:]...)
				qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrDenied)), qt.Commentf("%q", refs))
				wantTags(t, r, repo, "old")
				wantArtifact(t, r, repo, a, "old")
			}
			// Nothing of a new manifest is stored either.
			_, err := r.PushManifest(t.Context(), repo, "n1", []byte("text"), "text/plain", "old")
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrDenied)))
			wantNoManifest(t, r, repo, digest.FromString("text"))
			wantTags(t, r, repo, "old")

			// A tag may be set again to the manifest that it points at.
			_, err = r.PushManifest(t.Context(), repo, "old", a.Manifest, a.Descriptor.MediaType, "n1", "n2")
			qt.Assert(t, qt.IsNil(err))
			wantTags(t, r, repo, "n1", "n2", "old")
		})
	}
}

// A reader that sees one tag of a push moved sees all of them moved.
func TestPushManifest_MovesAllTagsAtOnce(t *testing.T) {
	t.Parallel()
	const repo = "app"
	onBackends(t, func(t *testing.T, r ociregistry.Interface) {
		push := func(i int) error {
			_, err := r.PushManifest(t.Context(), repo, "t1", []byte(fmt.Sprintf("%06d", i)), "text/plain", "t2", "t3")
			return err
		}
		get := func(tag string) string {
			text, err := read(r.GetTag(t.Context(), repo, tag))
			qt.Assert(t, qt.IsNil(err))
			return text
		}
		qt.Assert(t, qt.IsNil(push(0)))
		done := make(chan error, 1)
		go func() {
			var err error
			for i := 1; i < 300 && err == nil; i++ {
				err = push(i)
			}
			done <- err
		}()
		for {
			for _, tags := range [][]string{{"t1", "t2", "t3"}, {"t3", "t2", "t1"}} {
				last := ""
				for _, tag := range tags {
					now := get(tag)
					qt.Assert(t, qt.IsTrue(last <= now), qt.Commentf("%s is at %s, others were at %s before", tag, now, last))
					last = now
				}
			}
			select {
			case err := <-done:
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.Equals(get("t2"), "000299"))
				return
			default:
			}
		}
	})
}
