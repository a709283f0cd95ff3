package interop

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// TestClient lets ociclient do everything with the registries that others have
// written, by each way to authenticate, and to reach them.
func TestClient(t *testing.T) {
	t.Parallel()
	for name, p := range peers {
		for _, scheme := range []authScheme{anonymous, basic, bearer} {
			for _, via := range []string{plainHTTP, overHTTP1, overHTTP2} {
				t.Run(fmt.Sprintf("%s/%s/%s", name, scheme, via), func(t *testing.T) {
					t.Parallel()
					s := openSite(t, p, scheme, via)
					for _, step := range steps {
						t.Run(step.name, func(t *testing.T) {
							u := &usage{T: t, site: s, peer: p}
							u.reg = s.client(t, ociclient.Options{ChunkSize: 1 << 20, ListPageSize: 3})
							step.run(u)
						})
					}
					want := "HTTP/1.1"
					if via == overHTTP2 {
						want = "HTTP/2.0"
					}
					qt.Check(t, qt.DeepEquals(s.protos, map[string]bool{want: true}))
				})
			}
		}
	}
}

// usage is a step in the use of a registry.
type usage struct {
	*testing.T
	site *site
	peer peer
	reg  ociregistry.Interface
}

var steps = []struct {
	name string
	run  func(*usage)
}{
	{"push and pull", pushAndPull},
	{"ranges", readRanges},
	{"chunks", pushChunks},
	{"resume", resumeUpload},
	{"wrong content", pushWrongContent},
	{"mount", mountBlob},
	{"tags", pushTags},
	{"lists", listTags},
	{"referrers", findReferrers},
	{"delete", deleteAll},
	{"errors", notFound},
	{"wrong password", wrongPassword},
	{"unknown authority", unknownAuthority},
}

func (u *usage) registry() ocitest.Registry { return ocitest.NewRegistry(u, u.reg) }

// pushBlob pushes some content.
func (u *usage) pushBlob(repo, content string) ociregistry.Descriptor {
	return u.registry().MustPushBlob(repo, []byte(content))
}

// checkBlob checks that a blob has some content.
func (u *usage) checkBlob(repo string, content []byte) {
	u.Helper()
	r, err := u.reg.GetBlob(u.Context(), repo, digest.FromBytes(content))
	qt.Assert(u, qt.IsNil(err))
	ocitest.CheckContent(u, r, content, "")
}

func pushAndPull(u *usage) {
	image := ocitest.NewImage(ocitest.Spec{Layers: []int64{0, 1, 100_000, 3 << 20}})
	other := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{10}})
	index := ocitest.NewIndex(ocitest.Spec{}, image, other)
	u.registry().MustPush("a/b", index, "v1")
	qt.Check(u, qt.IsNil(index.Verify(u.Context(), u.reg, "a/b")))
	u.checkManifest("a/b", "v1", index)
	u.registry().MustPush("a/b", index, "v1") // all of it is there
	for _, a := range []*ocitest.Artifact{image, index} {
		desc, err := u.reg.ResolveManifest(u.Context(), "a/b", a.Descriptor.Digest)
		qt.Assert(u, qt.IsNil(err))
		qt.Check(u, qt.Equals(desc.MediaType, a.Descriptor.MediaType))
		qt.Check(u, qt.Equals(desc.Size, a.Descriptor.Size))
	}
	for _, b := range image.Blobs {
		desc, err := u.reg.ResolveBlob(u.Context(), "a/b", b.Descriptor.Digest)
		qt.Assert(u, qt.IsNil(err))
		qt.Check(u, qt.Equals(desc.Size, b.Descriptor.Size))
	}
}

// checkManifest checks that a tag points at a manifest.
func (u *usage) checkManifest(repo, tag string, a *ocitest.Artifact) {
	u.Helper()
	r, err := u.reg.GetTag(u.Context(), repo, tag)
	qt.Assert(u, qt.IsNil(err))
	ocitest.CheckContent(u, r, a.Manifest, a.Descriptor.MediaType)
	desc, err := u.reg.ResolveTag(u.Context(), repo, tag)
	qt.Assert(u, qt.IsNil(err))
	qt.Check(u, qt.Equals(desc.Digest, a.Descriptor.Digest))
}

func readRanges(u *usage) {
	content := "0123456789"
	desc := u.pushBlob("ranges", content)
	for _, test := range []struct {
		from, to int64
		want     string
	}{{0, 4, "0123"}, {3, 7, "3456"}, {7, -1, "789"}, {0, -1, content}, {8, 100, "89"}, {10, -1, ""}, {5, 5, ""}} {
		r, err := u.reg.GetBlobRange(u.Context(), "ranges", desc.Digest, test.from, test.to)
		qt.Assert(u, qt.IsNil(err), qt.Commentf("%+v", test))
		got, err := io.ReadAll(r)
		r.Close()
		qt.Check(u, qt.IsNil(err))
		qt.Check(u, qt.Equals(string(got), test.want), qt.Commentf("%+v", test))
	}
	r, err := u.reg.GetBlob(u.Context(), "ranges", desc.Digest)
	qt.Assert(u, qt.IsNil(err))
	defer r.Close()
	if s, ok := r.(io.Seeker); ok {
		_, err = s.Seek(6, io.SeekStart)
		qt.Assert(u, qt.IsNil(err))
		rest, err := io.ReadAll(r)
		qt.Check(u, qt.IsNil(err))
		qt.Check(u, qt.Equals(string(rest), content[6:]))
	}

	// Several requests at once make one blob.
	large := bytes.Repeat([]byte(content), 300_000)
	u.registry().MustPushBlob("ranges", large)
	u.reg = u.site.client(u.T, ociclient.Options{Parallel: ociclient.Parallel{Concurrency: 3, PartSize: 1 << 20}})
	u.checkBlob("ranges", large)
	u.checkBlob("ranges", []byte(content))
}

func pushChunks(u *usage) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 200_000) // more than three chunks
	desc := ociregistry.Descriptor{Digest: digest.FromBytes(content), Size: int64(len(content))}
	_, err := u.reg.PushBlob(u.Context(), "streamed", desc, io.MultiReader(bytes.NewReader(content)))
	qt.Assert(u, qt.IsNil(err))
	u.checkBlob("streamed", content)

	w, err := u.reg.PushBlobChunked(u.Context(), "written", 1<<20)
	qt.Assert(u, qt.IsNil(err))
	for part := range slices.Chunk(content, 700_000) {
		_, err := w.Write(part)
		qt.Assert(u, qt.IsNil(err))
	}
	qt.Check(u, qt.Equals(w.Size(), desc.Size))
	_, err = w.Commit(desc.Digest)
	qt.Assert(u, qt.IsNil(err))
	u.checkBlob("written", content)

	w, err = u.reg.PushBlobChunked(u.Context(), "cancelled", 0)
	qt.Assert(u, qt.IsNil(err))
	_, err = w.Write(content)
	qt.Assert(u, qt.IsNil(err))
	err = w.Cancel()
	if u.peer.lacks[cancelUpload] {
		qt.Check(u, qt.IsNotNil(err))
		return
	}
	qt.Check(u, qt.IsNil(err))
	_, err = u.reg.PushBlobChunkedResume(u.Context(), "cancelled", w.ID(), -1, 0)
	qt.Check(u, qt.ErrorIs(err, ociregistry.ErrBlobUploadUnknown))
}

// resumeUpload writes each part of a blob with another client.
func resumeUpload(u *usage) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	w, err := u.reg.PushBlobChunked(u.Context(), "resumed", 0)
	qt.Assert(u, qt.IsNil(err))
	for rest := content; ; {
		n, err := w.Write(rest[:min(len(rest), 1_200_000)])
		qt.Assert(u, qt.IsNil(err))
		rest = rest[n:]
		if len(rest) == 0 {
			break
		}
		qt.Assert(u, qt.IsNil(w.Close()))
		reg := u.site.client(u.T, ociclient.Options{})
		if !u.peer.lacks[askUpload] {
			asked, err := reg.PushBlobChunkedResume(u.Context(), "resumed", w.ID(), -1, 0)
			qt.Assert(u, qt.IsNil(err))
			qt.Check(u, qt.Equals(asked.Size(), w.Size()))
			qt.Assert(u, qt.IsNil(asked.Close()))
		}
		w, err = reg.PushBlobChunkedResume(u.Context(), "resumed", w.ID(), w.Size(), 0)
		qt.Assert(u, qt.IsNil(err))
	}
	_, err = w.Commit(digest.FromBytes(content))
	qt.Assert(u, qt.IsNil(err))
	u.checkBlob("resumed", content)
}

func pushWrongContent(u *usage) {
	content := []byte("some content")
	other := digest.FromString("other content")
	_, err := u.reg.PushBlob(u.Context(), "wrong", ociregistry.Descriptor{Digest: other, Size: int64(len(content))}, bytes.NewReader(content))
	qt.Check(u, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
	w, err := u.reg.PushBlobChunked(u.Context(), "wrong", 0)
	qt.Assert(u, qt.IsNil(err))
	_, err = w.Write(content)
	qt.Assert(u, qt.IsNil(err))
	_, err = w.Commit(other) // here only the registry can know
	qt.Check(u, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
	_, err = u.reg.ResolveBlob(u.Context(), "wrong", other)
	qt.Check(u, qt.ErrorIs(err, ociregistry.ErrBlobUnknown))
}

func mountBlob(u *usage) {
	desc := u.pushBlob("mount/from", "to be mounted")
	if u.site.tokens != nil {
		u.site.tokens.given()
	}
	_, err := u.reg.MountBlob(u.Context(), "mount/from", "mount/to", desc.Digest)
	if u.site.tokens != nil {
		scopes := u.site.tokens.given()
		qt.Assert(u, qt.HasLen(scopes, 1))
		qt.Check(u, qt.Equals(scopes[0], "repository:mount/from:pull repository:mount/to:pull,push"))
	}
	if u.peer.lacks[mountBlobs] {
		qt.Check(u, qt.ErrorIs(err, ociregistry.ErrUnsupported))
	} else {
		qt.Assert(u, qt.IsNil(err))
		u.checkBlob("mount/to", []byte("to be mounted"))
	}
	// A push goes on as an upload where it cannot mount.
	u.reg = u.site.client(u.T, ociclient.Options{MountFrom: []string{"mount/from"}})
	u.pushBlob("mount/pushed", "to be mounted")
	u.pushBlob("mount/pushed", "not there to be mounted")
	u.checkBlob("mount/pushed", []byte("to be mounted"))
	u.checkBlob("mount/pushed", []byte("not there to be mounted"))
}

func pushTags(u *usage) {
	image := ocitest.NewImage(ocitest.Spec{Layers: []int64{100}})
	other := ocitest.NewImage(ocitest.Spec{Layers: []int64{100}, Seed: 1})
	u.registry().MustPush("tags", image, "v1", "v2", "v3")
	for _, tag := range []string{"v1", "v2", "v3"} {
		u.checkManifest("tags", tag, image)
	}
	u.registry().MustPush("tags", other, "v2")
	u.checkManifest("tags", "v2", other)
	u.checkManifest("tags", "v3", image)
	_, err := u.reg.PushManifest(u.Context(), "tags", "v4", image.Manifest, image.Descriptor.MediaType, "v5")
	qt.Assert(u, qt.IsNil(err))
	u.checkManifest("tags", "v4", image)
	u.checkManifest("tags", "v5", image)
}

func listTags(u *usage) {
	image := ocitest.NewImage(ocitest.Spec{})
	var want []string
	for i := range 10 {
		want = append(want, fmt.Sprintf("tag%d", i))
	}
	u.registry().MustPush("lists", image, want...)
	got, err := ociregistry.All(u.reg.Tags(u.Context(), "lists", ""))
	qt.Assert(u, qt.IsNil(err))
	qt.Check(u, qt.DeepEquals(got, want))
	got, err = ociregistry.All(u.reg.Tags(u.Context(), "lists", "tag4"))
	qt.Assert(u, qt.IsNil(err))
	qt.Check(u, qt.DeepEquals(got, want[5:]))

	for _, repo := range []string{"zz/1", "zz/2", "zz/3", "zz/4", "zz/5"} {
		u.registry().MustPush(repo, image, "v1")
	}
	if u.peer.lacks[pageCatalog] {
		u.reg = u.site.client(u.T, ociclient.Options{})
	}
	got, err = ociregistry.All(u.reg.Repositories(u.Context(), "zz/1"))
	qt.Assert(u, qt.IsNil(err))
	qt.Check(u, qt.DeepEquals(got, []string{"zz/2", "zz/3", "zz/4", "zz/5"}))
}

func findReferrers(u *usage) {
	image := ocitest.NewImage(ocitest.Spec{Layers: []int64{100}})
	u.registry().MustPush("referrers", image, "v1")
	referrers := func(reg ociregistry.Interface, artifactType string) (got []ociregistry.Digest) {
		u.Helper()
		for desc, err := range reg.Referrers(u.Context(), "referrers", image.Descriptor.Digest, artifactType) {
			qt.Assert(u, qt.IsNil(err))
			got = append(got, desc.Digest)
		}
		slices.Sort(got)
		return got
	}
	qt.Check(u, qt.HasLen(referrers(u.reg, ""), 0))
	var all []ociregistry.Digest
	for i, artifactType := range []string{"application/vnd.example.sbom", "application/vnd.example.signature", "application/vnd.example.sbom"} {
		a := ocitest.NewImage(ocitest.Spec{Seed: uint64(i), Layers: []int64{10}, ArtifactType: artifactType, Subject: &image.Descriptor})
		u.registry().MustPush("referrers", a)
		all = append(all, a.Descriptor.Digest)
	}
	sorted := slices.Sorted(slices.Values(all))
	qt.Check(u, qt.DeepEquals(referrers(u.reg, ""), sorted))
	qt.Check(u, qt.DeepEquals(referrers(u.reg, "application/vnd.example.signature"), all[1:2]))
	qt.Check(u, qt.DeepEquals(referrers(u.site.client(u.T, ociclient.Options{}), ""), sorted))
	qt.Check(u, qt.HasLen(referrers(u.reg, "application/vnd.example.other"), 0))
	qt.Check(u, qt.Equals(u.hasReferrersTag(image), u.peer.lacks[referrersAPI]))

	qt.Assert(u, qt.IsNil(u.reg.DeleteManifest(u.Context(), "referrers", all[1])))
	qt.Check(u, qt.DeepEquals(referrers(u.reg, ""), slices.Sorted(slices.Values([]ociregistry.Digest{all[0], all[2]}))))
	qt.Check(u, qt.HasLen(referrers(u.reg, "application/vnd.example.signature"), 0))
}

// hasReferrersTag reports whether there is the tag that stands in for the
// referrers API.
func (u *usage) hasReferrersTag(a *ocitest.Artifact) bool {
	d := a.Descriptor.Digest
	_, err := u.reg.ResolveTag(u.Context(), "referrers", d.Algorithm().String()+"-"+d.Encoded())
	return err == nil
}

func deleteAll(u *usage) {
	image := ocitest.NewImage(ocitest.Spec{Layers: []int64{123}})
	u.registry().MustPush("delete", image, "v1", "v2")
	qt.Assert(u, qt.IsNil(u.reg.DeleteTag(u.Context(), "delete", "v1")))
	_, err := u.reg.ResolveTag(u.Context(), "delete", "v1")
	qt.Check(u, qt.ErrorIs(err, ociregistry.ErrManifestUnknown))
	u.checkManifest("delete", "v2", image)

	qt.Assert(u, qt.IsNil(u.reg.DeleteManifest(u.Context(), "delete", image.Descriptor.Digest)))
	_, err = u.reg.GetManifest(u.Context(), "delete", image.Descriptor.Digest)
	qt.Check(u, qt.ErrorIs(err, ociregistry.ErrManifestUnknown))
	if !u.peer.lacks[dropTags] {
		_, err = u.reg.GetTag(u.Context(), "delete", "v2")
		qt.Check(u, qt.ErrorIs(err, ociregistry.ErrManifestUnknown))
	}

	layer := image.Blobs[1].Descriptor.Digest
	qt.Assert(u, qt.IsNil(u.reg.DeleteBlob(u.Context(), "delete", layer)))
	_, err = u.reg.GetBlob(u.Context(), "delete", layer)
	qt.Check(u, qt.ErrorIs(err, ociregistry.ErrBlobUnknown))
}

func notFound(u *usage) {
	u.registry().MustPush("errors", ocitest.NewImage(ocitest.Spec{}), "v1")
	ctx, unknown := u.Context(), digest.FromString("unknown")
	tests := []struct {
		what string
		call func() error
		want error
	}{
		{"GetBlob", func() error { _, err := u.reg.GetBlob(ctx, "errors", unknown); return err }, ociregistry.ErrBlobUnknown},
		{"GetBlobRange", func() error { _, err := u.reg.GetBlobRange(ctx, "errors", unknown, 1, 2); return err }, ociregistry.ErrBlobUnknown},
		{"ResolveBlob", func() error { _, err := u.reg.ResolveBlob(ctx, "errors", unknown); return err }, ociregistry.ErrBlobUnknown},
		{"GetManifest", func() error { _, err := u.reg.GetManifest(ctx, "errors", unknown); return err }, ociregistry.ErrManifestUnknown},
		{"ResolveManifest", func() error { _, err := u.reg.ResolveManifest(ctx, "errors", unknown); return err }, ociregistry.ErrManifestUnknown},
		{"GetTag", func() error { _, err := u.reg.GetTag(ctx, "errors", "v2"); return err }, ociregistry.ErrManifestUnknown},
		{"ResolveTag", func() error { _, err := u.reg.ResolveTag(ctx, "errors", "v2"); return err }, ociregistry.ErrManifestUnknown},
		{"DeleteManifest", func() error { return u.reg.DeleteManifest(ctx, "errors", unknown) }, ociregistry.ErrManifestUnknown},
		{"DeleteTag", func() error { return u.reg.DeleteTag(ctx, "errors", "v2") }, ociregistry.ErrManifestUnknown},
		{"Tags", func() error { _, err := ociregistry.All(u.reg.Tags(ctx, "errors/none", "")); return err }, ociregistry.ErrNameUnknown},
	}
	if !u.peer.lacks[blobErrors] {
		tests = append(tests, tests[0])
		last := &tests[len(tests)-1]
		last.what, last.call = "DeleteBlob", func() error { return u.reg.DeleteBlob(ctx, "errors", unknown) }
	}
	for _, test := range tests {
		qt.Check(u, qt.ErrorIs(test.call(), test.want), qt.Commentf("%s", test.what))
	}
}

func wrongPassword(u *usage) {
	for _, reg := range []ociregistry.Interface{
		u.site.clientAs(u.T, user, "guessed", ociclient.Options{}),
		u.site.clientAs(u.T, "them", password, ociclient.Options{}),
	} {
		_, err := reg.ResolveTag(u.Context(), "errors", "v1")
		if u.site.tokens == nil && err == nil {
			continue // nobody asked
		}
		qt.Check(u, qt.ErrorIs(err, ociregistry.ErrUnauthorized))
		qt.Check(u, qt.Not(qt.StringContains(err.Error(), "guessed")))
	}
}

// unknownAuthority checks that certificates are checked, and that it does not take
// several tries to find one to be wrong.
func unknownAuthority(u *usage) {
	if u.site.roots == nil {
		u.Skip("there is no TLS")
	}
	other := &site{host: u.site.host, via: u.site.via, roots: x509.NewCertPool()}
	reg := other.client(u.T, ociclient.Options{Retry: ociclient.RetryPolicy{Wait: time.Hour, MaxWait: time.Hour}})
	ctx, cancel := context.WithTimeout(u.Context(), patience)
	defer cancel()
	_, err := reg.ResolveTag(ctx, "errors", "v1")
	qt.Check(u, qt.ErrorAs(err, new(x509.UnknownAuthorityError)))
}
