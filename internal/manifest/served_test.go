package manifest

import (
	"testing"

	"github.com/go-quicktest/qt"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
)

func TestMediaTypesArePagesVagueOrSpecific(t *testing.T) {
	t.Parallel()
	const page, vague, specific = "page", "vague", "specific"
	for mediaType, want := range map[string]string{
		"text/html":                             page,
		"Text/HTML":                             page,
		" text/html":                            page,
		"text/html; charset=utf-8":              page,
		"text/html;charset=utf-8;charset=utf-8": page, // package mime does not parse it
		"text/html ; x":                         page,
		"text/html,application/json":            page, // two headers joined to one
		"application/xhtml+xml":                 page,

		"":                                vague,
		"application/json":                vague,
		"application/JSON; charset=utf-8": vague,
		"application/octet-stream":        vague,
		"text/plain; charset=utf-8":       vague,
		"application/xml":                 vague,
		"text/xml":                        vague,
		"application/problem+json":        vague,
		"json":                            vague, // not a media type
		"application/json,text/html":      vague,
		"text/ht\nml":                     vague,

		"text/x-custom":                                             specific,
		"text/htmlx":                                                specific,
		"application/vnd.example+json":                              specific,
		"application/vnd.example; a=b":                              specific,
		ocispec.MediaTypeImageManifest:                              specific,
		MediaTypeDockerManifestList:                                 specific,
		ocispec.MediaTypeImageIndex + "; charset=utf-8":             specific,
		"application/vnd.docker.distribution.manifest.v1+prettyjws": specific,
	} {
		qt.Check(t, qt.Equals(IsPage(mediaType), want == page), qt.Commentf("%q", mediaType))
		qt.Check(t, qt.Equals(IsVague(mediaType), want != specific), qt.Commentf("%q", mediaType))
	}
}

// Contents for a tag are a manifest if they came with a digest, and are not obviously
// something else; without a digest, if they have the fields of one.
func TestServedForTagIsAManifestOrAnError(t *testing.T) {
	t.Parallel()
	const (
		page  = "<!DOCTYPE html><title>Log in</title>"
		index = `{"schemaVersion":2,"manifests":[]}`
		own   = `{"mediaType":"application/vnd.example+json"}`
	)
	for _, test := range []struct {
		mediaType, contents string
		named, unnamed      bool
	}{
		// By their fields.
		{"application/json", index, true, true},
		{"", index, true, true},
		{"application/json", `{"schemaVersion":1,"fsLayers":[]}`, true, true},
		{"application/json", `{"schemaVersion":"2","mediaType":"a/b"}`, true, true},
		{"application/json", own, true, true},
		{"application/json", `{"manifests":[]}`, true, true},
		{"application/json", `{"layers":[]}`, true, true},
		{"application/json", `{"mediaType":"","blobs":[]}`, true, true},
		{"application/json", `{"config":{"size":2,"digest":"sha256:x"}}`, true, true},
		{"application/json", `{"errors":[],"manifests":[]}`, true, true},
		{ocispec.MediaTypeImageManifest, index, true, true}, // Parse finds the error
		{"text/html", index, true, false},
		{"text/html;charset=a;charset=b", index, true, false},

		// The values and the case of fields count, too.
		{"application/json", `{"schemaVersion":0}`, false, false},
		{"application/json", `{"schemaVersion":null,"mediaType":null,"manifests":null}`, false, false},
		{"application/json", `{"mediaType":""}`, false, false},
		{"application/json", `{"mediaType":2,"layers":{},"config":"x"}`, false, false},
		{"application/json", `{"SchemaVersion":2}`, false, false},
		{"application/json", `{"config":{"theme":"dark"}}`, false, false},

		// Contents of any type.
		{"text/plain", "hello", true, false},
		{"text/x-custom", "hello", true, false},
		{"application/octet-stream", "\x00\xff", true, false},
		{"application/json", "{", true, false},
		{"application/json", "[]", true, false},
		{"application/vnd.example+json", `{"ok":true}`, true, false},
		{"application/vnd.example+xml", "<sbom/>", true, false},

		// Pages.
		{"text/html", page, false, false},
		{"text/html;charset=a;charset=b", page, false, false},
		{"text/html", "hello", false, false},
		{"text/plain", page, false, false},
		{"", page, false, false},
		{"application/vnd.example", " <HTML>", false, false},
		{ocispec.MediaTypeImageManifest, page, false, false},
		{"text/plain", "<Error><Code>AccessDenied</Code></Error>", false, false},
		{"application/xml", `<?xml version="1.0"?><Error/>`, false, false},

		// Errors.
		{"application/json", `{"errors":[{"code":"UNKNOWN"}]}`, false, false},
		{ocispec.MediaTypeImageManifest, `{"errors":[{"code":"UNKNOWN"}]}`, false, false},
		{"application/vnd.example+json", `{"error":"no"}`, false, false},
		{"application/json", `{"message":"no"}`, false, false},
		{"application/json", `{}`, false, false},
		{"application/problem+json", `{"detail":"no"}`, false, false},
		{"application/problem+json", `no`, false, false},

		// Contents that cannot be a manifest.
		{"application/json", "", false, false},
		{"text/plain", "", false, false},
		{ocispec.MediaTypeImageIndex, "", false, false},
		{ocispec.MediaTypeImageIndex, "hello", false, false},
		{ocispec.MediaTypeImageIndex, "[]", false, false},
		{ocispec.MediaTypeImageIndex + "; charset=utf-8", "hello", false, false},
		{"Application/vnd.oci.image.index.v1+JSON", "hello", false, false},
		{ocispec.MediaTypeImageIndex, index + "x", false, false},
	} {
		about := qt.Commentf("%q: %s", test.mediaType, test.contents)
		for _, check := range []struct {
			err  error
			want bool
		}{
			{CheckNamed(test.mediaType, []byte(test.contents)), test.named},
			{CheckUnnamed(test.mediaType, []byte(test.contents)), test.unnamed},
		} {
			if check.want {
				qt.Check(t, qt.IsNil(check.err), about)
			} else {
				qt.Check(t, qt.ErrorIs(check.err, error(ociregistry.ErrManifestInvalid)), about)
			}
		}
	}
}

func TestVagueTypeYieldsToTheContents(t *testing.T) {
	t.Parallel()
	const bare, custom = `{"schemaVersion":2,"manifests":[]}`, "application/vnd.example+json"
	for _, test := range []struct{ mediaType, contents, want string }{
		{"application/json", `{"mediaType":"` + MediaTypeDockerManifestList + `"}`, MediaTypeDockerManifestList},
		{"", `{"mediaType":"` + custom + `"}`, custom},
		{"text/html", `{"mediaType":"` + custom + `"}`, custom},
		{"json", bare, ocispec.MediaTypeImageIndex},
		{"application/problem+json", bare, ocispec.MediaTypeImageIndex},
		{"text/plain; charset=utf-8", bare, ocispec.MediaTypeImageIndex},

		// A vague type does not yield to another one, or to none.
		{"application/json", `{"mediaType":"text/html"}`, "application/json"},
		{"application/json", `{"mediaType":"x"}`, "application/json"},
		{"application/json", `{"mediaType":3}`, "application/json"},
		{"text/plain", "hello", "text/plain"},

		// A specific type does not yield.
		{custom, bare, custom},
		{"text/x-custom", `{"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[]}`, "text/x-custom"},
		{ocispec.MediaTypeImageIndex, `{"mediaType":"` + custom + `"}`, ocispec.MediaTypeImageIndex},
		{ocispec.MediaTypeImageIndex + "; charset=utf-8", "x", ocispec.MediaTypeImageIndex},
		{"Application/vnd.oci.image.index.v1+JSON", "x", ocispec.MediaTypeImageIndex},
	} {
		qt.Check(t, qt.Equals(ServedType(test.mediaType, []byte(test.contents)), test.want), qt.Commentf("%q: %s", test.mediaType, test.contents))
	}
}

// Clients and servers call these for every response.
func TestKindOfMediaTypeDoesNotAllocate(t *testing.T) {
	n := testing.AllocsPerRun(100, func() {
		for _, mediaType := range []string{ocispec.MediaTypeImageManifest, "text/html; charset=utf-8", "application/octet-stream", "text/x-custom"} {
			IsPage(mediaType)
			IsVague(mediaType)
			ServedType(mediaType, []byte("hello"))
		}
	})
	qt.Check(t, qt.Equals(n, 0))
}
