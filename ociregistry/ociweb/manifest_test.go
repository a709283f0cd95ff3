package ociweb_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociweb"
)

const fullConfig = `{
	"os": "linux", "architecture": "arm", "variant": "v7", "created": "2024-05-06T07:08:09Z", "author": "Ali",
	"config": {
		"Entrypoint": ["/bin/server", "a b"], "Cmd": [""], "Env": ["LANG=C"], "User": "app", "WorkingDir": "/srv",
		"ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}}, "StopSignal": "SIGINT", "Labels": {"maintainer": "Ali"}
	},
	"history": [
		{"created_by": "/bin/sh -c #(nop) ADD file:1 in / "},
		{"created_by": "/bin/sh -c #(nop)  CMD [\"sh\"]", "empty_layer": true},
		{"created_by": "RUN /bin/sh -c apk add curl # buildkit"},
		{"comment": "imported"}
	]
}`

// has checks that a page has all of texts, in this order.
func has(t *testing.T, a answer, texts ...string) {
	t.Helper()
	rest := a.body
	for _, text := range texts {
		_, after, ok := strings.Cut(rest, text)
		qt.Assert(t, qt.IsTrue(ok), qt.Commentf("%q is not in %s", text, rest))
		rest = after
	}
}

func TestImage_ShowsWhatItIsAndHowItWasMade(t *testing.T) {
	t.Parallel()
	c := newContent(t, "team/app")
	desc := c.image(fullConfig, []ociregistry.Descriptor{layer("1", 3_000_000), layer("2", 1_000_000), layer("1", 3_000_000)}, "v1")
	h := ociweb.New(c.reg, nil)
	for _, ref := range []string{":v1", "@" + string(desc.Digest)} {
		a := page(t, h, "/r/team/app"+ref)
		has(t, a, ">Image<", "linux/arm/v7", "4.0\u00a0MB", `datetime="2024-05-06T07:08:09Z"`,
			"docker pull example.com/team/app"+ref, "podman pull --tls-verify=false example.com/team/app"+ref,
			"skopeo copy --src-tls-verify=false docker://example.com/team/app"+ref+" oci:app",
			"<rect", `x="428"`, // of the second layer, after three sevenths
			"ADD file:1 in /", "tar&#43;gzip", "3.0\u00a0MB", "CMD [&#34;sh&#34;]", "RUN apk add curl", "1.0\u00a0MB", "imported",
			"Signatures and other referrers", "None.",
			"/bin/server &#34;a b&#34;", "/srv", "app", "80/tcp", "/data", "SIGINT", "LANG=C",
			"maintainer", "Ali", string(desc.Digest), "application/vnd.oci.image.manifest.v1&#43;json", "Ali")
		qt.Check(t, qt.SliceContains(a.links, "../../r/team/app@"+string(desc.Digest)))
		qt.Check(t, qt.SliceContains(a.links, "../../json/team/app"+ref))
	}
}

func TestImage_HasCommandsForTheHostThatTheBrowserUses(t *testing.T) {
	t.Parallel()
	c := newContent(t, "foo")
	c.image(fullConfig, nil, "v1")
	c.artifact("application/x", nil, nil, "artifact")
	c.manifest("text/plain", "x", "foreign")
	for _, test := range []struct {
		opts              ociweb.Options
		host, proto, path string
		want              string // empty means that there are no commands
	}{
		{ociweb.Options{}, "r.example:5000", "", "/r/foo:v1", "podman pull --tls-verify=false r.example:5000/foo:v1"},
		{ociweb.Options{}, "r.example", "https", "/r/foo:v1", "podman pull r.example/foo:v1"},
		{ociweb.Options{Host: "pull.example"}, "r.example", "https", "/r/foo:v1", "docker pull pull.example/foo:v1"},
		{ociweb.Options{}, "[::1]:5000", "", "/r/foo:v1", "docker pull [::1]:5000/foo:v1"},
		{ociweb.Options{}, `"><script>`, "", "/r/foo:v1", ""},
		{ociweb.Options{}, "a; rm -rf ~", "", "/r/foo:v1", ""},
		{ociweb.Options{}, "r.example", "", "/r/foo:artifact", "oras pull --plain-http r.example/foo:artifact"},
		{ociweb.Options{}, "r.example", "", "/r/foo:foreign", "crane manifest --insecure r.example/foo:foreign"},
	} {
		req := httptest.NewRequest("GET", test.path, nil)
		req.Host = test.host
		req.Header.Set("X-Forwarded-Proto", test.proto)
		rec := httptest.NewRecorder()
		ociweb.New(c.reg, &test.opts).ServeHTTP(rec, req)
		a := checked(t, rec.Result())
		if test.want == "" {
			qt.Check(t, qt.Not(qt.StringContains(a.body, `id="pull"`)))
			continue
		}
		has(t, a, "<code>"+test.want)
	}
}

func TestIndex_ShowsItsPlatforms(t *testing.T) {
	t.Parallel()
	c := newContent(t, "foo")
	amd64 := c.image(fullConfig, []ociregistry.Descriptor{layer("a", 2_000_000)})
	arm64 := c.image(fullConfig, []ociregistry.Descriptor{layer("b", 3_000_000)})
	attestation := on(c.artifact("", nil, nil), "unknown", "unknown")
	attestation.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	missing := layer("missing", 5)
	missing.MediaType = ocispec.MediaTypeImageManifest
	inner := c.index([]ociregistry.Descriptor{on(amd64, "linux", "amd64")})
	chart := c.artifact("application/vnd.cncf.helm.config.v1+json", nil, nil)
	chart.ArtifactType = "application/vnd.cncf.helm.config.v1+json"
	c.index([]ociregistry.Descriptor{
		on(amd64, "linux", "amd64"), on(arm64, "linux", "arm64"), attestation, on(missing, "linux", "s390x"), inner, chart,
	}, "v1")
	a := page(t, ociweb.New(c.reg, nil), "/r/foo:v1")
	has(t, a, ">Index<", "docker pull", "linux/amd64", "2.0\u00a0MB", "linux/arm64", "3.0\u00a0MB", "Attestation", "linux/s390x", "missing", ">Index<", "Helm chart")
	a = page(t, ociweb.New(c.reg, &ociweb.Options{Remote: true}), "/r/foo:v1")
	has(t, a, "linux/amd64", "linux/arm64", "linux/s390x")
	qt.Check(t, qt.Not(qt.StringContains(a.body, "MB")))
	a = page(t, ociweb.New(c.reg, nil), "/r/foo@"+string(inner.Digest))
	qt.Check(t, qt.SliceContains(a.links, "../r/foo@"+string(amd64.Digest)))
}

func TestReferrers_AreShownWithWhatTheyAre(t *testing.T) {
	t.Parallel()
	c := newContent(t, "foo")
	image := c.image(fullConfig, nil, "v1")
	want := map[string]string{
		"application/vnd.cncf.notary.signature":         "Signature",
		"application/vnd.dev.sigstore.bundle.v0.3+json": "Sigstore bundle",
		"application/spdx+json":                         "SBOM",
		"application/x.unheard.of":                      "application/x.unheard.of",
	}
	for artifactType := range want {
		c.artifact(artifactType, &image, map[string]string{ocispec.AnnotationCreated: "2024-05-06T07:08:09Z"})
	}
	cosign := "sha256-" + image.Digest.Encoded()
	c.artifact("", nil, nil, cosign+".sig")
	c.artifact("", nil, nil, cosign+".att")
	a := page(t, ociweb.New(c.reg, nil), "/r/foo:v1")
	for artifactType, name := range want {
		has(t, a, `<th scope="row">`+name)
		has(t, a, strings.ReplaceAll(artifactType, "+", "&#43;"))
	}
	has(t, a, "Signature <span class=\"what\">by its tag", "Attestation <span class=\"what\">by its tag")
	qt.Check(t, qt.SliceContains(a.links, "../r/foo:"+cosign+".sig"))
	signature := ""
	for _, link := range a.links {
		if strings.HasPrefix(link, "../r/foo@") && !strings.HasSuffix(link, string(image.Digest)) {
			signature = link[2:]
		}
	}
	has(t, page(t, ociweb.New(c.reg, nil), signature), "Subject", string(image.Digest))
	for i := range 120 {
		c.artifact("application/x", &image, map[string]string{"n": fmt.Sprint(i)})
	}
	has(t, page(t, ociweb.New(c.reg, nil), "/r/foo:v1"), "There are more, which are not shown.")
}

func TestJSON_IsIndentedAndBounded(t *testing.T) {
	t.Parallel()
	c := newContent(t, "foo")
	c.image(`{"os":"linux","config":{"Labels":{"html":"</code><script>","bidi":"a\u202eb`+"\u202e"+`"}}}`, nil, "image")
	c.manifest("application/x", `{"a":[`+strings.Repeat(`"0123456789",`, 100_000)+`1]}`, "long")
	c.manifest("application/x", strings.Repeat("[", 1<<20), "deep")
	c.manifest("application/x", "\x00\xff not JSON", "bytes")
	h := ociweb.New(c.reg, nil)
	a := page(t, h, "/json/foo:image")
	has(t, a, "Manifest", "{\n  &#34;schemaVersion&#34;: 2,\n", "Configuration", "&lt;/code&gt;&lt;script&gt;", `a\u202eb`+"\ufffd")
	for _, tag := range []string{"long", "deep"} {
		a = page(t, h, "/json/foo:"+tag)
		has(t, a, "There is more, which is not shown.")
		qt.Check(t, qt.IsTrue(len(a.body) < 3<<20), qt.Commentf("%s: %d", tag, len(a.body)))
	}
	has(t, page(t, h, "/json/foo:bytes"), "\ufffd\ufffdnotJSON")
}

// A client that pulls the second, and has the first, pulls the layers that only the second has.
func TestCompare_SaysWhatMustBePulled(t *testing.T) {
	t.Parallel()
	c := newContent(t, "foo")
	config := `{"os":"linux"}`
	v1 := c.image(config, []ociregistry.Descriptor{layer("base", 8_000_000), layer("old", 1_000_000)}, "v1")
	v2 := c.image(config, []ociregistry.Descriptor{layer("base", 8_000_000), layer("new", 2_000_000), layer("new", 2_000_000)}, "v2")
	arm1 := c.image(config, []ociregistry.Descriptor{layer("arm1", 3_000_000)})
	arm2 := c.image(config, []ociregistry.Descriptor{layer("arm2", 4_000_000)})
	c.index([]ociregistry.Descriptor{on(arm1, "linux", "arm64"), on(v1, "linux", "amd64"), on(arm1, "linux", "s390x")}, "all1")
	c.index([]ociregistry.Descriptor{on(arm2, "linux", "arm64"), on(v2, "linux", "amd64")}, "all2")
	c.index([]ociregistry.Descriptor{on(v2, "plan9", "386")}, "other")
	c.artifact("application/x", nil, nil, "artifact")
	c.manifest("text/plain", "x", "foreign")
	h := ociweb.New(c.reg, nil)
	for _, test := range []struct {
		query string
		want  []string
	}{
		{"ref=v1&ref=v2", []string{"pulls <b>2.0\u00a0MB</b>", "has 8.0\u00a0MB of it", "both", "<ins>only v2</ins>", "<ins>only v2</ins>", "<del>only v1</del>"}},
		{"ref=v2&ref=v1", []string{"pulls <b>1.0\u00a0MB</b>", "<del>only v2</del>"}},
		{"ref=" + string(v1.Digest) + "&ref=v2", []string{"pulls <b>2.0\u00a0MB</b>"}},
		{"order=newest&ref=v2&ref=v1", []string{"pulls <b>2.0\u00a0MB</b>", "<del>only v1</del>"}},
		{"ref=v1&ref=v1", []string{"Both are the same manifest"}},
		{"ref=v1&ref=" + string(v1.Digest), []string{"Both are the same manifest"}},
		{"ref=all1&ref=all2", []string{`aria-current="true">linux/amd64`, "pulls <b>2.0\u00a0MB</b>"}},
		{"ref=all1&ref=all2&platform=linux/arm64", []string{`aria-current="true">linux/arm64`, "pulls <b>4.0\u00a0MB</b>"}},
		{"ref=all1&ref=v2", []string{`aria-current="true">linux/amd64`, "pulls <b>2.0\u00a0MB</b>"}},
		{"ref=all1&ref=other", []string{"They have no image for the same platform."}},
		{"ref=all1&ref=all2&platform=linux/s390x", []string{"They have no image for the same platform."}},
		{"ref=v1&ref=artifact", []string{"pulls <b>2\u00a0B</b>"}},
		{"ref=v1&ref=foreign", []string{"pulls <b>0\u00a0B</b>"}},
		{"ref=v1", []string{`value="v1"`, `value=""`, "Name the two tags or digests to compare."}},
		{"ref=v1&ref=v2&ref=all1", []string{"these are the first two", "pulls <b>2.0\u00a0MB</b>"}},
		{"", []string{"Name the two tags or digests to compare."}},
	} {
		has(t, page(t, h, "/compare/foo?"+test.query), test.want...)
	}
	a := page(t, h, "/compare/foo?ref=all1&ref=all2")
	qt.Check(t, qt.Not(qt.StringContains(a.body, "s390x")))
	qt.Check(t, qt.Equals(get(t, h, "/compare/foo?ref=v1&ref=gone").status, http.StatusNotFound))
}
