package ocicopy

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// cached returns a media type under which a cache can keep a manifest without its blobs.
func cached(mediaType string) string {
	return `application/vnd.ociunify.cached; type="` + mediaType + `"`
}

// mustKeep pushes only a manifest, like a cache that was asked for nothing else.
func mustKeep(t testing.TB, r ociregistry.Interface, repo string, a *ocitest.Artifact, mediaType string, tags ...string) {
	t.Helper()
	ctx := ociregistry.AllowMissing(t.Context())
	_, err := r.PushManifest(ctx, repo, string(a.Descriptor.Digest), a.Manifest, mediaType, tags...)
	qt.Assert(t, qt.IsNil(err))
}

// If a cache keeps only a manifest, the mirror copies the rest.
func TestMirror_CompletesWhatACacheKept(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		app := image(1)
		mustPush(t, src, "a", app, "v1")
		mustKeep(t, dst, "a", app, cached(app.Descriptor.MediaType), "v1")
		m := mustMirror(t, dst, nil, hub(src, Rule{Repositories: "a"}))
		qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Updated: 1}))
		mustHave(t, dst, "a", app)
		desc, err := dst.ResolveTag(t.Context(), "a", "v1")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(desc.MediaType, app.Descriptor.MediaType))
		qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Same: 1}))
	})
}

// A cache can keep a manifest under its own media type in a registry that allows missing
// content, and delete content later.
func TestMirror_CompletesWhatIsThereInPart(t *testing.T) {
	t.Parallel()
	for name, dst := range map[string]ociregistry.Interface{"memory": newMem(t), "directory": newFS(t)} {
		src := newMem(t)
		index := newPlatforms(1, amd64, arm64)
		mustPush(t, src, "a", index, "v1")
		mustKeep(t, dst, "a", index, index.Descriptor.MediaType, "v1")
		mustKeep(t, dst, "a", index.Children[0], index.Children[0].Descriptor.MediaType)
		layer := index.Children[0].Blobs[1]
		_, err := dst.PushBlob(t.Context(), "a", layer.Descriptor, layer.NewReader())
		qt.Assert(t, qt.IsNil(err))
		m := mustMirror(t, dst, nil, hub(src, Rule{Repositories: "a"}))
		qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Updated: 1}), qt.Commentf("%s", name))
		mustHave(t, dst, "a", index)
		qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Same: 1}))

		inUse := ociregistry.AllowInUse(t.Context())
		qt.Assert(t, qt.IsNil(dst.DeleteBlob(inUse, "a", layer.Descriptor.Digest)))
		qt.Assert(t, qt.IsNil(dst.DeleteManifest(inUse, "a", index.Children[1].Descriptor.Digest)))
		qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Updated: 1}))
		mustHave(t, dst, "a", index)
	}
}

// It does not matter how the content was found: by a tag, a digest, an index or a list of
// referrers. A client may return the type in the content where the registry has a generic
// one, so that the stored type looks right.
func TestCopy_RestoresMediaTypes(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		index, extras := signedIndex(t, src, "a", "v1")
		all := append([]*ocitest.Artifact{index, index.Children[0], index.Children[1]}, extras...)
		opts := &Options{Referrers: true, CosignTags: true}
		for _, ref := range []string{"v1", string(index.Descriptor.Digest)} {
			for _, mediaType := range []string{cached(ocispec.MediaTypeImageManifest), "application/octet-stream", "text/html"} {
				repo := "b" + digest.FromString(ref + mediaType).Encoded()[:8]
				for _, a := range all {
					mustKeep(t, dst, repo, a, mediaType)
				}
				mustKeep(t, dst, repo, index, mediaType, "v1")
				wrong := len(all)
				if desc, err := dst.ResolveTag(t.Context(), repo, "v1"); desc.MediaType == index.Descriptor.MediaType {
					qt.Assert(t, qt.IsNil(err))
					qt.Assert(t, qt.StringContains(t.Name(), "to_client"))
					qt.Assert(t, qt.Not(qt.StringContains(mediaType, "cached")))
					wrong = 0
				}
				from, to := Place{src, "a", ref}, Place{dst, repo, "v1"}
				result := mustCopy(t, to, from, opts)
				n, _ := result.Count(Manifest, Copied)
				qt.Check(t, qt.Equals(n, wrong))
				for _, a := range all {
					mustHave(t, dst, repo, a)
				}
				qt.Check(t, qt.IsTrue(mustCopy(t, to, from, opts).Unchanged()))
			}
		}
	})
}

// For media types that this package does not know, that of the source is right.
func TestCopy_RestoresUnknownMediaTypes(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		const mediaType = "application/vnd.example.thing"
		content := []byte("a thing")
		desc, err := src.PushManifest(t.Context(), "a", "v1", content, mediaType)
		qt.Assert(t, qt.IsNil(err))
		for _, ref := range []string{"v1", string(desc.Digest)} {
			_, err = dst.PushManifest(t.Context(), "b", "v1", content, cached(mediaType))
			qt.Assert(t, qt.IsNil(err))
			from, to := Place{src, "a", ref}, Place{dst, "b", "v1"}
			qt.Check(t, qt.IsFalse(mustCopy(t, to, from, nil).Unchanged()))
			got, err := dst.GetTag(t.Context(), "b", "v1")
			qt.Assert(t, qt.IsNil(err))
			ocitest.CheckContent(t, got, content, mediaType)
			qt.Check(t, qt.IsTrue(mustCopy(t, to, from, nil).Unchanged()))
		}
	})
}

// sized makes a registry return another size for its content.
func sized(s *spy, size func(ociregistry.Descriptor) int64) {
	f := s.Interface.(*ociregistry.Funcs)
	resolveTag, resolveManifest, resolveBlob := f.ResolveTag_, f.ResolveManifest_, f.ResolveBlob_
	lie := func(desc ociregistry.Descriptor, err error) (ociregistry.Descriptor, error) {
		desc.Size = size(desc)
		return desc, err
	}
	f.ResolveTag_ = func(ctx context.Context, repo, tag string) (ociregistry.Descriptor, error) {
		return lie(resolveTag(ctx, repo, tag))
	}
	f.ResolveManifest_ = func(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
		return lie(resolveManifest(ctx, repo, d))
	}
	f.ResolveBlob_ = func(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
		return lie(resolveBlob(ctx, repo, d))
	}
}

// Unknown sizes at either registry change neither what is copied nor the result.
func TestCopy_NeedsNoKnownSizes(t *testing.T) {
	t.Parallel()
	for _, unknown := range []int64{0, -1} {
		src, dst := newSpy(newMem(t)), newSpy(newMem(t))
		index, _ := signedIndex(t, src, "a", "v1")
		for _, s := range []*spy{src, dst} {
			sized(s, func(ociregistry.Descriptor) int64 { return unknown })
		}
		var last Progress
		opts := &Options{Referrers: true, CosignTags: true, Progress: func(p Progress) { last = p }}
		result := mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, opts)
		qt.Check(t, qt.Equals(result.Descriptor.Size, index.Descriptor.Size))
		for _, trust := range []bool{false, true} {
			opts.TrustDestination = trust
			result = mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, opts)
			qt.Check(t, qt.IsTrue(result.Unchanged()))
			qt.Check(t, qt.Equals(result.Descriptor.Size, index.Descriptor.Size))
			qt.Check(t, qt.Equals(last.BytesDone, last.BytesTotal))
			for _, item := range result.Items {
				qt.Check(t, qt.IsTrue(item.Descriptor.Size > 0))
			}
		}
	}
}

// An incomplete blob at the destination counts as missing.
func TestCopy_CopiesABlobOfAnotherSizeAgain(t *testing.T) {
	t.Parallel()
	src, dst := newSpy(newMem(t)), newSpy(newMem(t))
	app := image(1)
	mustPush(t, src, "a", app, "v1")
	mustPush(t, dst, "a", app, "v1")
	layer := app.Blobs[1].Descriptor
	sized(dst, func(desc ociregistry.Descriptor) int64 {
		if desc.Digest == layer.Digest {
			return desc.Size - 1
		}
		return desc.Size
	})
	result := mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, nil)
	n, bytes := result.Count(Blob, Copied)
	qt.Check(t, qt.Equals(n, 1))
	qt.Check(t, qt.Equals(bytes, layer.Size))
}

// A manifest that is damaged at the destination is read from the source, and
// pushed again.
func TestCopy_RepairsADamagedManifest(t *testing.T) {
	t.Parallel()
	for _, damage := range []string{"", "{", strings.Repeat("x", 1000)} {
		src, dst := newSpy(newMem(t)), newSpy(newMem(t))
		mustPush(t, src, "a", image(1), "v1")
		mustPush(t, dst, "a", image(1), "v1")
		f := dst.Interface.(*ociregistry.Funcs)
		f.GetManifest_ = func(context.Context, string, ociregistry.Digest) (ociregistry.BlobReader, error) {
			return newBytesReader([]byte(damage), image(1).Descriptor), nil
		}
		dst.take()
		result := mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, nil)
		n, _ := result.Count(Manifest, Copied)
		qt.Check(t, qt.Equals(n, 1))
		qt.Check(t, qt.DeepEquals(dst.pushes(), []string{"PushManifest " + string(image(1).Descriptor.Digest)}))
	}
}

// A failure of the destination does not mean that content is missing.
func TestCopy_RepeatedFailsWithTheDestination(t *testing.T) {
	t.Parallel()
	src, dst := newSpy(newMem(t)), newSpy(newMem(t))
	mustPush(t, src, "a", image(1), "v1")
	mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, nil)
	broken := errors.New("broken")
	for _, method := range []string{"ResolveTag", "GetManifest", "ResolveBlob"} {
		dst.before = func(_ context.Context, m, _, _ string) error {
			if m == method {
				return broken
			}
			return nil
		}
		src.take()
		_, err := Copy(t.Context(), Place{dst, "a", ""}, Place{src, "a", "v1"}, &Options{SkipBrokenReferrers: true})
		qt.Check(t, qt.ErrorIs(err, broken))
		qt.Check(t, qt.ErrorMatches(err, ".*at the destination.*"))
		qt.Check(t, qt.IsFalse(strings.Contains(src.take(), "GetBlob")))
	}
}

// A pass asks once for a blob of several images. The next pass asks again.
func TestMirror_AsksOnceForEachBlobOfAPass(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		for i := range 5 {
			mustPush(t, src, "a", based(i), string(rune('a'+i)))
		}
		m := mustMirror(t, dst, &MirrorOptions{ImageConcurrency: 1}, hub(src, Rule{Repositories: "a"}))
		mustPass(t, m)
		for range 2 {
			dst.take()
			qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Same: 5}))
			qt.Check(t, qt.Equals(dst.take(), "GetManifest 5, ResolveBlob 3, ResolveTag 5"))
		}
	})
}

// A blob is confirmed only with its size.
func TestMirror_ConfirmsBlobsWithTheirSize(t *testing.T) {
	t.Parallel()
	dst := newSpy(newMem(t))
	right := image(1)
	mustPush(t, dst, "a", right)
	c := newCopier(Place{dst, "a", "v1"}, Place{newMem(t), "a", "v1"}, false, &Options{inner: inner{confirmed: new(confirmed)}})
	b := &blob{ref: manifest.Ref{Digest: right.Blobs[0].Descriptor.Digest, Size: right.Blobs[0].Descriptor.Size}}
	qt.Assert(t, qt.IsNil(c.blob(t.Context(), b)))
	qt.Check(t, qt.Equals(b.item.Action, Present))
	dst.take()
	there, err := c.has(t.Context(), b)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(there))
	qt.Check(t, qt.Equals(dst.take(), ""))
	b.ref.Size++
	there, err = c.has(t.Context(), b)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(there))
}

func TestConfirmed_IsBounded(t *testing.T) {
	t.Parallel()
	var c confirmed
	for i := range 2*maxConfirmed + 1 {
		key := confirmedKey{"a", ociregistry.Digest(strconv.Itoa(i)), 1}
		c.add(key)
		qt.Assert(t, qt.IsTrue(len(c.blobs) <= maxConfirmed && c.has(key)))
	}
	c.add(confirmedKey{"b", "x", 1})
	qt.Check(t, qt.IsFalse(c.has(confirmedKey{"a", "x", 1})))
	var none *confirmed
	none.add(confirmedKey{"a", "x", 1})
	qt.Check(t, qt.IsFalse(none.has(confirmedKey{"a", "x", 1})))
}
