package manifest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// readAny reads a text of any JSON value with a reader, in the types that
// encoding/json has for them, numbers as json.Number.
func readAny(text string) (any, error) {
	r := reader{text: text}
	v, err := r.any()
	if err != nil {
		return nil, err
	}
	if r.next(); r.pos < len(text) {
		return nil, errSyntax
	}
	return v, nil
}

func (r *reader) any() (any, error) {
	switch c := r.next(); {
	case c == '{':
		m := make(map[string]any)
		return m, r.object(func(key string) (err error) {
			m[key], err = r.any()
			return err
		})
	case c == '[':
		a := []any{}
		err := r.array(func() error {
			v, err := r.any()
			a = append(a, v)
			return err
		})
		return a, err
	case c == '"':
		return r.string()
	case c == '-' || '0' <= c && c <= '9':
		s, err := r.number()
		return json.Number(s), err
	}
	start := r.pos
	if err := r.skip(); err != nil {
		return nil, err
	}
	return map[string]any{"true": true, "false": false, "null": nil}[r.text[start:r.pos]], nil
}

var jsonTexts = []string{
	``, ` `, `{}`, ` { } `, `[]`, `[ ]`, `null`, `true`, `false`, `nul`, `tru`, `truefalse`, `{`, `}`, `[`, `]`, `{]`, `[}`,
	`{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `[1,]`, `[,1]`, `[1 2]`, `{"a":1 "b":2}`, `{"a":1,"b":[1,2,{"c":null}]}`, `{"a":1}x`, `{a:1}`, `{1:2}`,
	`0`, `-0`, `00`, `01`, `-`, `+1`, `1.`, `.1`, `1.0`, `-1.5e10`, `1e`, `1e+`, `1E-5`, `1e5.5`, `0x1`, `1_0`, `123456789012345678901234567890`,
	`""`, `"`, `"a`, `"\"`, `"\""`, `"\\"`, `"\/\b\f\n\r\t"`, `"\x"`, `"\u"`, `"\u00"`, `"\u00e9"`, `"\u00E9é"`, `"\u00eg"`, `"\U00e9"`, `"\'"`,
	`"\ud83d\ude00"`, `"\ud83d"`, `"\ude00"`, `"\ud83dx"`, `"\ud83d\n"`, `"\ud83d\u0041"`, `"\ud83d\ud83d\ude00"`, "\"\n\"", "\"\x1f\"", "\"\x7f\"", "\"\x00\"", "{\"a\x00\":1}",
	"{\"a\":\x00}", "\x00", "{\x00}", "\ufeff{}", "\v{}", `{"a":1,"a":2}`, `{"\u0061":1}`, "[1,\u00a02]",
}

func TestReaderAgreesWithEncodingJSON(t *testing.T) {
	t.Parallel()
	for _, text := range jsonTexts {
		agree(t, text)
	}
	for _, depth := range []int{maxDepth - 1, maxDepth, maxDepth + 1} {
		agree(t, strings.Repeat("[", depth)+strings.Repeat("]", depth))
		agree(t, strings.Repeat(`{"a":`, depth)+"1"+strings.Repeat("}", depth))
	}
}

func agree(t *testing.T, text string) {
	t.Helper()
	var want any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	valid := json.Valid([]byte(text))
	got, err := readAny(text)
	qt.Check(t, qt.Equals(err == nil, valid), qt.Commentf("%.200q: %v", text, err))
	r := reader{text: text}
	err = r.skip()
	skipped := err == nil && r.next() == 0 && r.pos == len(text)
	qt.Check(t, qt.Equals(skipped, valid), qt.Commentf("skip %.200q: %v", text, err))
	if valid && len(text) < 1000 {
		qt.Assert(t, qt.IsNil(d.Decode(&want)))
		qt.Check(t, qt.DeepEquals(toValid(got), want), qt.Commentf("%q", text))
	}
}

// toValid does what encoding/json does to strings that are not UTF-8.
func toValid(v any) any {
	switch v := v.(type) {
	case string:
		return strings.ToValidUTF8(strings.Map(func(r rune) rune { return r }, v), "\ufffd")
	case []any:
		for i := range v {
			v[i] = toValid(v[i])
		}
	case map[string]any:
		m := make(map[string]any)
		for key, elem := range v {
			m[toValid(key).(string)] = toValid(elem)
		}
		return m
	}
	return v
}

func FuzzReader(f *testing.F) {
	for _, text := range jsonTexts {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ToValidUTF8(text, "") != text {
			// To encoding/json, keys that differ only in invalid UTF-8 are equal.
			_, err := readAny(text)
			if json.Valid([]byte(text)) != (err == nil) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		agree(t, text)
	})
}

// FuzzDescriptor compares the two ways to read a descriptor.
func FuzzDescriptor(f *testing.F) {
	for _, text := range []string{
		`{"mediaType":"a/b","digest":"sha256:00","size":12}`,
		`{"mediaType":"","digest":"","size":0} `,
		`{"mediaType":"a","digest":"b","size":-1}`,
		`{"mediaType":"a","digest":"b","size":01}`,
		`{"mediaType":"a","digest":"b","size":}`,
		`{"mediaType":"a","digest":"b","size":1.0}`,
		`{"mediaType":"a","digest":"b","size":1`,
		`{"mediaType":"a","digest":"b","size":999999999999999999}`,
		`{"mediaType":"a","digest":"b","size":9999999999999999999}`,
		`{"mediaType":"\u0061","digest":"b","size":1}`,
		`{"mediaType":"a","digest":"b","size":1,"urls":["c"]}`,
		`{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar","digest":"b","size":1}`,
		`{"mediaType":"a","digest":"b"}`, `{"mediaType":"a`, `{"mediaType":"a","digest":"b`, `{}`, ``,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var compact, general Ref
		r := reader{text: text}
		if !r.compactDescriptor(&compact) {
			qt.Assert(t, qt.Equals(r.pos, 0))
			qt.Assert(t, qt.Equals(compact, Ref{}))
			return
		}
		// With a space, it is no longer compact.
		g := reader{text: "{ " + strings.TrimPrefix(text, "{")}
		qt.Assert(t, qt.IsNil(g.descriptor("", &general)))
		qt.Assert(t, qt.Equals(compact, general))
		qt.Assert(t, qt.Equals(r.pos+1, g.pos))
	})
}

func layersManifest(n int) string {
	var b strings.Builder
	b.WriteString(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{<A>},"layers":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"mediaType":"%s","digest":"sha256:%064x","size":%d}`, ocispec.MediaTypeImageLayerGzip, i, 1000*i)
	}
	b.WriteString(`],"annotations":{"org.opencontainers.image.created":"2024-01-01T00:00:00Z"}}`)
	return text(b.String())
}

func BenchmarkParse(b *testing.B) {
	for _, layers := range []int{8, 10_000} {
		contents := layersManifest(layers)
		b.Run(fmt.Sprintf("layers=%d", layers), func(b *testing.B) {
			b.SetBytes(int64(len(contents)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(ocispec.MediaTypeImageManifest, contents); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEncodingJSON is what Parse is measured against.
func BenchmarkEncodingJSON(b *testing.B) {
	contents := []byte(layersManifest(8))
	b.SetBytes(int64(len(contents)))
	b.ReportAllocs()
	for b.Loop() {
		var m ocispec.Manifest
		if err := json.Unmarshal(contents, &m); err != nil {
			b.Fatal(err)
		}
	}
}
