package ocitest

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
)

func TestPushContent_PushesAllOfIt(t *testing.T) {
	r := NewRegistry(t, ocimem.New())
	known := digest.FromString("known")
	pushed := r.MustPushContent(RegistryContent{
		"foo": {
			Blobs: map[string]string{"config": "{}", "layer": "hello"},
			Manifests: map[string]ociregistry.Manifest{
				// Sorted by name, each comes before its subject.
				"a": {Config: desc{Digest: "config"}, Subject: &desc{Digest: "b"}},
				"b": {Config: desc{Digest: "config", MediaType: "text/x-config"}, Subject: &desc{Digest: "c"}},
				"c": {
					MediaType: ocispec.MediaTypeImageManifest,
					Config:    desc{Digest: "config"},
					Layers:    []desc{{Digest: "layer", MediaType: "text/plain"}, {Digest: "layer"}},
					Subject:   &desc{Digest: known, Size: 5, MediaType: "text/plain"},
				},
			},
			Tags: map[string]string{"v1": "c", "v2": "c", "v3": "a"},
		},
		"bar": {Blobs: map[string]string{"x": "y"}},
	})
	foo := pushed["foo"]
	qt.Check(t, qt.DeepEquals(foo.Blobs, map[string]desc{
		"config": {MediaType: "application/binary", Digest: digest.FromString("{}"), Size: 2},
		"layer":  {MediaType: "application/binary", Digest: digest.FromString("hello"), Size: 5},
	}))
	var m ociregistry.Manifest
	qt.Assert(t, qt.IsNil(json.Unmarshal(foo.ManifestData["c"], &m)))
	qt.Check(t, qt.DeepEquals(m, ociregistry.Manifest{
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    foo.Blobs["config"],
		Layers: []desc{
			{MediaType: "text/plain", Digest: digest.FromString("hello"), Size: 5},
			foo.Blobs["layer"],
		},
		Subject: &desc{MediaType: "text/plain", Digest: known, Size: 5},
	}))
	m = ociregistry.Manifest{}
	qt.Assert(t, qt.IsNil(json.Unmarshal(foo.ManifestData["a"], &m)))
	qt.Check(t, qt.DeepEquals(*m.Subject, foo.Manifests["b"]))

	ctx := context.Background()
	for tag, id := range map[string]string{"v1": "c", "v2": "c", "v3": "a"} {
		got, err := r.R.GetTag(ctx, "foo", tag)
		qt.Assert(t, qt.IsNil(err))
		CheckContent(t, got, foo.ManifestData[id], ocispec.MediaTypeImageManifest)
	}
	got, err := r.R.GetBlob(ctx, "bar", pushed["bar"].Blobs["x"].Digest)
	qt.Assert(t, qt.IsNil(err))
	CheckContent(t, got, []byte("y"), "")
}

func TestPushContent_ReportsWhatFails(t *testing.T) {
	blobs := map[string]string{"config": "{}"}
	config := desc{Digest: "config"}
	for _, test := range []struct {
		name    string
		content RepoContent
		wanted  string
	}{
		{"config", RepoContent{Manifests: map[string]ociregistry.Manifest{"m": {Config: config}}},
			`config of manifest "m": there is nothing with identifier "config"`},
		{"layer", RepoContent{Blobs: blobs, Manifests: map[string]ociregistry.Manifest{"m": {Config: config, Layers: []desc{config, {Digest: "x"}}}}},
			`layer 1 of manifest "m": there is nothing with identifier "x"`},
		{"subject", RepoContent{Blobs: blobs, Manifests: map[string]ociregistry.Manifest{"m": {Config: config, Subject: &desc{Digest: "x"}}}},
			`manifest "m": there is no manifest "x" for its subject`},
		{"cycle", RepoContent{Blobs: blobs, Manifests: map[string]ociregistry.Manifest{
			"m": {Config: config, Subject: &desc{Digest: "n"}},
			"n": {Config: config, Subject: &desc{Digest: "m"}},
		}}, `manifest "m" is its own subject, by way of \["m" "n"\]`},
		{"tag", RepoContent{Blobs: blobs, Tags: map[string]string{"v1": "m"}},
			`tag "v1": there is no manifest "m"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := ocimem.New()
			_, err := PushContent(r, RegistryContent{"foo": test.content})
			qt.Check(t, qt.ErrorMatches(err, `content of repository "foo": `+test.wanted))
			repos, err := ociregistry.All(r.Repositories(context.Background(), ""))
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.HasLen(repos, 0))
		})
	}
	_, err := PushContent(ocimem.New(), RegistryContent{"Foo": {Blobs: blobs}})
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrNameInvalid))
	_, err = PushContent(ocimem.New(), RegistryContent{"foo": {
		Blobs:     blobs,
		Manifests: map[string]ociregistry.Manifest{"m": {Config: desc{Digest: digest.FromString("missing")}}},
	}})
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrManifestBlobUnknown))
}

func TestRegistry_HasHelpersThatSucceed(t *testing.T) {
	r := NewRegistry(t, ocimem.New())
	qt.Check(t, qt.DeepEquals(r.MustPushBlob("foo", []byte("hello")), describe([]byte("hello"))))
	image := NewImage(Spec{})
	qt.Check(t, qt.DeepEquals(r.MustPush("foo", image, "v1"), image.Descriptor))

	data, d := r.MustPushManifest("foo", ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []desc{image.Descriptor}}, "v2")
	got, err := r.R.GetTag(context.Background(), "foo", "v2")
	qt.Assert(t, qt.IsNil(err))
	CheckContent(t, got, data, ocispec.MediaTypeImageIndex)
	qt.Check(t, qt.Equals(d.Digest, digest.FromBytes(data)))
}

// fails returns what a test says that fails.
func fails(t *testing.T, f func(testing.TB)) string {
	rec := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(rec)
	}()
	<-done
	qt.Check(t, qt.IsTrue(rec.failed))
	return strings.Join(rec.log, "\n")
}

func TestRegistry_EndsTheTestOnAnError(t *testing.T) {
	for _, f := range []func(Registry){
		func(r Registry) { r.MustPush("Foo", NewImage(Spec{})) },
		func(r Registry) { r.MustPushBlob("Foo", []byte("x")) },
		func(r Registry) {
			r.MustPushManifest("Foo", ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}, "v1")
		},
		func(r Registry) { r.MustPushContent(RegistryContent{"Foo": {Blobs: map[string]string{"x": "y"}}}) },
	} {
		log := fails(t, func(tb testing.TB) {
			f(NewRegistry(tb, ocimem.New()))
			tb.Errorf("went on")
		})
		qt.Check(t, qt.StringContains(log, "invalid repository name"))
		qt.Check(t, qt.Not(qt.StringContains(log, "went on")))
	}
	for _, object := range []any{ocispec.Index{}, func() {}, []int{1}} {
		log := fails(t, func(tb testing.TB) {
			NewRegistry(tb, ocimem.New()).MustPushManifest("foo", object, "v1")
			tb.Errorf("went on")
		})
		qt.Check(t, qt.Not(qt.StringContains(log, "went on")))
	}
	// A registry that answers something else.
	f := forward(ocimem.New())
	wrapPushManifest(f, func(p manifestPush, next next) (desc, error) {
		_, err := next(p)
		return desc{}, err
	})
	log := fails(t, func(tb testing.TB) {
		NewRegistry(tb, f).MustPushManifest("foo", ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}, "v1")
	})
	qt.Check(t, qt.StringContains(log, "pushed a manifest with media type"))
}

func TestCheckContent_FindsWhatIsWrong(t *testing.T) {
	data := []byte("hello")
	open := func(d desc) ociregistry.BlobReader {
		return ocimem.NewBytesReader(data, d)
	}
	good := describe(data)
	CheckContent(t, open(good), data, "")
	CheckContent(t, open(desc{MediaType: "text/plain", Digest: digest.SHA512.FromBytes(data), Size: 5}), data, "text/plain")
	for _, test := range []struct {
		r         ociregistry.BlobReader
		want      string
		mediaType string
		log       string
	}{
		{open(good), "hullo", "", "content differs: got 5 bytes, want 5; from byte 1 on got \"ello\", want \"ullo\""},
		{open(good), "hell", "", "content differs: got 5 bytes, want 4; from byte 4 on got \"o\", want \"\""},
		{open(good), "hello", "text/plain", "descriptor differs: got media type \"application/octet-stream\""},
		{open(desc{MediaType: blobMediaType, Digest: good.Digest, Size: 4}), "hello", "", "size 4; want"},
		{open(desc{MediaType: blobMediaType, Digest: other, Size: 5}), "hello", "", "descriptor differs"},
		{open(desc{MediaType: blobMediaType, Digest: "bad", Size: 5}), "hello", "", "descriptor differs"},
		{reader{BlobReader: open(good), read: func([]byte) (int, error) { return 0, errReader }}, "hello", "", "error after 0 bytes: the reader is broken"},
	} {
		log := fails(t, func(tb testing.TB) { CheckContent(tb, test.r, []byte(test.want), test.mediaType) })
		qt.Check(t, qt.StringContains(log, test.log))
	}
	closed := false
	CheckContent(t, closer{open(good), func() error { closed = true; return nil }}, data, "")
	qt.Check(t, qt.IsTrue(closed))
}
