package repostate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestParseOwnEntry checks that entries that are read in the quick way are read
// as any are, and that those which only look like it are not.
func TestParseOwnEntry(t *testing.T) {
	t.Parallel()
	const d = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	own := func(mediaType, digest, size, tag string) string {
		return `{"mediaType":"` + mediaType + `","digest":"` + digest + `","size":` + size +
			`,"annotations":{"org.opencontainers.image.ref.name":"` + tag + `"}}`
	}
	tests := []struct {
		raw string
		ok  bool
	}{
		{own("application/vnd.oci.image.manifest.v1+json", d, "12", "v1"), true},
		{own("x", d, "0", "V_1.2-3"), true},
		{own(`a\u003cb`, d, "12", "v1"), false}, // it would be escaped once more
		{own(`a\\b`, d, "12", "v1"), false},
		{own(`a\`, d, "12", "v1"), false}, // not JSON
		{own("<", d, "12", "v1"), false},
		{own("x", d, "012", "v1"), false},
		{own("x", d, "+1", "v1"), false},
		{own("x", d, "1e3", "v1"), false},
		{own("x", d, "-1", "v1"), true}, // refused, but not here
		{own("x", d, "12", "repo:v1"), false},
		{own("x", d, "12", `v1","a":"b`), false},
		{own("x", "sha256:abc", "12", "v1"), false},
		{own("x", d, "12", ""), false},
		{strings.Replace(own("x", d, "12", "v1"), ":", ": ", 1), false},
		{`{"mediaType":"x","digest":"` + d + `","size":12}`, false},
	}
	for _, test := range tests {
		e, ok := parseOwnEntry(test.raw)
		qt.Check(t, qt.Equals(ok, test.ok), qt.Commentf("%s", test.raw))
		if !ok {
			continue
		}
		var want entry
		qt.Assert(t, qt.IsNil(json.Unmarshal([]byte(test.raw), &want)))
		qt.Check(t, qt.Equals(e.MediaType, want.MediaType))
		qt.Check(t, qt.Equals(e.Digest, want.Digest))
		qt.Check(t, qt.Equals(e.Size, want.Size))
		qt.Check(t, qt.Equals(e.tag, want.Annotations[ocispec.AnnotationRefName]))
		qt.Check(t, qt.IsTrue(e.exact && e.own))
	}
}

// FuzzParseIndex reads any text as an index.json: what is written from it is read and
// written as it is.
func FuzzParseIndex(f *testing.F) {
	const d = `"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":1`
	f.Add(`{"schemaVersion":2,"mediaType":"a/b","manifests":[{"mediaType":"x","digest":"md5:d"},{"mediaType":"x",` + d + `,"annotations":{"org.opencontainers.image.ref.name":"host:1/repo:v1"}},{"mediaType":"x",` + d + `}]}`)
	f.Add(`{"manifests":[{` + d + `,"annotations":{"org.ocifs.blob":"true","org.opencontainers.image.ref.name":"v1"}},null],"annotations":{"a":"b"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		s, again := New(), New()
		if !utf8.ValidString(text) || s.ParseIndex(text) != nil {
			return
		}
		once := fold(t, text, s)
		qt.Assert(t, qt.IsNil(again.ParseIndex(once)))
		twice := fold(t, once, again)
		qt.Check(t, qt.Equals(twice, once))
	})
}

// BenchmarkParseIndex reads an index.json of 100,000 tags, as every process does
// that comes to such a repository.
func BenchmarkParseIndex(b *testing.B) {
	var text bytes.Buffer
	text.WriteString(`{"schemaVersion":2,"manifests":[`)
	for i := range 100_000 {
		if i > 0 {
			text.WriteString(",\n")
		}
		m := &Manifest{Digest: digest.FromString(fmt.Sprint(i / 10)), MediaType: "application/vnd.oci.image.manifest.v1+json", Size: 1234}
		text.Write(appendEntry(nil, m, fmt.Sprintf("tag-%06d", i)))
	}
	text.WriteString("]}")
	own := text.String()
	for _, index := range []struct{ name, text string }{
		{"own", own},
		{"foreign", strings.ReplaceAll(own, `":`, `": `)},
	} {
		b.Run(index.name, func(b *testing.B) {
			b.SetBytes(int64(len(index.text)))
			b.ReportAllocs()
			for b.Loop() {
				s := New()
				qt.Assert(b, qt.IsNil(s.ParseIndex(index.text)))
				qt.Assert(b, qt.Equals(len(s.tags), 100_000))
			}
		})
	}
}
