package ociweb_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociweb"
)

// nasty is text that would do something if it were not escaped.
const nasty = `"'><script src=//evil.example/x.js></script><img src=x onerror=alert(1)>javascript:alert(1){{.}}` + "\u202e\x00\x1b"

// Whatever is pushed, all pages of it are shown, and parse as pages that do nothing.
func TestHostileContent_IsShownAsText(t *testing.T) {
	t.Parallel()
	annotations := map[string]string{nasty: nasty, "org.opencontainers.image.url": "javascript:alert(1)", "org.opencontainers.image.source": "https://evil.example/"}
	quoted := toJSON(t, nasty)
	zero := `"digest":"sha256:` + strings.Repeat("0", 64) + `"`
	config := strings.ReplaceAll(`{"os":N,"architecture":N,"variant":N,"author":N,"created":N,"config":{"Entrypoint":[N],"Cmd":[N],"Env":[N],"User":N,
		"WorkingDir":N,"ExposedPorts":{N:{}},"Volumes":{N:{}},"StopSignal":N,"Labels":{N:N}},"history":[{"created_by":N,"comment":N}]}`, "N", quoted)
	many := strings.TrimSuffix(strings.Repeat(`{"mediaType":"a","size":1,`+zero+`},`, 6000), ",")
	c := newContent(t, "foo")
	evil := layer("x", 1)
	evil.MediaType = nasty
	image := c.image(config, []ociregistry.Descriptor{evil}, "image")
	c.artifact(nasty, &image, annotations, "artifact")
	strange := on(image, nasty, nasty)
	strange.Platform.Variant, strange.ArtifactType, strange.Annotations = nasty, nasty, annotations
	c.index([]ociregistry.Descriptor{strange, on(image, "", ""), on(image, strings.Repeat("x", 10_000), "y")}, "index")
	for tag, text := range map[string]string{
		"many-layers":   `{"config":{"mediaType":"` + ocispec.MediaTypeImageConfig + `","size":2,` + zero + `},"layers":[` + many + `]}`,
		"sizes":         `{"config":{"mediaType":"a","size":9223372036854775807,` + zero + `},"layers":[{"size":9223372036854775807,` + zero + `},{"size":9223372036854775807,` + strings.Replace(zero, "0", "1", 1) + `}]}`,
		"odd":           `{"config":{"mediaType":"a","size":2,` + zero + `},"layers":[],"annotations":null,"x":{"y":[]}}`,
		"other-digests": `{"config":{"mediaType":"a","size":2,"digest":"x+y:abc"},"layers":[{"digest":"multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8","size":3}]}`,
	} {
		c.manifest(ocispec.MediaTypeImageManifest, text, tag)
	}
	c.manifest(ocispec.MediaTypeImageIndex, `{"manifests":[`+many+`]}`, "many-children")
	for tag, text := range map[string]string{
		"types": `{"config":7,"layers":{"a":1},"manifests":"x","annotations":{"a":1,"b":"c"},"subject":[],"artifactType":{}}`,
		"wrong": `{"config":{"mediaType":"` + ocispec.MediaTypeImageConfig + `","digest":"../../x","size":-1},"layers":[{"digest":"` + strings.Repeat("y", 5000) + `"},null]}`,
		"html":  "<!doctype html><script>alert(1)</script>",
		"deep":  strings.Repeat(`{"config":`, 100_000),
	} {
		c.manifest("application/x.foreign", text, tag)
	}
	for _, opts := range []ociweb.Options{{}, {Remote: true}, {MaxManifestSize: 1}, {MaxManifestSize: -1}} {
		h := ociweb.New(c.reg, &opts)
		for tag, err := range c.reg.Tags(t.Context(), "foo", "") {
			qt.Assert(t, qt.IsNil(err))
			for _, path := range []string{"/r/foo:" + tag, "/json/foo:" + tag, "/compare/foo?ref=image&ref=" + tag, "/compare/foo?ref=index&ref=" + tag} {
				a := page(t, h, path)
				qt.Check(t, qt.Not(qt.Matches(a.body, "(?s).*(<script|<img src=x|ZgotmplZ|[\x00\x1b\u202e]).*")), qt.Commentf("%s", path))
				qt.Check(t, qt.IsTrue(len(a.body) < 3<<20), qt.Commentf("%s: %d bytes", path, len(a.body)))
			}
		}
		page(t, h, "/r/foo")
		page(t, h, "/r/foo?sort=size")
		page(t, h, "/?q="+strings.Repeat("%3Cscript%3E", 1000))
		page(t, h, "/r/foo?q=%22%3E%3Cscript%3E")
	}
}

func TestLongLists_EndWithALineThatSaysSo(t *testing.T) {
	t.Parallel()
	c := newContent(t, "foo")
	labels, annotations := make(map[string]string), make(map[string]string)
	var layers, children []ociregistry.Descriptor
	for i := range 700 {
		labels[fmt.Sprintf("label-%03d", i)], annotations[fmt.Sprintf("annotation-%03d", i)] = "x", "x"
		layers = append(layers, layer(fmt.Sprint(i), 1))
	}
	children = append(children, layers...)
	c.image(toJSON(t, map[string]any{"config": map[string]any{"Labels": labels}}), layers, "image")
	history := strings.TrimSuffix(strings.Repeat(`{"created_by":"x","empty_layer":true},`, 900), ",")
	c.image(`{"history":[`+history+`]}`, nil, "history")
	c.image(`{"history":[{"created_by":"x"}]}`, nil, "misfit")
	c.index(children, "index")
	c.artifact("application/x", nil, annotations, "artifact")
	c.image(`{"a":"`+strings.Repeat("x", 1<<20)+`"}`, nil, "config")
	c.manifest("text/plain", strings.Repeat("x", 5000), "huge")
	h := ociweb.New(c.reg, &ociweb.Options{MaxManifestSize: 1 << 20})
	for tag, want := range map[string][]string{
		"image":    {"Another 200 rows are not shown.", "500 more are not shown."},
		"history":  {"Another 400 rows are not shown."},
		"misfit":   {"The history does not fit the layers, and is not shown."},
		"index":    {"Another 500 manifests are not shown."},
		"artifact": {"500 more are not shown."},
		"config":   {"The configuration has 1.0\u00a0MB, and is not read: pages read up to 1.0\u00a0MB."},
	} {
		has(t, page(t, h, "/r/foo:"+tag), want...)
	}
	h = ociweb.New(c.reg, &ociweb.Options{MaxManifestSize: 4000})
	for _, path := range []string{"/r/foo:huge", "/json/foo:huge"} {
		has(t, page(t, h, path), "The manifest has 5.0\u00a0kB, and is not read: pages read up to 4.0\u00a0kB.")
	}
	has(t, page(t, h, "/r/foo?q=huge"), "The manifest is too large to be shown.")
	has(t, page(t, h, "/compare/foo?ref=huge&ref=artifact"), "One of the manifests is too large to be read.")
}

// One damaged thing is that thing's damage: the rest of a page is shown.
func TestDamage_HidesNothingElse(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk on fire")
	image := `{"config":{"mediaType":"` + ocispec.MediaTypeImageConfig + `","digest":"sha256:` + strings.Repeat("0", 64) + `","size":2},"layers":[]}`
	mem := ocimem.NewWithConfig(&ocimem.Config{Sparse: true})
	c := content{t, mem, "foo"}
	c.manifest(ocispec.MediaTypeImageManifest, image, "v1", "v2")
	for _, test := range []struct {
		name string
		reg  *damaged
		path string
		want []string
	}{
		{"missing config", &damaged{Interface: mem}, "/r/foo:v1", []string{"The configuration is missing in this repository.", "docker pull"}},
		{"missing config", &damaged{Interface: mem}, "/json/foo:v1", []string{"The configuration is missing in this repository.", "layers"}},
		{"broken config", &damaged{Interface: mem, blob: broken}, "/r/foo:v1", []string{"The configuration cannot be read.", "docker pull"}},
		{"config that lies", &damaged{Interface: mem, config: strings.Repeat("x", 2<<20)}, "/r/foo:v1", []string{"The configuration is larger than the manifest says", "docker pull"}},
		{"broken tag", &damaged{Interface: mem, tag: broken}, "/r/foo", []string{"v2", "", "The manifest cannot be read.", "v1"}},
		{"tag that goes", &damaged{Interface: mem, tag: ociregistry.ErrManifestUnknown}, "/r/foo", []string{"v2", "The manifest is gone.", "v1"}},
		{"no referrers", &damaged{Interface: mem, referrers: ociregistry.ErrUnsupported}, "/r/foo:v1", []string{"This registry does not list referrers", "docker pull"}},
		{"broken referrers", &damaged{Interface: mem, referrers: broken}, "/r/foo:v1", []string{"The referrers, such as signatures, cannot be listed.", "docker pull"}},
	} {
		a := page(t, ociweb.New(test.reg, nil), test.path)
		has(t, a, test.want...)
		qt.Check(t, qt.Not(qt.StringContains(a.body, "fire")), qt.Commentf("%s", test.name))
	}
}

// damaged is a registry of which some calls fail.
type damaged struct {
	ociregistry.Interface
	blob, tag, referrers error
	config               string // if not empty, what each blob is
}

func (d *damaged) GetBlob(ctx context.Context, repo string, dig ociregistry.Digest) (ociregistry.BlobReader, error) {
	if d.config != "" {
		return &lying{io.NopCloser(strings.NewReader(d.config)), digest.FromString(d.config)}, nil
	}
	if d.blob != nil {
		return nil, d.blob
	}
	return d.Interface.GetBlob(ctx, repo, dig)
}

func (d *damaged) GetTag(ctx context.Context, repo string, tag string) (ociregistry.BlobReader, error) {
	if d.tag != nil && tag == "v2" {
		return nil, d.tag
	}
	return d.Interface.GetTag(ctx, repo, tag)
}

func (d *damaged) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	if d.referrers != nil {
		return ociregistry.ErrorSeq[ociregistry.Descriptor](d.referrers)
	}
	return d.Interface.Referrers(ctx, repo, digest, artifactType)
}

// lying is a reader whose descriptor does not know the size.
type lying struct {
	io.ReadCloser
	digest ociregistry.Digest
}

func (l *lying) Descriptor() ociregistry.Descriptor {
	return ociregistry.Descriptor{Digest: l.digest, Size: -1}
}
