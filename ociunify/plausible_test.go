package ociunify_test

import (
	"bytes"
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
	"github.com/seed-40b21970/oci/ociunify"
)

// answer is the answer of an origin for a tag.
type answer struct {
	mediaType, content string
	named              bool // it has the digest of the content
}

func (a answer) desc() ociregistry.Descriptor {
	desc := ociregistry.Descriptor{MediaType: a.mediaType, Size: int64(len(a.content))}
	if a.named {
		desc.Digest = digest.FromString(a.content)
	}
	return desc
}

// Content that is not a manifest replaces no image: it is neither served nor kept.
func TestCache_ReplacesNoImageByAPage(t *testing.T) {
	t.Parallel()
	const page, list = "<!DOCTYPE html><title>Log in</title>", `{"errors":[{"code":"UNKNOWN"}]}`
	answers := map[string]answer{
		"login page":                         {"text/html; charset=utf-8", page, false},
		"login page with a digest":           {"text/html", page, true},
		"page of XHTML":                      {"application/xhtml+xml", page, true},
		"page that claims to be a manifest":  {ocispec.MediaTypeImageManifest, page, false},
		"page as a manifest, with a digest":  {ocispec.MediaTypeImageManifest, page, true},
		"page as text, with a digest":        {"text/plain", page, true},
		"text as a manifest, with a digest":  {ocispec.MediaTypeImageManifest, "hello", true},
		"errors":                             {"application/json", list, false},
		"errors with a digest":               {"application/json", list, true},
		"errors as a manifest":               {ocispec.MediaTypeImageManifest, list, false},
		"nothing":                            {"application/json", "", false},
		"nothing with a digest":              {ocispec.MediaTypeImageManifest, "", true},
		"some JSON":                          {"application/json", `{"ok":true}`, false},
		"page of two parameters":             {"text/html; charset=a; charset=b", `{"schemaVersion":2,"manifests":[]}`, false},
		"page of XML as text, with a digest": {"text/plain", "<Error><Code>AccessDenied</Code></Error>", true},
		"message with a digest":              {"application/json", `{"message":"Unauthorized"}`, true},
		"problem with a digest":              {"application/problem+json", `{"detail":"Unauthorized"}`, true},
		"JSON with fields that say nothing":  {"application/json", `{"schemaVersion":0,"mediaType":null}`, false},
		"manifest as a page, without digest": {"text/html", `{"schemaVersion":2,"manifests":[]}`, false},
	}
	for name, a := range answers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, mem := t.Context(), ocimem.New()
			image := pushed(t, mem, "foo", 1, "v1")
			lying := false
			origin := &ociregistry.Funcs{
				GetTag_: func(ctx context.Context, repo, tag string) (ociregistry.BlobReader, error) {
					rd, err := mem.GetTag(ctx, repo, tag)
					if err == nil && lying {
						return withDescriptor{withReader{rd, strings.NewReader(a.content)}, a.desc()}, nil
					}
					return rd, err
				},
				ResolveTag_: func(ctx context.Context, repo, tag string) (ociregistry.Descriptor, error) {
					if lying {
						return ociregistry.Descriptor{MediaType: a.mediaType, Size: int64(len(a.content))}, nil
					}
					return mem.ResolveTag(ctx, repo, tag)
				},
				GetManifest_: mem.GetManifest,
			}
			c := newCache(t, ocimem.New(), origin, nil)
			wantTag(t, c, "foo", "v1", image)
			lying = true
			wantTag(t, c, "foo", "v1", image)
			lying = false
			wantTag(t, c, "foo", "v1", image)

			empty := newCache(t, ocimem.New(), origin, nil)
			lying = true
			_, err := empty.GetTag(ctx, "foo", "v1")
			qt.Check(t, qt.ErrorIs(err, ociregistry.ErrManifestInvalid))
			lying = false
			wantTag(t, empty, "foo", "v1", image)
		})
	}
}

// A manifest may have any media type, if the origin says its digest. The type in the
// content replaces a generic one.
func TestCache_AcceptsManifestsOfAnyType(t *testing.T) {
	t.Parallel()
	index := `{"schemaVersion":2,"manifests":[]}`
	tests := map[string]struct {
		answer
		want string
	}{
		"text":               {answer{"text/plain", "hello", true}, "text/plain"},
		"index, unnamed":     {answer{"application/json", index, false}, ocispec.MediaTypeImageIndex},
		"index, as a page":   {answer{"text/html", index, true}, ocispec.MediaTypeImageIndex},
		"index, no type":     {answer{"", index, true}, ocispec.MediaTypeImageIndex},
		"index, parameters":  {answer{ocispec.MediaTypeImageIndex + "; charset=utf-8", index, true}, ocispec.MediaTypeImageIndex},
		"index, as XML":      {answer{"application/xml", index, true}, ocispec.MediaTypeImageIndex},
		"layers":             {answer{"application/vnd.example+json", `{"layers":[]}`, false}, "application/vnd.example+json"},
		"a type of its own":  {answer{"application/json", `{"mediaType":"application/vnd.example+json"}`, true}, "application/vnd.example+json"},
		"old manifest":       {answer{"application/vnd.docker.distribution.manifest.v1+prettyjws", `{"schemaVersion":1}`, false}, "application/vnd.docker.distribution.manifest.v1+prettyjws"},
		"artifact of a kind": {answer{"application/vnd.example+json", `{"mediaType":"application/vnd.example+json"}`, false}, "application/vnd.example+json"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mem := ocimem.New()
			pushed(t, mem, "foo", 1, "v1")
			origin := count(mem)
			origin.setBody(func(rd ociregistry.BlobReader) ociregistry.BlobReader {
				return withDescriptor{withReader{rd, strings.NewReader(test.content)}, test.desc()}
			})
			c := newCache(t, ocimem.New(), origin, nil)
			for range 2 {
				rd, err := c.GetTag(t.Context(), "foo", "v1")
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.Equals(rd.Descriptor().MediaType, test.want))
				got, err := readAll(rd, err)
				wantBytes(t, got, err, []byte(test.content))
				origin.set("", errBroken)
			}
		})
	}
}

// A size that the origin does not know, or an impossible one, never becomes the length of
// an answer.
func TestCache_PassesOnNoUnknownSizes(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{-1, 0} {
		mem := ocimem.New()
		image := pushed(t, mem, "foo", 1, "v1")
		layer := image.Blobs[2]
		unsized := func(desc ociregistry.Descriptor, err error) (ociregistry.Descriptor, error) {
			desc.Size = size
			return desc, err
		}
		origin := count(mem)
		origin.setBody(func(rd ociregistry.BlobReader) ociregistry.BlobReader {
			desc, _ := unsized(rd.Descriptor(), nil)
			return withDescriptor{rd, desc}
		})
		origin.ResolveBlob_ = func(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
			return unsized(mem.ResolveBlob(ctx, repo, d))
		}
		origin.ResolveManifest_ = func(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
			return unsized(mem.ResolveManifest(ctx, repo, d))
		}
		origin.ResolveTag_ = func(ctx context.Context, repo, tag string) (ociregistry.Descriptor, error) {
			return unsized(mem.ResolveTag(ctx, repo, tag))
		}
		c := newCache(t, ocimem.New(), origin, nil)
		srv := httptest.NewServer(ociserver.New(c, nil))
		defer srv.Close()
		for _, path := range []string{"manifests/v1", "manifests/" + string(image.Descriptor.Digest), "blobs/" + string(layer.Descriptor.Digest)} {
			resp, err := srv.Client().Head(srv.URL + "/v2/foo/" + path)
			qt.Assert(t, qt.IsNil(err))
			resp.Body.Close()
			qt.Check(t, qt.Equals(resp.StatusCode, 200))
			qt.Check(t, qt.Equals(resp.ContentLength, -1), qt.Commentf("%s of size %d", path, size))
		}
		for _, want := range [][]byte{image.Manifest, layer.Bytes()} {
			path := "blobs/" + string(layer.Descriptor.Digest)
			if len(want) == len(image.Manifest) {
				path = "manifests/v1"
			}
			resp, err := srv.Client().Get(srv.URL + "/v2/foo/" + path)
			qt.Assert(t, qt.IsNil(err))
			var got bytes.Buffer
			_, err = got.ReadFrom(resp.Body)
			resp.Body.Close()
			wantBytes(t, got.Bytes(), err, want)
		}
	}
}

// An origin that returns another digest has not answered.
func TestCache_IgnoresAnswersAboutOtherContent(t *testing.T) {
	t.Parallel()
	ctx, mem := t.Context(), ocimem.New()
	one, two := pushed(t, mem, "foo", 1), pushed(t, mem, "foo", 2)
	other := func(desc ociregistry.Digest) ociregistry.Digest {
		if desc == one.Descriptor.Digest {
			return two.Descriptor.Digest
		}
		return two.Blobs[2].Descriptor.Digest
	}
	origin := count(mem)
	origin.ResolveManifest_ = func(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
		return mem.ResolveManifest(ctx, repo, other(d))
	}
	origin.ResolveBlob_ = func(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
		return mem.ResolveBlob(ctx, repo, other(d))
	}
	origin.GetBlobRange_ = func(ctx context.Context, repo string, d ociregistry.Digest, o0, o1 int64) (ociregistry.BlobReader, error) {
		return mem.GetBlobRange(ctx, repo, other(d), o0, o1)
	}
	c := newCache(t, ocimem.New(), origin, &ociunify.CacheOptions{})
	_, err := c.ResolveManifest(ctx, "foo", one.Descriptor.Digest)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
	_, err = c.ResolveBlob(ctx, "foo", one.Blobs[2].Descriptor.Digest)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
	_, err = c.GetBlobRange(ctx, "foo", one.Blobs[2].Descriptor.Digest, 1, 5)
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDigestInvalid))
}
