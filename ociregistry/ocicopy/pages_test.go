package ocicopy

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/rules"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// A generic media type at the source does not replace the right one at the destination.
func TestCopy_GenericMediaTypeOfTheSourceYields(t *testing.T) {
	t.Parallel()
	docker := ocitest.NewBlob(7, 20)
	list := []byte(`{"schemaVersion":2,"mediaType":"` + manifest.MediaTypeDockerManifestList + `","manifests":[]}`)
	bare := []byte(`{"schemaVersion":2,"manifests":[]}`)
	for _, test := range []struct {
		contents   []byte
		served     string
		want       string
		atTheStart string // the media type at the destination; empty if it does not have the manifest
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

// A tag that moved at the source to content that is not a manifest does not move at the
// destination, and is not created there.
func TestCopy_DoesNotMoveTagsToPages(t *testing.T) {
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

	// By digest, everything is copied: the caller vouches for it. Manifests of any type
	// are copied too.
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

// The same holds for the tags of cosign.
func TestCopy_DoesNotMoveCosignTagsToPages(t *testing.T) {
	t.Parallel()
	src, dst := newMem(t), newMem(t)
	mustPush(t, src, "a", image(1), "v1")
	tag := rules.CosignTag(image(1).Descriptor.Digest) + ".sig"
	_, err := src.PushManifest(t.Context(), "a", tag, []byte("<html>"), "text/html")
	qt.Assert(t, qt.IsNil(err))
	_, err = Copy(t.Context(), Place{dst, "a", ""}, Place{src, "a", "v1"}, &Options{CosignTags: true})
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrManifestInvalid))
	qt.Check(t, qt.Equals(tagsOf(t, dst, "a"), ""))
}

// webSite answers every request in the same way, like a proxy in front of a registry.
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

// A web site in place of a registry works neither as a source nor as a destination.
func TestCopy_FailsWhereAWebSiteAnswers(t *testing.T) {
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
			m := mustMirror(t, good, &MirrorOptions{Attempts: -1}, hub(site, Rule{Repositories: "a", Delete: true}))
			summary := mustPass(t, m)
			qt.Check(t, qt.Equals(summary.Updated+summary.Same+summary.Deleted, 0))
			qt.Check(t, qt.Equals(tagsOf(t, good, "a"), "v1 v2"))
			qt.Check(t, qt.Equals(tagged(t, good, "a", "v1"), image(1).Descriptor.Digest))

			_, err := Copy(t.Context(), Place{site, "a", ""}, Place{good, "a", "v1"}, nil)
			qt.Check(t, qt.IsNotNil(err))
		})
	}
}

// A destination that answers about other content proves nothing.
func TestCopy_IgnoresAnswersAboutOtherContent(t *testing.T) {
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
