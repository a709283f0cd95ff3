package ocicopy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// cached returns the media type under which a cache can keep a manifest whose
// blobs it does not have.
func cached(mediaType string) string {
	return `application/vnd.ociunify.cached; type="` + mediaType + `"`
}

// mustKeep pushes a manifest alone, as a cache does that was asked for no more.
func mustKeep(t testing.TB, r ociregistry.Interface, repo string, a *ocitest.Artifact, mediaType string, tags ...string) {
	t.Helper()
	ctx := ociregistry.AllowMissing(t.Context())
	_, err := r.PushManifest(ctx, repo, string(a.Descriptor.Digest), a.Manifest, mediaType, tags...)
	qt.Assert(t, qt.IsNil(err))
}

// A cache was asked for a manifest and no more: the mirror brings the rest.
func TestMirrorCompletesWhatACacheKept(t *testing.T) {
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

// A cache can keep a manifest under its own media type, where the registry allows
// that content is missing, and let go of content later.
func TestMirrorCompletesWhatIsThereInPart(t *testing.T) {
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

// What names the content does not matter: a tag, a digest, an index or a list of
// referrers. A client tells the content's own type where its registry has a vague one:
// that looks right from here.
func TestCopyRestoresMediaTypes(t *testing.T) {
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

// Of media types that this package does not know, the source says which it is.
func TestCopyRestoresUnknownMediaTypes(t *testing.T) {
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

// A source that is generic about media types does not spoil a destination that is
// right about them.
func TestGenericMediaTypeOfTheSourceYields(t *testing.T) {
	t.Parallel()
	docker := ocitest.NewBlob(7, 20)
	list := []byte(`{"schemaVersion":2,"mediaType":"` + manifest.MediaTypeDockerManifestList + `","manifests":[]}`)
	bare := []byte(`{"schemaVersion":2,"manifests":[]}`)
	for _, test := range []struct {
		contents   []byte
		served     string
		want       string
		atTheStart string // what the destination has it under; empty if it has not
	}{
		{list, "application/json", manifest.MediaTypeDockerManifestList, ""},
		{list, "application/json", manifest.MediaTypeDockerManifestList, manifest.MediaTypeDockerManifestList},
		{list, ocispec.MediaTypeImageIndex, manifest.MediaTypeDockerManifestList, ""},
		{list, manifest.MediaTypeDockerManifestList + "; charset=utf-8", manifest.MediaTypeDockerManifestList, ""},
		{bare, "text/plain", ocispec.MediaTypeImageIndex, ""},
		{bare, "application/octet-stream", manifest.MediaTypeDockerManifestList, manifest.MediaTypeDockerManifestList},
	} {
		src, dst := newSpy(newMem(t)), newSpy(newMem(t))
		mustPush(t, src, "a", &ocitest.Artifact{Manifest: []byte("x"), Blobs: []ocitest.Blob{docker},
			Descriptor: ociregistry.Descriptor{MediaType: "application/x", Digest: digest.FromString("x"), Size: 1}})
		desc := ociregistry.Descriptor{MediaType: test.served, Digest: digest.FromBytes(test.contents), Size: int64(len(test.contents))}
		serves(src, test.contents, desc)
		if test.atTheStart != "" {
			_, err := dst.PushManifest(t.Context(), "a", "v1", test.contents, test.atTheStart)
			qt.Assert(t, qt.IsNil(err))
		}
		result := mustCopy(t, Place{dst, "a", "v1"}, Place{src, "a", "v1"}, nil)
		qt.Check(t, qt.Equals(result.Descriptor.MediaType, test.want))
		qt.Check(t, qt.Equals(result.Unchanged(), test.atTheStart != ""), qt.Commentf("%+v", test))
		there, err := dst.ResolveTag(t.Context(), "a", "v1")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(there.MediaType, test.want))
	}
}

// serves makes s answer every request for a manifest in one way.
func serves(s *spy, contents []byte, desc ociregistry.Descriptor) {
	f := s.Interface.(*ociregistry.Funcs)
	f.ResolveTag_ = func(context.Context, string, string) (ociregistry.Descriptor, error) { return desc, nil }
	f.ResolveManifest_ = func(context.Context, string, ociregistry.Digest) (ociregistry.Descriptor, error) { return desc, nil }
	f.GetTag_ = func(context.Context, string, string) (ociregistry.BlobReader, error) {
		return newBytesReader(contents, desc), nil
	}
	f.GetManifest_ = func(context.Context, string, ociregistry.Digest) (ociregistry.BlobReader, error) {
		return newBytesReader(contents, desc), nil
	}
}

// A tag that moved at the source to what is no manifest stays where it is at the
// destination, and none is made there.
func TestTagsDoNotMoveToPages(t *testing.T) {
	t.Parallel()
	page, message := "<!DOCTYPE html><title>Log in</title>", `{"errors":[{"code":"DENIED"}]}`
	for _, test := range []struct{ content, mediaType string }{
		{page, "text/html"},
		{page, "text/html; charset=utf-8"},
		{page, "application/xhtml+xml"},
		{page, ""},
		{page, ocispec.MediaTypeImageManifest},
		{message, "application/json"},
		{message, "application/problem+json"},
		{message, "application/octet-stream"},
		{message, "application/vnd.example.thing"},
		{`{"message":"denied"}`, "application/json"},
		{page, "application/vnd.example.thing"},
		{"<Error/>", "application/xml"},
		{message, ocispec.MediaTypeImageManifest},
		{"", "text/plain"},
		{"", ocispec.MediaTypeImageIndex},
	} {
		src, dst := newSpy(newMem(t)), newMem(t)
		mustPush(t, dst, "a", image(1), "v1")
		mustPush(t, src, "a", image(1), "v1", "v2")
		desc := ociregistry.Descriptor{MediaType: test.mediaType, Digest: digest.FromString(test.content), Size: int64(len(test.content))}
		serves(src, []byte(test.content), desc)
		for _, tag := range []string{"v1", "v2"} {
			_, err := Copy(t.Context(), Place{dst, "a", tag}, Place{src, "a", tag}, nil)
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrManifestInvalid), qt.Commentf("%+v", test))
		}
		m := mustMirror(t, dst, nil, hub(src, Rule{Repositories: "a", WithoutReferrers: true}))
		summary := mustPass(t, m)
		qt.Assert(t, qt.HasLen(summary.Failures, 2))
		qt.Check(t, qt.ErrorIs(summary.Failures[0].Err, ociregistry.ErrManifestInvalid))
		qt.Check(t, qt.Equals(tagsOf(t, dst, "a"), "v1"))
		qt.Check(t, qt.Equals(tagged(t, dst, "a", "v1"), image(1).Descriptor.Digest))
	}

	// By its digest, which the caller knows, everything is copied. So are manifests of
	// any type.
	src, dst := newMem(t), newMem(t)
	desc, err := src.PushManifest(t.Context(), "a", "page", []byte(page), "text/html")
	qt.Assert(t, qt.IsNil(err))
	mustCopy(t, Place{dst, "a", "page"}, Place{src, "a", string(desc.Digest)}, nil)
	_, err = src.PushManifest(t.Context(), "a", "thing", []byte("x"), "application/vnd.example.thing")
	qt.Assert(t, qt.IsNil(err))
	mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "thing"}, nil)
	_, err = src.PushManifest(t.Context(), "a", "text", []byte("x"), "text/plain")
	qt.Assert(t, qt.IsNil(err))
	mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "text"}, nil)
	qt.Check(t, qt.Equals(tagsOf(t, dst, "a"), "page text thing"))
}

// The tags of cosign are tags too.
func TestCosignTagsDoNotMoveToPages(t *testing.T) {
	t.Parallel()
	src, dst := newMem(t), newMem(t)
	mustPush(t, src, "a", image(1), "v1")
	tag := cosignTag(image(1).Descriptor.Digest) + ".sig"
	_, err := src.PushManifest(t.Context(), "a", tag, []byte("<html>"), "text/html")
	qt.Assert(t, qt.IsNil(err))
	_, err = Copy(t.Context(), Place{dst, "a", ""}, Place{src, "a", "v1"}, &Options{CosignTags: true})
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrManifestInvalid))
	qt.Check(t, qt.Equals(tagsOf(t, dst, "a"), ""))
}

// sized makes a registry answer with another size for what it has.
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

// Sizes that are not known at either end change nothing of what is copied or said.
func TestCopyWithoutKnownSizes(t *testing.T) {
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

// A blob that is there in part is not there.
func TestBlobOfAnotherSizeIsCopiedAgain(t *testing.T) {
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
func TestDamagedManifestIsRepaired(t *testing.T) {
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

// A destination that fails is not one that lacks something.
func TestRepeatFailsWithTheDestination(t *testing.T) {
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

// webSite answers everything in one way, as what stands before a registry can.
func webSite(t *testing.T, content, mediaType string) ociregistry.Interface {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		io.WriteString(w, content)
	}))
	t.Cleanup(srv.Close)
	c, err := ociclient.New(strings.TrimPrefix(srv.URL, "http://"), &ociclient.Options{Insecure: true, Retry: ociclient.RetryPolicy{Attempts: 1}})
	qt.Assert(t, qt.IsNil(err))
	return c
}

// A site that takes the place of a registry is neither a source nor a destination.
func TestWebSiteIsNoRegistry(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ content, mediaType string }{
		{"<!DOCTYPE html><title>Log in</title>", "text/html"},
		{`{"errors":[{"code":"DENIED"}]}`, "application/json"},
		{"", "application/json"},
		{"", "text/html"},
	} {
		t.Run(test.mediaType, func(t *testing.T) {
			t.Parallel()
			site, good := webSite(t, test.content, test.mediaType), newMem(t)
			mustPush(t, good, "a", image(1), "v1", "v2")
			for _, tag := range []string{"v1", "v3"} {
				_, err := Copy(t.Context(), Place{good, "a", tag}, Place{site, "a", tag}, nil)
				qt.Check(t, qt.IsNotNil(err))
			}
			m := mustMirror(t, good, &MirrorOptions{Retries: -1}, hub(site, Rule{Repositories: "a", Delete: true}))
			summary := mustPass(t, m)
			qt.Check(t, qt.Equals(summary.Updated+summary.Same+summary.Deleted, 0))
			qt.Check(t, qt.Equals(tagsOf(t, good, "a"), "v1 v2"))
			qt.Check(t, qt.Equals(tagged(t, good, "a", "v1"), image(1).Descriptor.Digest))

			_, err := Copy(t.Context(), Place{site, "a", ""}, Place{good, "a", "v1"}, nil)
			qt.Check(t, qt.IsNotNil(err))
		})
	}
}

// What a destination says of something else proves nothing.
func TestAnswersAboutOtherContentProveNothing(t *testing.T) {
	t.Parallel()
	src := newMem(t)
	mustPush(t, src, "a", image(1), "v1")
	page := ociregistry.Descriptor{MediaType: "text/html", Digest: digest.FromString("page"), Size: 4}
	unsized := func(d ociregistry.Digest) ociregistry.Descriptor {
		return ociregistry.Descriptor{MediaType: "text/html; charset=utf-8", Digest: d}
	}
	for name, lie := range map[string]func(*ociregistry.Funcs){
		"ResolveBlob": func(f *ociregistry.Funcs) {
			f.ResolveBlob_ = func(context.Context, string, ociregistry.Digest) (ociregistry.Descriptor, error) { return page, nil }
		},
		"ResolveBlob without a size": func(f *ociregistry.Funcs) {
			f.ResolveBlob_ = func(_ context.Context, _ string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
				return unsized(d), nil
			}
		},
		"ResolveManifest": func(f *ociregistry.Funcs) {
			f.ResolveManifest_ = func(context.Context, string, ociregistry.Digest) (ociregistry.Descriptor, error) { return page, nil }
		},
		"ResolveTag": func(f *ociregistry.Funcs) {
			f.ResolveTag_ = func(context.Context, string, string) (ociregistry.Descriptor, error) { return page, nil }
		},
		"MountBlob": func(f *ociregistry.Funcs) {
			f.MountBlob_ = func(context.Context, string, string, ociregistry.Digest) (ociregistry.Descriptor, error) {
				return page, nil
			}
		},
	} {
		real := newMem(t)
		dst := newSpy(real)
		lie(dst.Interface.(*ociregistry.Funcs))
		mustCopy(t, Place{dst, "a", ""}, Place{src, "a", "v1"}, &Options{MountFrom: []string{"b"}})
		qt.Check(t, qt.IsNil(image(1).Verify(t.Context(), real, "a")), qt.Commentf("%s", name))
		qt.Check(t, qt.Equals(tagged(t, real, "a", "v1"), image(1).Descriptor.Digest))
	}
}

// In one pass a blob of several images is asked for once, in the next one again.
func TestPassAsksOnceForEachBlob(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		for i := range 5 {
			mustPush(t, src, "a", based(i), string(rune('a'+i)))
		}
		m := mustMirror(t, dst, &MirrorOptions{Images: 1}, hub(src, Rule{Repositories: "a"}))
		mustPass(t, m)
		for range 2 {
			dst.take()
			qt.Check(t, qt.DeepEquals(mustPass(t, m), Summary{Same: 5}))
			qt.Check(t, qt.Equals(dst.take(), "GetManifest 5, ResolveBlob 3, ResolveTag 5"))
		}
	})
}

// That the destination has a blob says nothing of it with another size.
func TestPassConfirmsBlobsWithTheirSize(t *testing.T) {
	t.Parallel()
	dst := newSpy(newMem(t))
	right := image(1)
	mustPush(t, dst, "a", right)
	c := newCopier(Place{dst, "a", "v1"}, Place{newMem(t), "a", "v1"}, &Options{inner: inner{confirmed: new(confirmed)}}, false)
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

func TestConfirmedIsBounded(t *testing.T) {
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
