package ocitest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"runtime"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
)

func TestBlobIsDeterministic(t *testing.T) {
	// Users may keep digests in golden files: these never change.
	for _, test := range []struct {
		seed   uint64
		size   int64
		digest dig
	}{
		{0, 0, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{1, 100, "sha256:acd6932eb3fbac161953eea8de6e855bf7900fc6a754a73739ebbcdf2bab53b2"},
		{2, 100_000, "sha256:d2350b2c4e40fba04a4af1e47e35a165556d66387d481f7416b3e6afc0d73e36"},
		{2, -5, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
	} {
		b := NewBlob(test.seed, test.size)
		qt.Check(t, qt.Equals(b.Descriptor.Digest, test.digest))
		qt.Check(t, qt.Equals(b.Descriptor.Size, max(test.size, 0)))
		qt.Check(t, qt.Equals(digest.FromBytes(b.Bytes()), test.digest))
	}
}

func TestBlobReadsAlikeInAnySteps(t *testing.T) {
	b := NewBlob(7, 10_000)
	data := b.Bytes()
	for _, wrap := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader} {
		got, err := io.ReadAll(wrap(b.NewReader()))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(bytes.Equal(got, data)))
	}
	qt.Check(t, qt.IsNil(iotest.TestReader(b.NewReader(), data)))
	prefix := NewBlob(7, 5000).Bytes()
	qt.Check(t, qt.IsTrue(bytes.Equal(prefix, data[:5000])), qt.Commentf("the size changes more than the end"))

	got, err := io.ReadAll(Blob{}.NewReader())
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(got, 0))
}

func TestBlobIsMadeAsItIsRead(t *testing.T) {
	b := NewBlob(1, 64<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n, err := io.Copy(io.Discard, b.NewReader())
	runtime.ReadMemStats(&after)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(n, 64<<20))
	qt.Check(t, qt.IsTrue(after.TotalAlloc-before.TotalAlloc < 4<<20))
}

func TestNewImage_IsAValidImage(t *testing.T) {
	platform := &ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	a := NewImage(Spec{Seed: 3, Layers: []int64{10, 0, 5000}, Platform: platform, Annotations: map[string]string{"a": "b"}})
	qt.Check(t, qt.DeepEquals(a.Descriptor, desc{
		MediaType: ocispec.MediaTypeImageManifest,
		Digest:    digest.FromBytes(a.Manifest),
		Size:      int64(len(a.Manifest)),
		Platform:  platform,
	}))

	var m ociregistry.Manifest
	qt.Assert(t, qt.IsNil(json.Unmarshal(a.Manifest, &m)))
	qt.Check(t, qt.Equals(m.SchemaVersion, 2))
	qt.Check(t, qt.Equals(m.MediaType, ocispec.MediaTypeImageManifest))
	qt.Check(t, qt.Equals(m.Config.MediaType, ocispec.MediaTypeImageConfig))
	qt.Check(t, qt.DeepEquals(m.Annotations, map[string]string{"a": "b"}))
	qt.Assert(t, qt.HasLen(m.Layers, 3))
	for i, size := range []int64{10, 0, 5000} {
		qt.Check(t, qt.Equals(m.Layers[i].Size, size))
		qt.Check(t, qt.Equals(m.Layers[i].MediaType, ocispec.MediaTypeImageLayer))
		qt.Check(t, qt.Equals(m.Layers[i].Digest, digest.FromBytes(a.Blobs[i+1].Bytes())))
	}

	var config ocispec.Image
	qt.Assert(t, qt.IsNil(json.Unmarshal(a.Blobs[0].Bytes(), &config)))
	qt.Check(t, qt.DeepEquals(config.Platform, *platform))
	qt.Check(t, qt.HasLen(config.RootFS.DiffIDs, 3))
	qt.Check(t, qt.Equals(config.RootFS.DiffIDs[2], m.Layers[2].Digest))
}

func TestSeedsDiffer(t *testing.T) {
	seen := make(map[dig]bool)
	for seed := range uint64(10) {
		a := NewImage(Spec{Seed: seed, Layers: []int64{100, 100}})
		qt.Check(t, qt.DeepEquals(NewImage(Spec{Seed: seed, Layers: []int64{100, 100}}).Descriptor, a.Descriptor))
		for _, b := range a.Blobs {
			qt.Check(t, qt.IsFalse(seen[b.Descriptor.Digest]))
			seen[b.Descriptor.Digest] = true
		}
	}
}

func TestNewImage_MayBeAnArtifact(t *testing.T) {
	subject := NewImage(Spec{}).Descriptor
	a := NewImage(Spec{ArtifactType: "text/plain", Subject: &subject})
	qt.Check(t, qt.Equals(a.Descriptor.ArtifactType, "text/plain"))
	var m ociregistry.Manifest
	qt.Assert(t, qt.IsNil(json.Unmarshal(a.Manifest, &m)))
	qt.Check(t, qt.Equals(m.ArtifactType, "text/plain"))
	qt.Check(t, qt.Equals(m.Subject.Digest, subject.Digest))
	qt.Check(t, qt.Equals(m.Config.MediaType, ocispec.MediaTypeEmptyJSON))
	qt.Check(t, qt.Equals(m.Config.Digest, ocispec.DescriptorEmptyJSON.Digest))
	qt.Check(t, qt.DeepEquals(m.Layers, []desc{m.Config}))

	a = NewImage(Spec{ArtifactType: "text/plain", Layers: []int64{7}})
	qt.Check(t, qt.HasLen(a.Blobs, 2))
	qt.Check(t, qt.Equals(a.Blobs[1].Descriptor.MediaType, "application/octet-stream"))
}

func TestNewIndex_NamesItsImages(t *testing.T) {
	platform := &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	image := NewImage(Spec{Platform: platform})
	empty := NewIndex(Spec{})
	a := NewIndex(Spec{ArtifactType: "text/plain", Annotations: map[string]string{"a": "b"}, Subject: &empty.Descriptor}, image, empty)
	var index ocispec.Index
	qt.Assert(t, qt.IsNil(json.Unmarshal(a.Manifest, &index)))
	qt.Check(t, qt.DeepEquals(index.Manifests, []desc{image.Descriptor, empty.Descriptor}))
	qt.Check(t, qt.DeepEquals(index.Manifests[0].Platform, platform))
	qt.Check(t, qt.Equals(index.ArtifactType, "text/plain"))
	qt.Check(t, qt.Equals(index.Subject.Digest, empty.Descriptor.Digest))
	qt.Check(t, qt.IsTrue(bytes.Contains(empty.Manifest, []byte(`"manifests":[]`))))
}

func TestPush_BringsWhatVerifyFinds(t *testing.T) {
	ctx := context.Background()
	index := NewIndex(Spec{}, NewIndex(Spec{}, NewImage(Spec{Seed: 1, Layers: []int64{100_000, 32 << 10}})), NewImage(Spec{Seed: 2}))
	r := ocimem.New()
	qt.Check(t, qt.ErrorIs(index.Verify(ctx, r, "foo"), ociregistry.ErrNameUnknown))
	qt.Assert(t, qt.IsNil(index.Push(ctx, r, "foo", "v1", "v2")))
	qt.Check(t, qt.IsNil(index.Verify(ctx, r, "foo")))
	tags, err := ociregistry.All(r.Tags(ctx, "foo", ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(tags, []string{"v1", "v2"}))

	qt.Check(t, qt.ErrorIs(index.Push(ctx, r, "Foo"), ociregistry.ErrNameInvalid))
	qt.Check(t, qt.ErrorIs(index.Push(ctx, r, "bar", "-bad"), ociregistry.ErrManifestInvalid))
}

func TestVerify_FindsWhatIsWrong(t *testing.T) {
	ctx := context.Background()
	image := NewImage(Spec{Seed: 1, Layers: []int64{100_000}})
	index := NewIndex(Spec{}, image)
	for _, test := range []struct {
		name   string
		spoil  func(*ociregistry.Funcs)
		wanted string
	}{
		{"a blob is missing", func(f *ociregistry.Funcs) {
			next := f.GetBlob_
			f.GetBlob_ = func(ctx Ctx, repo string, d dig) (ociregistry.BlobReader, error) {
				if d == image.Blobs[1].Descriptor.Digest {
					return nil, ociregistry.ErrBlobUnknown
				}
				return next(ctx, repo, d)
			}
		}, "blob unknown: .*"},
		{"a blob is short", func(f *ociregistry.Funcs) {
			wrapGetBlob(f, func(r ociregistry.BlobReader) ociregistry.BlobReader {
				return reader{BlobReader: r, read: io.LimitReader(r, 99_999).Read}
			})
		}, "blob sha256:.* in foo: content differs between bytes 98304 and 131072"},
		{"a blob is long", func(f *ociregistry.Funcs) {
			wrapGetBlob(f, func(r ociregistry.BlobReader) ociregistry.BlobReader {
				return reader{BlobReader: r, read: io.MultiReader(r, bytes.NewReader([]byte("x"))).Read}
			})
		}, "blob sha256:.* in foo: content differs between .*"},
		{"a blob breaks off", func(f *ociregistry.Funcs) {
			wrapGetBlob(f, func(r ociregistry.BlobReader) ociregistry.BlobReader {
				return reader{BlobReader: r, read: io.MultiReader(io.LimitReader(r, 10), iotest.ErrReader(errReader)).Read}
			})
		}, "blob sha256:.* in foo: the reader is broken"},
		{"a descriptor is wrong", func(f *ociregistry.Funcs) {
			wrapGetBlob(f, func(r ociregistry.BlobReader) ociregistry.BlobReader {
				return reader{BlobReader: r, desc: &desc{Size: 7}}
			})
		}, "blob sha256:.* in foo: descriptor has digest  and size 7, want size .*"},
		{"a child is missing", func(f *ociregistry.Funcs) {
			next := f.GetManifest_
			f.GetManifest_ = func(ctx Ctx, repo string, d dig) (ociregistry.BlobReader, error) {
				if d == image.Descriptor.Digest {
					return nil, ociregistry.ErrManifestUnknown
				}
				return next(ctx, repo, d)
			}
		}, "manifest unknown: .*"},
		{"a media type is wrong", func(f *ociregistry.Funcs) {
			next := f.GetManifest_
			f.GetManifest_ = func(ctx Ctx, repo string, d dig) (ociregistry.BlobReader, error) {
				r, err := next(ctx, repo, d)
				if err != nil {
					return nil, err
				}
				wrong := r.Descriptor()
				wrong.MediaType = "text/plain"
				return reader{BlobReader: r, desc: &wrong}, nil
			}
		}, `manifest sha256:.* in foo: media type is "text/plain", want ".*"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := forward(ocimem.New())
			qt.Assert(t, qt.IsNil(index.Push(ctx, f, "foo")))
			qt.Assert(t, qt.IsNil(index.Verify(ctx, f, "foo")))
			test.spoil(f)
			qt.Check(t, qt.ErrorMatches(index.Verify(ctx, f, "foo"), test.wanted))
		})
	}
}

func TestPush_PushesContentBeforeWhatNamesIt(t *testing.T) {
	// A registry that checks references needs the parts first; each is
	// pushed once.
	var order []dig
	f := forward(ocimem.New())
	wrapPushBlob(f, func(_ Ctx, _ string, d desc, r io.Reader, next func(io.Reader) (desc, error)) (desc, error) {
		order = append(order, d.Digest)
		return next(r)
	})
	wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
		order = append(order, digest.FromBytes(p.contents))
		return next(p)
	})
	image := NewImage(Spec{Layers: []int64{1}})
	index := NewIndex(Spec{}, image)
	qt.Assert(t, qt.IsNil(index.Push(context.Background(), f, "foo")))
	qt.Check(t, qt.IsTrue(slices.Equal(order, []dig{
		image.Blobs[0].Descriptor.Digest, image.Blobs[1].Descriptor.Digest, image.Descriptor.Digest, index.Descriptor.Digest,
	})))
}
