package ocifs_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// foreign is a layout directory that another program writes.
type foreign struct {
	t   testing.TB
	dir string
}

// newForeign makes a layout that has the blobs of the artifacts and nothing in
// its index.
func newForeign(t testing.TB, dir string, artifacts ...*ocitest.Artifact) foreign {
	t.Helper()
	f := foreign{t, dir}
	qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o777)))
	writeFile(t, filepath.Join(dir, "oci-layout"), `{"imageLayoutVersion": "1.0.0"}`)
	for _, a := range artifacts {
		f.add(a)
	}
	f.index()
	return f
}

func (f foreign) blob(content []byte) ociregistry.Descriptor {
	f.t.Helper()
	desc := describe(content)
	writeFile(f.t, filepath.Join(f.dir, "blobs", "sha256", desc.Digest.Encoded()), string(content))
	return desc
}

func (f foreign) add(a *ocitest.Artifact) {
	f.t.Helper()
	for _, b := range a.Blobs {
		text, err := read(nopReader{b.NewReader(), b.Descriptor}, nil)
		qt.Assert(f.t, qt.IsNil(err))
		f.blob([]byte(text))
	}
	for _, child := range a.Children {
		f.add(child)
	}
	f.blob(a.Manifest)
}

// index replaces index.json, as a careful program does.
func (f foreign) index(entries ...string) {
	f.t.Helper()
	f.indexText(`{"schemaVersion":2,"manifests":[` + strings.Join(entries, ",") + `]}`)
}

func (f foreign) indexText(text string) {
	f.t.Helper()
	name := filepath.Join(f.dir, "index.json")
	writeFile(f.t, name+".tmp", text)
	qt.Assert(f.t, qt.IsNil(os.Rename(name+".tmp", name)))
}

// line returns an entry with further fields, such as `"annotations":{}`.
func line(desc ociregistry.Descriptor, fields ...string) string {
	fields = append([]string{
		fmt.Sprintf(`"mediaType":%q`, desc.MediaType),
		fmt.Sprintf(`"digest":%q`, desc.Digest),
		fmt.Sprintf(`"size":%d`, desc.Size),
	}, fields...)
	return "{" + strings.Join(fields, ",") + "}"
}

// named returns an entry with a ref.name.
func named(desc ociregistry.Descriptor, name string) string {
	return line(desc, fmt.Sprintf(`"annotations":{"org.opencontainers.image.ref.name":%q}`, name))
}

// rawEntries returns the entries of an index.json as they are written.
func rawEntries(t testing.TB, dir string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "index.json"))
	qt.Assert(t, qt.IsNil(err))
	var index struct {
		Manifests []json.RawMessage `json:"manifests"`
	}
	qt.Assert(t, qt.IsNil(json.Unmarshal(text, &index)))
	var entries []string
	for _, raw := range index.Manifests {
		entries = append(entries, string(raw))
	}
	return entries
}

type nopReader struct {
	ocitestReader
	desc ociregistry.Descriptor
}

type ocitestReader interface{ Read([]byte) (int, error) }

func (r nopReader) Close() error                       { return nil }
func (r nopReader) Descriptor() ociregistry.Descriptor { return r.desc }

// bare returns an image whose manifest has no mediaType field.
func bare(seed uint64) *ocitest.Artifact {
	a := *image(seed)
	a.Manifest = []byte(strings.Replace(string(a.Manifest), `"mediaType":"`+ocispec.MediaTypeImageManifest+`",`, "", 1))
	d := a.Descriptor
	a.Descriptor = describe(a.Manifest)
	a.Descriptor.MediaType = d.MediaType
	return &a
}
