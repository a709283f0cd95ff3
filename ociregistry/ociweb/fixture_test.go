package ociweb_test

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
)

// answer is an answer of the handler.
type answer struct {
	status int
	header http.Header
	body   string
	links  []string // of elements a
}

// get returns the answer for a path, which it checks as every answer must be.
func get(t testing.TB, h http.Handler, path string) answer {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
	return checked(t, rec.Result())
}

// page is get of a page with status 200.
func page(t testing.TB, h http.Handler, path string) answer {
	t.Helper()
	a := get(t, h, path)
	qt.Assert(t, qt.Equals(a.status, http.StatusOK), qt.Commentf("%s: %s", path, a.body))
	return a
}

// checked checks what holds for every answer: its policy, and that its text follows it.
func checked(t testing.TB, resp *http.Response) answer {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	qt.Assert(t, qt.IsNil(err))
	a := answer{status: resp.StatusCode, header: resp.Header, body: string(body)}
	for name, want := range map[string]string{
		"Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
		"X-Content-Type-Options":  "nosniff",
		"Referrer-Policy":         "no-referrer",
		"X-Frame-Options":         "DENY",
	} {
		qt.Assert(t, qt.Equals(a.header.Get(name), want))
	}
	if strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
		a.parse(t)
	}
	return a
}

// parse parses a page, and checks that it has no script and loads nothing from elsewhere.
func (a *answer) parse(t testing.TB) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(a.body))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	var open []string
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", a.body))
		switch e := token.(type) {
		case xml.StartElement:
			open = append(open, e.Name.Local)
			a.checkElement(t, e)
		case xml.EndElement:
			qt.Assert(t, qt.Equals(open[len(open)-1], e.Name.Local))
			open = open[:len(open)-1]
		}
	}
	qt.Assert(t, qt.HasLen(open, 0))
}

var elements = strings.Fields(`html head meta title link body a header img nav main form label input button svg rect time dl div dt dd
	h1 h2 p ul li ol span b table thead tbody tr th td section code pre ins del`)

func (a *answer) checkElement(t testing.TB, e xml.StartElement) {
	t.Helper()
	qt.Assert(t, qt.SliceContains(elements, e.Name.Local))
	for _, attr := range e.Attr {
		switch name := attr.Name.Local; {
		case name == "style" || strings.HasPrefix(name, "on"):
			t.Fatalf("attribute %s=%q", name, attr.Value)
		case slices.Contains([]string{"href", "src", "action"}, name):
			relative := strings.HasPrefix(attr.Value, "./") || strings.HasPrefix(attr.Value, "../") || attr.Value == "#main"
			qt.Assert(t, qt.IsTrue(relative), qt.Commentf("%s=%q", name, attr.Value))
			if e.Name.Local == "a" && attr.Value != "#main" {
				a.links = append(a.links, attr.Value)
			}
		}
	}
}

// content pushes hand-made content to a registry that takes any.
type content struct {
	t    testing.TB
	reg  ociregistry.Interface
	repo string
}

// newContent returns content of a repository of a registry in memory.
func newContent(t testing.TB, repo string) content {
	return content{t, ocimem.NewWithConfig(&ocimem.Config{Sparse: true}), repo}
}

// blob pushes a blob.
func (c content) blob(mediaType, text string) ociregistry.Descriptor {
	c.t.Helper()
	desc := ociregistry.Descriptor{MediaType: mediaType, Digest: digest.FromString(text), Size: int64(len(text))}
	_, err := c.reg.PushBlob(c.t.Context(), c.repo, desc, strings.NewReader(text))
	qt.Assert(c.t, qt.IsNil(err))
	return desc
}

// layer returns the descriptor of a layer that nobody has.
func layer(name string, size int64) ociregistry.Descriptor {
	return ociregistry.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString(name), Size: size}
}

// manifest pushes a manifest.
func (c content) manifest(mediaType, text string, tags ...string) ociregistry.Descriptor {
	c.t.Helper()
	desc, err := c.reg.PushManifest(c.t.Context(), c.repo, "", []byte(text), mediaType, tags...)
	qt.Assert(c.t, qt.IsNil(err))
	return desc
}

// image pushes an image.
func (c content) image(config string, layers []ociregistry.Descriptor, tags ...string) ociregistry.Descriptor {
	c.t.Helper()
	m := ociregistry.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: c.blob(ocispec.MediaTypeImageConfig, config), Layers: layers}
	m.SchemaVersion = 2
	return c.manifest(m.MediaType, toJSON(c.t, m), tags...)
}

// index pushes an index.
func (c content) index(children []ociregistry.Descriptor, tags ...string) ociregistry.Descriptor {
	c.t.Helper()
	m := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: children}
	m.SchemaVersion = 2
	return c.manifest(m.MediaType, toJSON(c.t, m), tags...)
}

// artifact pushes an artifact.
func (c content) artifact(artifactType string, subject *ociregistry.Descriptor, annotations map[string]string, tags ...string) ociregistry.Descriptor {
	c.t.Helper()
	config := c.blob(ocispec.MediaTypeEmptyJSON, "{}")
	m := ociregistry.Manifest{
		MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType, Subject: subject,
		Config: config, Layers: []ociregistry.Descriptor{config}, Annotations: annotations,
	}
	m.SchemaVersion = 2
	return c.manifest(m.MediaType, toJSON(c.t, m), tags...)
}

func toJSON(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	qt.Assert(t, qt.IsNil(err))
	return string(text)
}

// on returns desc with a platform, for an index.
func on(desc ociregistry.Descriptor, os, arch string) ociregistry.Descriptor {
	desc.Platform = &ocispec.Platform{OS: os, Architecture: arch}
	return desc
}

// spy notes the calls of a registry, and how many names its lists have yielded.
type spy struct {
	ociregistry.Interface
	mu    sync.Mutex
	calls []string
	names int
}

func (s *spy) note(method string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, method)
}

// take returns the calls since the last take, in order of their names, each with its number.
func (s *spy) take() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := make(map[string]int)
	for _, c := range s.calls {
		calls[c]++
	}
	s.calls = nil
	return calls
}

func (s *spy) GetBlob(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	s.note("GetBlob")
	return s.Interface.GetBlob(ctx, repo, digest)
}

func (s *spy) GetManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
	s.note("GetManifest")
	return s.Interface.GetManifest(ctx, repo, digest)
}

func (s *spy) GetTag(ctx context.Context, repo string, tag string) (ociregistry.BlobReader, error) {
	s.note("GetTag")
	return s.Interface.GetTag(ctx, repo, tag)
}

func (s *spy) ResolveManifest(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	s.note("ResolveManifest")
	return s.Interface.ResolveManifest(ctx, repo, digest)
}

func (s *spy) ResolveTag(ctx context.Context, repo string, tag string) (ociregistry.Descriptor, error) {
	s.note("ResolveTag")
	return s.Interface.ResolveTag(ctx, repo, tag)
}

func (s *spy) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	s.note("Repositories")
	return s.count(s.Interface.Repositories(ctx, startAfter))
}

func (s *spy) Tags(ctx context.Context, repo string, startAfter string) iter.Seq2[string, error] {
	s.note("Tags")
	return s.count(s.Interface.Tags(ctx, repo, startAfter))
}

func (s *spy) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	s.note("Referrers")
	return s.Interface.Referrers(ctx, repo, digest, artifactType)
}

// count counts the names of a list that are asked for.
func (s *spy) count(list iter.Seq2[string, error]) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for name, err := range list {
			s.names++
			if !yield(name, err) {
				return
			}
		}
	}
}
